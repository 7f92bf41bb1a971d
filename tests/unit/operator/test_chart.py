"""The chart: what it renders, what it refuses, and what it must never ask for."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import binaries, layout

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "dspy-operator"


def find_helm() -> str | None:
    """Return a Helm that is there already; building one takes minutes and is for cluster tests."""
    built = binaries.folder(layout.find_cache(), ROOT / "devcluster" / "binaries") / "helm"
    return str(built) if built.exists() else shutil.which("helm")


HELM = find_helm()
needs_helm = pytest.mark.skipif(
    HELM is None, reason="no Helm is built yet: make cluster builds one"
)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


@cache
def render(*settings: str) -> dict[str, Any]:
    """Return the rendered objects by kind and name."""
    flags = [part for setting in settings for part in ("--set", setting)]
    done = helm("template", "dspy-operator", str(CHART), "--namespace=dspy-system", *flags)
    assert done.returncode == 0, done.stderr
    found = [d for d in yaml.safe_load_all(done.stdout) if d]
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in found}


def pod(*settings: str) -> dict[str, Any]:
    found: dict[str, Any] = render(*settings)["Deployment/dspy-operator"]["spec"]["template"][
        "spec"
    ]
    return found


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = render()["ClusterRole/dspy-operator"]["rules"]
    return found


def test_the_charts_crds_are_those_of_the_repository() -> None:
    ours = {f.name: f.read_bytes() for f in (ROOT / "crds").glob("*.yaml")}

    assert {f.name: f.read_bytes() for f in (CHART / "files" / "crds").glob("*.yaml")} == ours


@needs_helm
def test_the_chart_is_sound() -> None:
    done = helm("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout


@needs_helm
def test_a_rendered_crd_is_the_repositorys_with_labels() -> None:
    rendered = render()["CustomResourceDefinition/dspyapps.dspy-operator.io"]
    ours = yaml.safe_load((ROOT / "crds" / "dspyapps.yaml").read_text())

    assert rendered["spec"] == ours["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@needs_helm
def test_crds_can_be_left_out_and_need_not_be_kept() -> None:
    name = "CustomResourceDefinition/dspyapps.dspy-operator.io"

    assert name not in render("crds.install=false")
    assert "helm.sh/resource-policy" not in str(render("crds.keep=false")[name]["metadata"])


@needs_helm
def test_rights_are_named_one_by_one() -> None:
    granted = {(r, v) for rule in rules() for r in rule["resources"] for v in rule["verbs"]}

    assert not [pair for pair in granted if "*" in pair]
    assert not {r for r, _ in granted} & {"secrets", "pods/exec", "nodes", "roles"}
    assert {v for r, v in granted if r == "pods"} == {"get", "list", "watch"}
    assert {v for r, v in granted if r == "dspyapps"} == {"get", "list", "watch"}
    assert not {v for _, v in granted} & {"update", "deletecollection", "escalate", "bind"}


@needs_helm
def test_named_namespaces_get_roles_and_the_cluster_none() -> None:
    found = render("namespaces={blue,green}")
    roles = [d for d in found.values() if d["kind"] == "Role"]

    assert not [name for name in found if name.startswith("ClusterRole")]
    assert {r["metadata"]["namespace"] for r in roles} <= {"blue", "green"}
    arguments = pod("namespaces={blue,green}")["containers"][0]["args"]
    assert "--namespaces=blue,green" in arguments


@needs_helm
def test_the_operator_runs_restricted_with_a_short_lived_token() -> None:
    spec, container = pod(), pod()["containers"][0]

    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    token = spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["expirationSeconds"] == 3600
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


@needs_helm
def test_one_operator_replaces_the_other() -> None:
    spec = render()["Deployment/dspy-operator"]["spec"]

    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


@needs_helm
def test_images_take_tag_and_digest() -> None:
    digest = f"sha256:{'a' * 64}"
    image = pod("image.tag=1.2.3", f"image.digest={digest}")["containers"][0]["image"]

    assert image == f"ghcr.io/dspy-operator/dspy-operator:1.2.3@{digest}"
    assert "--worker-image=w:1" in pod("worker.image=w:1")["containers"][0]["args"]


@needs_helm
def test_a_large_number_from_a_file_stays_an_integer(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("burst: 2000000")

    assert "--burst=2000000\n" in helm("template", "x", str(CHART), f"--values={values}").stdout


@needs_helm
def test_common_labels_reach_every_object() -> None:
    for name, each in render("commonLabels.team=blue", "namespaces={a}").items():
        assert each["metadata"]["labels"]["team"] == "blue", name


@needs_helm
@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("replicas=2", "maximum"),
        ("image.digest=abc", "pattern"),
        ("logFormat=xml", "value must be one of"),
        ("typo=1", "typo"),
    ],
)
def test_a_wrong_value_is_refused(setting: str, complaint: str) -> None:
    done = helm("template", "x", str(CHART), "--set", setting)

    assert done.returncode != 0
    assert complaint in done.stderr
