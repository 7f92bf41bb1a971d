"""A Git repository, a real Argo CD that syncs it, the operator and played pods: one small platform.

Argo CD installs the operator's chart and the apps. The operator runs as a process with the identity
of the chart's service account, so it has exactly the rights that Argo CD has brought. What Argo CD
thought at each moment comes from a watch, who wrote what from the audit log.
"""

import contextlib
import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devcluster import argocd
from devcluster.access import Access
from devcluster.argocd import ArgoCD
from devcluster.audit import AuditEvent
from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress
from devcluster.target import find_helm
from tests.cluster.kubelet import Kubelet
from tests.cluster.operator_world import Operator, until
from tests.cluster.watching import Watch

ROOT = Path(__file__).parents[2]
SYSTEM, APPS = "dspy-system", "dspy-apps"
OPERATOR = f"system:serviceaccount:{SYSTEM}:dspy-operator"
README = ROOT / "deploy/argocd/README.md"
WAIT_SECONDS = 90

Manifest = dict[str, Any]


def example(name: str, **serving: object) -> Manifest:
    """Return an app as it lies in Git."""
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyApp",
        "metadata": {"name": name},
        "spec": {
            "program": {
                "signature": {"inputs": [{"name": "text"}], "outputs": [{"name": "label"}]}
            },
            "models": [{"name": "main", "model": "practice", "endpoint": "http://lm:8080/v1"}],
            **({"serving": serving} if serving else {}),
        },
    }


@dataclass
class Repository:
    """A Git repository with the chart and a folder of apps.

    Attributes:
        folder: Its working copy.
        changes: For each commit, the names of the apps that it added, changed or removed.
    """

    folder: Path
    changes: dict[str, set[str]] = field(default_factory=dict)
    _files: dict[str, Manifest] = field(default_factory=dict)
    _touched: set[str] = field(default_factory=set)

    def create(self) -> None:
        self.folder.mkdir()
        (self.folder / "apps").mkdir()
        shutil.copytree(ROOT / "charts" / "dspy-operator", self.folder / "chart")
        self._git("init", "--quiet", "--initial-branch=main")

    def write(self, app: Manifest) -> None:
        name = app["metadata"]["name"]
        self._files[name] = copy.deepcopy(app)
        self._touched.add(name)
        self._path(name).write_text(yaml.safe_dump(app), encoding="utf-8")

    def read(self, name: str) -> Manifest:
        return copy.deepcopy(self._files[name])

    def remove(self, name: str) -> None:
        del self._files[name]
        self._touched.add(name)
        self._path(name).unlink()

    def commit(self, message: str) -> str:
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message={message}")
        revision = self._git("rev-parse", "HEAD").strip()
        self.changes[revision], self._touched = self._touched, set()
        return revision

    def _path(self, name: str) -> Path:
        return self.folder / "apps" / f"{name}.yaml"

    def _git(self, *args: str) -> str:
        person = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
        command = ["git", *person, "-c", "commit.gpgsign=false", *args]
        env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True, env=env
        )
        return done.stdout


@dataclass
class Platform:
    """What a platform engineer sees: Git, the cluster, and Argo CD between them.

    Attributes:
        applications: Watches Argo CD's Applications.
        apps: Watches the DSPyApps, once their kind exists.
    """

    access: Access
    repository: Repository
    argo: ArgoCD
    kubelet: Kubelet
    applications: Watch
    apps: Watch | None = None

    def install_operator(self, apps: list[Manifest]) -> None:
        """Commit chart and apps, and have Argo CD install the chart."""
        self.repository.create()
        for app in apps:
            self.repository.write(app)
        revision = self.repository.commit("Begin")
        git = self.repository.folder
        self.access.apply(argocd.application("dspy-operator", git, "chart", SYSTEM))
        self.await_state("dspy-operator", "Healthy", revision)

    def install_apps(self) -> None:
        """Have Argo CD install the apps."""
        self.access.apply(argocd.application("apps", self.repository.folder, "apps", APPS))
        self.await_state("apps", "Healthy", next(iter(self.repository.changes)))

    def kubectl(self, *args: str) -> str:
        return self.access.kubectl(f"--namespace={APPS}", *args)

    def get(self, kind: str, name: str) -> Manifest:
        found: Manifest = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def patch(self, kind: str, name: str, patch: Manifest) -> None:
        self.kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}")

    def application(self, name: str) -> Manifest:
        found: Manifest = self.access.kubectl_json(
            "get", "application", name, f"--namespace={argocd.NAMESPACE}"
        )
        return found

    def push(self, message: str, *apps: Manifest) -> str:
        """Commit apps and tell Argo CD, as the webhook of a Git host does."""
        for app in apps:
            self.repository.write(app)
        revision = self.repository.commit(message)
        self.argo.refresh("apps")
        return revision

    def await_state(self, name: str, health: str, revision: str = "") -> None:
        """Wait until an Application is synced, at a commit, with nothing under way."""
        what = f"{name} to be synced and {health}"
        try:
            until(lambda: self._is(name, health, revision), what, WAIT_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self._summary(name))}") from error

    def _is(self, name: str, health: str, revision: str) -> bool:
        assert self.argo.runs(), "a process of Argo CD has ended"
        status = self.application(name).get("status", {})
        sync = status.get("sync", {})
        return (
            sync.get("status") == "Synced"
            and (not revision or sync.get("revision") == revision)
            and status.get("health", {}).get("status") == health
            and status.get("operationState", {}).get("phase", "Succeeded") == "Succeeded"
        )

    def _summary(self, name: str) -> Manifest:
        status = self.application(name).get("status", {})
        return {
            "sync": status.get("sync", {}).get("status"),
            "health": status.get("health"),
            "conditions": status.get("conditions"),
            "operation": status.get("operationState", {}).get("message"),
            "resources": [
                r
                for r in status.get("resources", ())
                if r.get("status") != "Synced"
                or r.get("health", {}).get("status", "Healthy") != "Healthy"
            ],
        }

    def health(self, name: str) -> tuple[str, str]:
        """Return what Argo CD says of one app: its health, and the message."""
        for resource in self.application("apps")["status"].get("resources", ()):
            if resource["name"] == name:
                said = resource.get("health", {})
                return said.get("status", ""), said.get("message", "")
        return "", ""

    def moments(self) -> list[str]:
        """Return who was out of sync without a commit as the cause, once per period."""
        return unexplained(self.applications.objects(), self.repository.changes)

    def mark(self) -> int:
        return self.access.audit_marker()

    def conflicts(self, since: int) -> list[str]:
        return [shown(e) for e in self.access.audit(since) if is_against_the_other(e)]

    def writes(self, since: int) -> list[str]:
        """Return the writes of Argo CD and operator, to anything but Argo CD's own objects."""
        return [shown(e) for e in self.access.audit(since) if is_work(e)]

    def argo_writes(self, since: int) -> list[str]:
        """Return the names of the apps that Argo CD wrote, once per write.

        It may write the same twice: when a sync ends, it compares with what it has watched, and
        its own write may not have come by yet. The second write then changes nothing.
        """
        return sorted(
            e.name
            for e in self.access.audit(since)
            if e.user == argocd.USER and e.resource == "dspyapps"
        )

    def specs(self) -> list[str]:
        """Return the names of apps, once per version of their spec, in order."""
        assert self.apps is not None
        seen: dict[tuple[str, int], str] = {}
        for version in self.apps.objects():
            metadata = version["metadata"]
            if "deletionTimestamp" not in metadata:  # which counts as a generation of its own
                seen.setdefault((metadata["uid"], metadata["generation"]), metadata["name"])
        return list(seen.values())


def is_work(event: AuditEvent) -> bool:
    """Tell a write of one of the two to a cluster's object; Events and questions are none."""
    own = {"applications", "appprojects", "events", "leases"}
    asked = event.resource.startswith(("selfsubject", "subjectaccess", "tokenreviews"))
    return event.user in {argocd.USER, OPERATOR} and event.resource not in own and not asked


def is_against_the_other(event: AuditEvent) -> bool:
    """Tell a write to what belongs to the other.

    To Argo CD belongs what lies in Git: the operator may write nothing there but the status of a
    DSPyApp. To the operator belongs everything else in the namespace of the apps.
    """
    if event.user == OPERATOR:
        is_app = event.resource == "dspyapps" and event.subresource != "status"
        return is_work(event) and (event.namespace != APPS or is_app)
    is_git = event.resource == "dspyapps" and not event.subresource
    return event.user == argocd.USER and event.namespace == APPS and is_work(event) and not is_git


def shown(event: AuditEvent) -> str:
    what = f"{event.resource}/{event.subresource}".rstrip("/")
    return f"{event.user}: {event.verb} {what} {event.name}: {event.code}"


def unexplained(versions: list[Manifest], changes: dict[str, set[str]]) -> list[str]:
    """Return what was out of sync though no commit had changed it since it was in sync last.

    Args:
        versions: Versions of Applications, in order.
        changes: For each commit, in order, the apps that it changed.

    Returns:
        One name per period; the Application's own for a comparison that failed.
    """
    found: list[str] = []
    ledgers: dict[str, Ledger] = {}
    for version in versions:
        name = version["metadata"]["name"]
        ledger = ledgers.setdefault(name, Ledger(name=name, changes=changes))
        found += ledger.read(version.get("status", {}))
    return found


@dataclass
class Ledger:
    """What may be out of sync in one Application: what a commit changed, until it was in sync.

    Attributes:
        due: What waits for its first sync after a commit.
        blamed: What is out of sync without such a reason.
    """

    name: str
    changes: dict[str, set[str]]
    revision: str = ""
    due: set[str] = field(default_factory=set)
    blamed: set[str] = field(default_factory=set)

    def read(self, status: Manifest) -> list[str]:
        """Take in one version; return what has begun to be out of sync without a reason."""
        revision = status.get("sync", {}).get("revision", "")
        if revision not in self.changes:
            return []
        resources = status.get("resources", [])
        if revision != self.revision:
            self._turn_to(revision, resources)
        out = {key(r) for r in resources if r.get("status") == "OutOfSync"} - self.due
        if status["sync"]["status"] == "Unknown":
            out.add(self.name)
        new, self.blamed = sorted(out - self.blamed), out
        self.due -= {key(r) for r in resources if r.get("status") == "Synced"}
        return new

    def _turn_to(self, revision: str, resources: list[Manifest]) -> None:
        order = list(self.changes)
        if not self.revision:
            self.due |= {key(r) for r in resources}
        elif self.name == "apps":
            passed = order[order.index(self.revision) + 1 : order.index(revision) + 1]
            self.due |= set().union(*(self.changes[commit] for commit in passed))
        self.revision = revision


def key(resource: Manifest) -> str:
    """Return an app's name, and kind and name of anything else."""
    kind, name = resource["kind"], resource["name"]
    return str(name) if kind == "DSPyApp" else f"{kind}/{name}"


def health_check() -> dict[str, str]:
    """Return the data of the ConfigMap that the README tells people to use."""
    block = README.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    data: dict[str, str] = yaml.safe_load(block)["data"]
    return data


@contextlib.contextmanager
def platform(
    folder: Path, progress: Progress, apps: list[Manifest], plays: dict[str, Manifest]
) -> Iterator[Platform]:
    """Let Argo CD install the chart and then the apps, and wait until all is well.

    Args:
        folder: Where Git, logs and records of watches go.
        progress: Who is told about long steps.
        apps: What lies in Git at first.
        plays: What the played kubelet makes of pods, by image.
    """
    layout = Layout.of_checkout()
    find_helm(layout, progress)
    with contextlib.ExitStack() as stack:
        access = stack.enter_context(LightCluster(layout, progress)).access
        kubelet = stack.enter_context(Kubelet(access))
        kubelet.plays.update(plays)
        argo = ArgoCD(access, layout, progress, settings=health_check())
        stack.enter_context(argo)
        watched = ("applications", f"--namespace={argocd.NAMESPACE}")
        made = Platform(
            access=access,
            repository=Repository(folder=folder / "git"),
            argo=argo,
            kubelet=kubelet,
            applications=stack.enter_context(Watch(access, folder / "applications", *watched)),
        )
        made.install_operator(apps)
        stack.enter_context(running(made, folder / "operator.log"))
        watched = ("dspyapps", f"--namespace={APPS}")
        made.apps = stack.enter_context(Watch(access, folder / "dspyapps", *watched))
        made.install_apps()
        yield made


@contextlib.contextmanager
def running(platform: Platform, log: Path) -> Iterator[Operator]:
    """Run the operator as the pod would that Argo CD has made: its identity, its arguments."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}")
    config = platform.access.kubeconfig_for(OPERATOR, groups)
    live = platform.access.kubectl_json(
        "get", "deployment", "dspy-operator", f"--namespace={SYSTEM}"
    )
    said = live["spec"]["template"]["spec"]["containers"][0]["args"]
    arguments = tuple(a for a in said if not a.startswith("--metrics-port"))
    operator = Operator(kubeconfig=config, log=log, arguments=arguments)
    operator.start()
    yield operator
    assert operator.runs(), log.read_text(encoding="utf-8")[-2000:]
    operator.stop()
