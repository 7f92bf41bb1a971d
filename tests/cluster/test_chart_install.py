"""The chart in a real API server: admitted, with the rights that it means to give and no others.

No pod runs here. The API server checks every object and every pod that the Deployment asks for, in
a namespace that enforces the restricted Pod Security Standard.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from devcluster import binaries, shell
from devcluster.access import Access
from devcluster.layout import Layout, find_repository
from devcluster.light import LightCluster
from devcluster.progress import Progress
from devcluster.target import find_helm
from tests import charts

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(180)]

ROOT = find_repository()
CHART = str(ROOT / "charts" / "dspy-operator")
CRD = APPS = "dspyapps.dspy-operator.io"


@pytest.fixture(scope="module")
def access() -> Iterator[Access]:
    """Start a cluster of its own: the chart brings the CRDs and roles of the whole cluster."""
    with LightCluster(Layout.of_checkout(), Progress(quiet=True)) as cluster:
        yield cluster.access


@dataclass
class Release:
    """A release named after its namespace."""

    access: Access
    helm: str
    name: str

    def run(self, *arguments: str) -> str:
        config = f"--kubeconfig={self.access.kubeconfig}"
        return shell.run(self.helm, config, f"--namespace={self.name}", *arguments)

    def install(self, *settings: str) -> None:
        flags = [part for setting in settings for part in ("--set", setting)]
        self.run("upgrade", "--install", self.name, CHART, *flags)

    def names(self, kinds: str, *flags: str) -> list[str]:
        selector = f"--selector=app.kubernetes.io/instance={self.name}"
        return self.access.kubectl("get", kinds, selector, "--output=name", *flags).split()

    def may(self, verb: str, what: str, namespace: str, user: str = "") -> bool:
        """Tell whether the operator, or a user, may do something to `resource[:subresource]`."""
        name = user or f"system:serviceaccount:{self.name}:{self.name}"
        resource, _, part = what.partition(":")
        subject = (f"--as={name}", f"--namespace={namespace}", f"--subresource={part}")
        question = ("auth", "can-i", verb, resource, *subject)
        command = [str(self.access.kubectl_path), f"--kubeconfig={self.access.kubeconfig}"]
        done = subprocess.run([*command, *question], capture_output=True, text=True, check=False)
        return done.stdout.strip() == "yes"


def until(true: Callable[[], Any], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.1)


def owner_of_crd(access: Access) -> str:
    """Return the release that the CRD says it belongs to."""
    found: str = access.kubectl_json("get", "crd", CRD)["metadata"]["annotations"][
        "meta.helm.sh/release-name"
    ]
    return found


def helm3() -> str:
    layout = Layout.of_checkout()
    module = layout.repository / "devcluster" / "binaries"
    return str(binaries.ensure(Progress(), layout.cache, module, ("helm3",)) / "helm3")


def helm4() -> str:
    return str(find_helm(Layout.of_checkout(), Progress()))


@contextmanager
def new_release(access: Access, program: str) -> Iterator[Release]:
    made = Release(access, program, access.create_namespace("chart"))
    yield made
    if made.run("list", "--short"):
        made.run("uninstall", made.name)
    access.kubectl("delete", "crd", CRD, "--ignore-not-found")
    access.delete_namespace(made.name)


@pytest.fixture(scope="module")
def release(access: Access) -> Iterator[Release]:
    """Install the chart as it comes, once for all tests that only look at it."""
    with new_release(access, helm4()) as made:
        made.install()
        yield made


@pytest.fixture(params=[helm4, helm3], ids=["helm 4", "helm 3"])
def fresh(request: pytest.FixtureRequest, access: Access) -> Iterator[Release]:
    """Prepare a release by each Helm; nothing is installed yet."""
    with new_release(access, request.param()) as made:
        yield made


def test_plain_manifests_are_admitted_in_one_go(access: Access) -> None:
    folder = ROOT / "deploy"
    access.kubectl("apply", "--server-side", f"--kustomize={folder}")
    access.kubectl("apply", "--server-side", f"--filename={folder / 'dspy-operator.yaml'}")

    def pods() -> list[str]:
        return access.kubectl("get", "pods", "--namespace=dspy-system", "--output=name").split()

    until(lambda: len(pods()) == 2, "two pods")
    access.kubectl("delete", f"--filename={folder / 'dspy-operator.yaml'}", "--wait=false")
    access.kubectl("wait", "--for=delete", f"crd/{CRD}", "--timeout=60s")


def test_a_release_brings_its_kind_and_leaves_it_and_the_apps_behind(fresh: Release) -> None:
    fresh.install()
    manifest = (ROOT / "examples/tickets/app.yaml").read_text()
    inside = f"--namespace={fresh.name}"
    fresh.access.kubectl("wait", "--for=condition=Established", f"crd/{CRD}")
    fresh.access.kubectl("apply", inside, "--filename=-", stdin=manifest)
    fresh.run("uninstall", fresh.name)

    assert fresh.access.kubectl("get", "dspyapps", inside, "--output=name").strip()
    fresh.install()
    assert owner_of_crd(fresh.access) == fresh.name


def test_the_operators_pods_and_the_tests_are_admitted(release: Release) -> None:
    inside = f"--namespace={release.name}"

    until(lambda: len(release.names("pods", inside)) == 2, "two pods")
    hooks = charts.documents(release.run("get", "hooks", release.name))
    assert [hook["kind"] for hook in hooks] == ["Pod"]
    create = ("create", "--dry-run=server", "--filename=-", "--output=name")
    made = release.access.kubectl(*create, inside, stdin=json.dumps(hooks[0]))
    assert made.strip() == f"pod/{release.name}-test"


def test_the_operator_may_do_its_work_and_nothing_else(release: Release) -> None:
    lease = f"leases.coordination.k8s.io/{release.name}"

    assert release.may("patch", "deployments.apps", "default")
    assert release.may("create", "leases.coordination.k8s.io", release.name)
    assert release.may("patch", lease, release.name)
    assert not release.may("patch", f"{lease}-of-another", release.name)
    assert not release.may("create", "leases.coordination.k8s.io", "default")
    for what in ("secrets", "nodes", "clusterroles.rbac.authorization.k8s.io"):
        assert not release.may("list", what, "default")
    assert not release.may("create", "pods:exec", "default")
    assert not release.may("patch", "pods", "default")


def test_people_who_may_view_see_apps_and_editing_is_switched_on(release: Release) -> None:
    for role in ("view", "edit"):
        binding = ("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}er")
        release.access.kubectl(*binding, f"--namespace={release.name}")

    def may(verb: str, user: str) -> bool:
        return release.may(verb, APPS, release.name, user)

    until(lambda: may("list", "viewer"), "the aggregated right to view")
    assert not may("create", "viewer")
    assert not may("create", "editer")
    release.install("rbac.userRoles.aggregateToEdit=true")
    until(lambda: may("create", "editer"), "the aggregated right to edit")
    assert not release.may("patch", f"{APPS}:status", release.name, "editer")


def test_a_second_release_leaves_the_crds_of_the_first_alone(release: Release) -> None:
    second = Release(release.access, release.helm, release.access.create_namespace("second"))
    second.install(f"namespaces={{{second.name}}}")

    assert second.names("clusterroles,clusterrolebindings") == []
    assert second.may("patch", "deployments.apps", second.name)
    assert not second.may("list", "deployments.apps", release.name)
    assert owner_of_crd(release.access) == release.name
    assert CRD not in second.run("get", "manifest", second.name)
    second.run("uninstall", second.name)


def test_a_release_can_be_narrowed_to_namespaces(release: Release) -> None:
    assert release.may("list", "deployments.apps", "default")
    release.install(f"namespaces={{{release.name}}}")

    assert release.names("clusterroles,clusterrolebindings") == []
    assert release.may("patch", "deployments.apps", release.name)
    assert not release.may("list", "deployments.apps", "default")
    release.install()
