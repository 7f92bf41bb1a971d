"""Fixtures of the tests that watch an operator process against the light cluster."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress
from devcluster.target import find_helm
from tests.cluster.operator_world import USER, Operator, World

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rules(light_cluster: LightCluster) -> list[dict[str, Any]]:
    """Give the operator's user the rights that the chart gives its service account."""
    helm = find_helm(Layout.of_checkout(), Progress(quiet=True))
    command = [helm, "template", "dspy-operator", ROOT / "charts" / "dspy-operator"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = [d for d in yaml.safe_load_all(text) if d and d["kind"].startswith("ClusterRole")]
    for binding in made:
        if binding["kind"] == "ClusterRoleBinding":
            group = "rbac.authorization.k8s.io"
            binding["subjects"] = [{"kind": "User", "name": USER, "apiGroup": group}]
    light_cluster.access.apply(made)
    return made


@pytest.fixture(scope="module")
def operator(
    light_cluster: LightCluster, rules: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    log = tmp_path_factory.mktemp("operator") / "log"
    running = Operator(kubeconfig=light_cluster.access.kubeconfig_for(USER), log=log)
    running.start()
    yield running
    if running.runs():
        assert running.stop() == 0, log.read_text()[-2000:]


@pytest.fixture
def world(light_cluster: LightCluster, light_namespace: str, operator: Operator) -> World:
    return World(access=light_cluster.access, namespace=light_namespace, operator=operator)
