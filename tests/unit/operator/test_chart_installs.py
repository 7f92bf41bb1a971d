"""Every way to install comes to the same objects, and what the package says of itself is true."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import charts
from tests.charts import (
    CHART,
    HELM3,
    KUBECTL,
    ROOT,
    VALUES,
    needs_helm,
    needs_helm3,
    needs_kubectl,
    render,
)

Manifest = dict[str, Any]
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())
DEPLOY = ROOT / "deploy"
GITOPS = ROOT / "examples/gitops"


def annotation(name: str) -> Any:  # noqa: ANN401 - YAML in YAML
    return yaml.safe_load(METADATA["annotations"][f"artifacthub.io/{name}"])


def key(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


@cache
def plain() -> dict[str, Manifest]:
    text = (DEPLOY / "dspy-operator.yaml").read_text()
    return {key(each): each for each in charts.documents(text)}


def files(name: str) -> list[Manifest]:
    return charts.documents((GITOPS / name).read_text())


# Helm


@needs_helm
@needs_helm3
@pytest.mark.parametrize("values", VALUES, ids=lambda p: p.stem)
def test_helm_3_renders_what_helm_4_renders(values: Path) -> None:
    assert render(values=values, program=HELM3) == render(values=values)


@needs_helm3
def test_helm_3_finds_the_chart_sound() -> None:
    done = charts.helm("lint", "--strict", str(CHART), program=HELM3)

    assert done.returncode == 0, done.stdout


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda p: p.stem)
def test_every_object_names_the_release_and_no_two_are_one(values: Path) -> None:
    found = charts.documents(charts.text(values=values))

    assert len({key(each) for each in found}) == len(found)
    for each in found:
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "dspy-operator"


# Plain YAML and kustomize


def test_plain_manifests_speak_of_no_helm() -> None:
    text = (DEPLOY / "dspy-operator.yaml").read_text()

    assert "helm" not in text.partition("---")[2].lower()
    assert "CustomResourceDefinition" in text


def test_plain_manifests_bring_their_namespace_first() -> None:
    first = next(iter(plain().values()))

    assert first["kind"] == "Namespace"
    assert first["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    names = {each["metadata"].get("namespace") for each in plain().values()}
    assert names == {None, first["metadata"]["name"]}


@needs_helm
def test_plain_manifests_are_a_default_release_without_its_test() -> None:
    rendered = {key(each) for each in render().values()} - {"Pod dspy-system/dspy-operator-test"}

    assert set(plain()) == rendered | {"Namespace /dspy-system"}


@needs_kubectl
def test_kustomize_builds_the_plain_manifests() -> None:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(DEPLOY)], capture_output=True, text=True, check=True
    )

    assert {key(each): each for each in charts.documents(done.stdout)} == plain()


# GitOps


def test_gitops_examples_install_this_version_into_a_restricted_namespace() -> None:
    (application,) = files("argo-cd/application.yaml")
    namespace, source, release = files("flux/helm-release.yaml")
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}

    assert application["spec"]["source"]["targetRevision"] == METADATA["version"]
    assert source["spec"]["ref"]["semver"] == f"{METADATA['version'].rpartition('.')[0]}.x"
    assert namespace["metadata"]["labels"] == restricted
    policy = application["spec"]["syncPolicy"]
    assert policy["managedNamespaceMetadata"]["labels"] == restricted
    assert release["spec"]["chartRef"]["name"] == source["metadata"]["name"]


def gitops_values() -> list[Manifest]:
    (application,) = files("argo-cd/application.yaml")
    release = files("flux/helm-release.yaml")[-1]
    return [application["spec"]["source"]["helm"]["valuesObject"], release["spec"]["values"]]


@needs_helm
@pytest.mark.parametrize("values", gitops_values(), ids=["argo-cd", "flux"])
def test_values_in_gitops_examples_are_values_of_the_chart(
    values: Manifest, tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))

    kinds = {each["kind"] for each in render(values=file).values()}
    assert {"ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds


# What Artifact Hub shows


@needs_helm
def test_the_images_that_the_package_names_are_those_that_it_installs() -> None:
    images = {each["name"]: each["image"] for each in annotation("images")}

    assert images["operator"] == charts.pod()["containers"][0]["image"]
    assert f"--worker-image={images['worker']}" in charts.arguments()


def test_the_kinds_that_the_package_names_are_those_that_it_brings() -> None:
    ours = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    named = {(each["name"], each["kind"], each["version"]) for each in annotation("crds")}

    assert named == {
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], version["name"])
        for crd in ours
        for version in crd["spec"]["versions"]
    }
    assert {each["kind"] for each in annotation("crdsExamples")} == {kind for _, kind, _ in named}


def test_the_package_tells_the_levels_and_changes_that_artifact_hub_knows() -> None:
    levels = {"Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"}
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}

    assert annotation("operator") is True
    assert annotation("operatorCapabilities") in levels
    assert {each["kind"] for each in annotation("changes")} <= kinds
    assert METADATA["appVersion"] == METADATA["version"]
