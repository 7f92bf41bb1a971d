"""Rendering the chart in tests, with the Helm that is built already."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import binaries, layout, promtool

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "dspy-operator"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
DIGEST = f"sha256:{'a' * 64}"

Objects = dict[str, dict[str, Any]]


def find(name: str) -> str | None:
    """Return a program that is there already; building one takes minutes."""
    built = binaries.folder(layout.find_cache(), ROOT / "devcluster" / "binaries") / name
    return str(built) if built.exists() else shutil.which(name)


HELM, HELM3, KUBECTL = find("helm"), find("helm3"), find("kubectl")
PROMTOOL = promtool.find(layout.find_cache())
_REMEDY = "is not built yet: .venv/bin/python -m devcluster binaries"
needs_helm = pytest.mark.skipif(HELM is None, reason=f"Helm {_REMEDY}")
needs_helm3 = pytest.mark.skipif(HELM3 is None, reason=f"Helm 3 {_REMEDY}")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason=f"kubectl {_REMEDY}")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=f"promtool {_REMEDY}")


def helm(*arguments: str, program: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm and return what it says, whether it succeeds or not."""
    command = [program or HELM or "helm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def complaint(*settings: str) -> str:
    """Return why Helm refuses to render with these settings."""
    flags = [part for setting in settings for part in ("--set", setting)]
    done = helm("template", "x", str(CHART), *flags)
    assert done.returncode != 0
    return done.stderr


@cache
def text(*settings: str, values: Path | None = None, program: str | None = None) -> str:
    """Return what Helm renders for a release dspy-operator in dspy-system."""
    flags = [part for setting in settings for part in ("--set", setting)]
    if values:
        flags += ["--values", str(values)]
    # Helm 3 from source takes itself for a client of Kubernetes 1.20.
    flags += ["--kube-version", binaries.KUBERNETES_VERSION]
    arguments = ("template", "dspy-operator", str(CHART), "--namespace=dspy-system", *flags)
    done = helm(*arguments, program=program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(rendered: str) -> list[dict[str, Any]]:
    """Return the objects in a stream of YAML."""
    return [d for d in yaml.safe_load_all(rendered) if d]


@cache
def render(*settings: str, values: Path | None = None, program: str | None = None) -> Objects:
    """Return the rendered objects by kind and name."""
    found = documents(text(*settings, values=values, program=program))
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in found}


def pod(*settings: str) -> dict[str, Any]:
    """Return the spec of the operator's pods."""
    found: dict[str, Any] = render(*settings)["Deployment/dspy-operator"]["spec"]["template"][
        "spec"
    ]
    return found


def arguments(*settings: str) -> list[str]:
    """Return the command line of the operator."""
    found: list[str] = pod(*settings)["containers"][0]["args"]
    return found
