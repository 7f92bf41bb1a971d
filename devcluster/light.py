"""An API server within seconds: etcd, kube-apiserver and the controllers, and no node.

Most tests of an operator ask only what it writes and how it reacts; no pod has to run for that.
The three programs are plain processes on free loopback ports, in a temporary folder. The kernel
kills them when the process that started them dies (`setpriv --pdeathsig`), so a test run that is
killed leaves nothing behind.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from devcluster import binaries, control_plane, kubeconfig
from devcluster.access import Access
from devcluster.certificates import Authority
from devcluster.control_plane import ControlPlane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from devcluster.layout import Layout
    from devcluster.progress import Progress

_START_SECONDS = 60


class LightCluster:
    """A control plane of its own for one test run; a context manager.

    Attributes:
        access: kubectl, audit log and certificates; valid between `start` and `stop`.
    """

    access: Access

    def __init__(self, layout: Layout, progress: Progress) -> None:
        """Remember where binaries and CRDs are; nothing is started yet."""
        self._layout = layout
        self._progress = progress
        self._folder = Path(tempfile.mkdtemp(prefix="devcluster-"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._kill()  # the folder stays: its logs tell why
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the three programs and wait until the API server is ready.

        Raises:
            DevclusterError: It did not become ready; its log is in the temporary folder.
        """
        programs = binaries.ensure(
            self._progress,
            self._layout.cache,
            self._layout.repository / "devcluster" / "binaries",
            binaries.CONTROL_PLANE,
        )
        self._plane = _plane(self._folder, programs)
        self.access = _access(self._plane, self._folder, self._layout.repository)
        self._spawn("etcd", control_plane.etcd(self._plane))
        self.start_api_server()
        manager = control_plane.controller_manager(self._plane)
        self._spawn("kube-controller-manager", manager)

    def stop(self) -> None:
        """Kill the programs and delete the folder."""
        self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def start_api_server(self) -> None:
        """Start the API server (again) and wait until it is ready."""
        command = control_plane.api_server(self._plane)
        # Pods are what would use the `kubernetes` Service, and there are none.
        self._spawn("kube-apiserver", [*command, "--endpoint-reconciler-type=none"])
        self._progress.wait_for(
            "the API server",
            self.access.answers,
            seconds=_START_SECONDS,
            log=self._folder / "kube-apiserver.log",
        )

    def stop_api_server(self) -> None:
        """Kill the API server; etcd keeps the objects. The controllers wait or restart."""
        process = self._processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def _spawn(self, name: str, command: list[str]) -> None:
        self._processes[name] = spawn(command, self._folder / f"{name}.log")


def spawn(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that the kernel kills when this process dies.

    Args:
        command: Program and arguments.
        log: File that its output is appended to.
        env: Its whole environment; without it, the caller's.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
        )


def _plane(folder: Path, programs: Path) -> ControlPlane:
    authority = Authority(folder=folder / "pki")
    authority.create()
    plane = ControlPlane(
        binaries=programs,
        authority=authority,
        config=folder / "config",
        etcd_data=folder / "etcd",
        audit_log=folder / "audit.jsonl",
        address="127.0.0.1",
        port=free_ports(1),
        etcd_port=free_ports(2),
        service_range="10.96.0.0/16",
        service_address="10.96.0.1",
    )
    control_plane.write_audit_policy(plane)
    kubeconfig.write(
        plane.kubeconfig("kube-controller-manager"),
        plane.server,
        authority,
        "system:kube-controller-manager",
    )
    return plane


def _access(plane: ControlPlane, folder: Path, repository: Path) -> Access:
    admin = folder / "kubeconfig"
    kubeconfig.write(
        admin, plane.server, plane.authority, kubeconfig.ADMIN, (kubeconfig.ADMIN_GROUP,)
    )
    return Access(
        kubeconfig=admin,
        server=plane.server,
        kubectl_path=plane.binaries / "kubectl",
        pki=plane.authority.folder,
        audit_log=plane.audit_log,
        repository=repository,
    )


def free_ports(count: int) -> int:
    """Return the first of `count` neighboring loopback ports that are free right now."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if all(_is_free(port + offset) for offset in range(1, count)):
                return port


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections at a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
