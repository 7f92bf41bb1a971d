"""The installed chart in a whole cluster: its own test passes, and an operator stands by."""

from collections.abc import Callable
from pathlib import Path

import pytest

from devcluster import binaries, release, shell
from devcluster.access import Access
from devcluster.layout import Layout
from devcluster.progress import Progress
from devcluster.target import find_helm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMESPACE = f"--namespace={release.NAMESPACE}"


def helm3() -> Path:
    layout = Layout.of_checkout()
    module = layout.repository / "devcluster" / "binaries"
    return binaries.ensure(Progress(), layout.cache, module, ("helm3",)) / "helm3"


def helm4() -> Path:
    return find_helm(Layout.of_checkout(), Progress())


@pytest.mark.parametrize("program", [helm4, helm3], ids=["helm 4", "helm 3"])
def test_the_releases_own_test_passes_and_shows_what_it_asked(
    operator_installed: Access, program: Callable[[], Path]
) -> None:
    """Helm 3 deletes a test that has succeeded before it reads its log, if it may."""
    config = f"--kubeconfig={operator_installed.kubeconfig}"
    command = ("test", release.NAME, NAMESPACE, "--logs", "--timeout=120s")
    said = shell.run(str(program()), config, *command)

    assert "/readyz: as expected" in said
    assert "/metrics: as expected" in said


def test_every_operator_is_ready_the_one_that_stands_by_too(operator_installed: Access) -> None:
    live = operator_installed.kubectl_json("get", "deployment", release.NAME, NAMESPACE)

    assert live["status"]["readyReplicas"] == live["spec"]["replicas"] == 2


def test_a_drain_may_take_one_operator_and_not_both(operator_installed: Access) -> None:
    budget = operator_installed.kubectl_json("get", "pdb", release.NAME, NAMESPACE)

    assert budget["status"]["disruptionsAllowed"] == 1
