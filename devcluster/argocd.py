"""A real Argo CD beside a light cluster, as plain processes.

`binaries/argocd` is a Go module with the two programs of Argo CD that sync: its repository server
and its application controller. They find Git on the machine, Helm among our binaries, and Redis in
Debian's package. What Argo CD installs into a cluster besides, its API server and web interface,
has no part in syncing and is left out. All processes die with the one that started them, and their
files lie in the folder of the light cluster, which removes it.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from devcluster import binaries, definitions, light, redis_server
from devcluster.errors import DevclusterError
from devcluster.progress import last_line

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from types import TracebackType

    from devcluster.access import Access
    from devcluster.layout import Layout
    from devcluster.progress import Progress
    from devcluster.redis_server import RedisServer

NAMESPACE = "argocd"
USER = "argocd"
VERSION = "v3.1.0"
_MODULE = f"github.com/argoproj/argo-cd/v3@{VERSION}"
_KINDS = ("application", "appproject")
_CONFIG_MAPS = (
    "argocd-cm",
    "argocd-rbac-cm",
    "argocd-cmd-params-cm",
    "argocd-gpg-keys-cm",
    "argocd-ssh-known-hosts-cm",
    "argocd-tls-certs-cm",
)
SYNC_OPTIONS = (
    "CreateNamespace=true",
    # A custom resource may stand beside its definition, which no dry run knows yet.
    "SkipDryRunOnMissingResource=true",
    # Else a commit to one app would have Argo CD send all the others again, unchanged.
    "ApplyOutOfSyncOnly=true",
)
_MINUTES = 4
_START_SECONDS = 60

Manifest = dict[str, Any]


def program(progress: Progress, layout: Layout) -> Path:
    """Return the program with both servers; build it when it is missing.

    Raises:
        DevclusterError: The build failed, or there is no Go.
    """
    module = layout.repository / "devcluster" / "binaries" / "argocd"
    target = binaries.folder(layout.cache, module)
    if (target / "argocd").exists():
        return target / "argocd"
    target.mkdir(parents=True, exist_ok=True)
    log = layout.cache / "logs" / "go-build.log"
    go = binaries.find_go(progress, layout.cache, log)
    progress.say(f"building argocd {VERSION} from source, about {_MINUTES} minutes the first time")
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        into = Path(scratch)
        command = [go, "build", "-v", "-ldflags", "-s -w", "-o", str(into / "argocd"), "."]
        env = binaries.build_environment(into)
        progress.run(command, what="building argocd", log=log, env=env, cwd=module)
        # A rename is atomic: nobody ever runs half a binary.
        (into / "argocd").rename(target / "argocd")
    progress.say("built argocd")
    return target / "argocd"


def application(name: str, repository: Path, path: str, namespace: str) -> Manifest:
    """Return an Application that keeps a namespace equal to a folder of a local Git repository.

    Args:
        name: Its name.
        repository: Folder of the Git repository.
        path: Folder inside, with plain YAML or a Helm chart.
        namespace: Where its objects go; it is made when it is missing.
    """
    source = {"repoURL": repository.as_uri(), "path": path, "targetRevision": "HEAD"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": list(SYNC_OPTIONS),
            },
        },
    }


@dataclass
class ArgoCD:
    """Argo CD against one light cluster; a context manager.

    Attributes:
        access: The cluster. Argo CD is its user `argocd` there, which may do everything.
        settings: Content of the ConfigMap argocd-cm, such as health checks.
        resync_seconds: How often it looks for commits by itself.
    """

    access: Access
    layout: Layout
    progress: Progress
    settings: Mapping[str, str] = field(default_factory=dict)
    resync_seconds: int = 30
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """Where logs and working copies lie."""
        return self.access.kubeconfig.parent / "argocd"

    def start(self) -> None:
        """Make the objects that it expects and start its processes.

        Raises:
            DevclusterError: It could not be built or did not become ready.
        """
        argocd = program(self.progress, self.layout)
        redis = redis_server.ensure(self.progress, self.layout.cache)
        self._install()
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        ports = [light.free_ports(1) for _ in range(5)]
        self._start_redis(redis, ports[0])
        self._start_repository_server(argocd, ports[0], ports[1], ports[2])
        self._start_controller(argocd, ports[0], ports[1], ports[3])

    def stop(self) -> None:
        """Kill the processes and wait for their end."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def runs(self) -> bool:
        """Tell whether all processes live."""
        return all(process.poll() is None for process in self._processes)

    def refresh(self, name: str) -> None:
        """Have an Application look at its Git repository now, as a webhook of the host would."""
        self.access.kubectl(
            *("annotate", "--overwrite", "application", name, f"--namespace={NAMESPACE}"),
            "argocd.argoproj.io/refresh=hard",
        )

    def _install(self) -> None:
        crds = definitions.folder(self.layout, self.progress, _MODULE) / "manifests" / "crds"
        self.access.define(crds / f"{kind}-crd.yaml" for kind in _KINDS)
        self.access.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        # The controller reads the project when it starts and then only after a refresh.
        self.access.apply([*map(self._config_map, _CONFIG_MAPS), _secret(), _PROJECT])

    def _config_map(self, name: str) -> Manifest:
        data = dict(self.settings) if name == "argocd-cm" else {}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name), "data": data}

    def _start_redis(self, redis: RedisServer, port: int) -> None:
        self._spawn("redis", redis.command(port, self.folder))

    def _start_repository_server(self, argocd: Path, redis: int, port: int, metrics: int) -> None:
        self._spawn(
            "repo-server",
            [
                *(str(argocd), "argocd-repo-server", "--disable-tls"),
                *("--address=127.0.0.1", f"--port={port}"),
                *("--metrics-address=127.0.0.1", f"--metrics-port={metrics}"),
                f"--redis=127.0.0.1:{redis}",
                f"--revision-cache-expiration={self.resync_seconds}s",
            ],
        )
        self._await_port("Argo CD's repository server", "repo-server", port)

    def _start_controller(self, argocd: Path, redis: int, repository: int, metrics: int) -> None:
        self._spawn(
            "application-controller",
            [
                *(str(argocd), "argocd-application-controller", f"--namespace={NAMESPACE}"),
                "--repo-server-plaintext",
                f"--repo-server=127.0.0.1:{repository}",
                f"--redis=127.0.0.1:{redis}",
                f"--metrics-port={metrics}",
                f"--app-resync={self.resync_seconds}",
                "--app-resync-jitter=0",
                # Without it only its web interface would tell why an object is not healthy.
                "--persist-resource-health",
            ],
        )
        self._await_port("Argo CD's controller", "application-controller", metrics)

    def _await_port(self, what: str, name: str, port: int) -> None:
        log = self.folder / f"{name}.log"

        def ready() -> bool:
            if not self.runs():
                # The log will be gone together with the cluster's folder.
                raise DevclusterError(f"{what} has ended: {last_line(log)}", log=log)
            return light.listens(port)

        self.progress.wait_for(what, ready, seconds=_START_SECONDS, log=log)

    def _spawn(self, name: str, command: list[str]) -> None:
        log = self.folder / f"{name}.log"
        self._processes.append(light.spawn(command, log, self._environment()))

    def _environment(self) -> dict[str, str]:
        """Return the environment of all processes: nothing of the caller's Git, Helm or cluster."""
        tools = binaries.folder(
            self.layout.cache, self.layout.repository / "devcluster" / "binaries"
        )
        kubeconfig = self.access.kubeconfig_for(USER, ("system:masters",))
        return {
            "PATH": f"{tools}:{os.environ.get('PATH', '')}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "KUBECONFIG": str(kubeconfig),
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_K8S_CLIENT_QPS": "200",
            "ARGOCD_K8S_CLIENT_BURST": "400",
        }


def _metadata(name: str) -> Manifest:
    labels = {"app.kubernetes.io/part-of": "argocd"}
    return {"name": name, "namespace": NAMESPACE, "labels": labels}


def _secret() -> Manifest:
    """Return what Argo CD's API server would make when it starts for the first time."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata("argocd-secret"),
        "stringData": {"server.secretkey": secrets.token_urlsafe(32)},
    }


_PROJECT: Manifest = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "AppProject",
    "metadata": {"name": "default", "namespace": NAMESPACE},
    "spec": {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    },
}
