"""Other releases: down to the one before and up again under load, and away altogether."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import previous, release, shell
from devcluster.access import Access
from devcluster.apps import Apps
from devcluster.embedded import EmbeddedCluster
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.progress import Progress
from devcluster.release import Choice
from devcluster.target import find_helm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TEXT = {"text": "I was charged twice for my subscription this month"}


def tickets(replicas: int) -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "examples/tickets/app.yaml").read_text())
    app = copy.deepcopy(next(d for d in documents if d["kind"] == "DSPyApp"))
    app["spec"]["serving"] = {"replicas": replicas}
    return app


@pytest.fixture(scope="module")
def earlier(embedded_cluster: EmbeddedCluster, devcluster_progress: Progress) -> Path:
    """Return the checkout of the previous commit, its images loaded."""
    try:
        checkout = previous.checkout(Layout.of_checkout())
    except DevclusterError as error:
        pytest.skip(f"a shallow clone has no previous commit: {error}")
    previous.load_images(embedded_cluster, devcluster_progress, checkout)
    return checkout


@pytest.fixture
def here(operator_installed: Access) -> Iterator[Apps]:
    name = operator_installed.create_namespace("upgrade")
    apps = Apps(cluster=operator_installed, namespace=name)
    apps.start_practice_lm()
    yield apps
    operator_installed.delete_namespace(name)


class Helm:
    """Installs and removes releases."""

    def __init__(self, access: Access, progress: Progress) -> None:
        self._access = access
        self._progress = progress
        self._program = find_helm(Layout.of_checkout(), progress)

    def install(self, repository: Path, choice: Choice) -> None:
        access = dataclasses.replace(self._access, repository=repository)
        release.install(self._progress, access, self._program, choice)

    def uninstall(self) -> None:
        kubeconfig = f"--kubeconfig={self._access.kubeconfig}"
        where = f"--namespace={release.NAMESPACE}"
        shell.run(str(self._program), "uninstall", release.NAME, where, kubeconfig, "--wait")


@pytest.fixture
def helm(operator_installed: Access, devcluster_progress: Progress) -> Iterator[Helm]:
    """Yield Helm, and leave the release of this checkout installed."""
    made = Helm(operator_installed, devcluster_progress)
    yield made
    made.install(ROOT, release.DEV)


def image(here: Apps) -> str:
    pod = here.get("deployment", "tickets")["spec"]["template"]["spec"]
    return str(pod["containers"][0]["image"])


def test_no_request_fails_while_the_release_goes_down_and_up(
    here: Apps, helm: Helm, earlier: Path
) -> None:
    here.apply(tickets(2))
    here.wait_ready("tickets")
    here.start_load("tickets", TEXT, rate=10, seconds=150)

    helm.install(earlier, previous.CHOICE)
    here.wait_until(lambda: image(here) == previous.CHOICE.worker, "the earlier worker")
    here.wait_ready("tickets")
    helm.install(ROOT, release.DEV)
    here.wait_until(lambda: image(here) == release.DEV.worker, "the present worker")
    here.wait_ready("tickets")

    summary = here.finish_load(seconds=240)
    assert summary["failed"] == 0, summary


def test_apps_outlive_the_operator_and_leave_without_it(here: Apps, helm: Helm) -> None:
    here.apply(tickets(1))
    here.wait_ready("tickets")
    helm.uninstall()

    assert here.get("dspyapp", "tickets")["status"]["readyReplicas"] == 1, "the CRD was kept"
    assert here.ask("tickets", TEXT)["prediction"] == {"label": "billing"}
    here.kubectl("delete", "dspyapp", "tickets", "--timeout=30s")
    here.wait_until(lambda: not here.names("deployments,pods", "tickets"), "its end", seconds=120)
    here.apply(tickets(1))
    here.cluster.kubectl("delete", "namespace", here.namespace, "--timeout=120s")


def test_a_namespace_goes_while_its_app_starts(here: Apps) -> None:
    here.apply(tickets(1))
    here.cluster.kubectl("delete", "namespace", here.namespace, "--timeout=120s")

    namespaces = json.loads(here.cluster.kubectl("get", "namespaces", "--output=json"))["items"]
    assert here.namespace not in {n["metadata"]["name"] for n in namespaces}
