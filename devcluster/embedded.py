"""The embedded cluster: whole Kubernetes with one node, in namespaces of its own.

    host                        | network, mount, process, cgroup namespaces
    up -> launcher (unshare) ---+-> supervisor (process 1)
          veth 10.N.0.1  -------+-- veth 10.N.0.2
                                |     etcd, API server, controllers, scheduler,
                                |     containerd, kubelet, kube-proxy, DNS, metrics server
                                |     pods

`up` runs after any accident: it first removes what the record says is left. What may stay between
two runs stays: certificates, and the images in containerd's store. etcd always starts empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from devcluster import (
    addons,
    archive,
    binaries,
    cgroups,
    components,
    control_plane,
    kubeconfig,
    machine,
    network,
    node,
    plan,
    processes,
    record,
    shell,
)
from devcluster.access import Access
from devcluster.certificates import Authority
from devcluster.control_plane import ControlPlane
from devcluster.errors import DevclusterError
from devcluster.network import Network
from devcluster.node import Node
from devcluster.plan import Plan
from devcluster.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devcluster.layout import Layout
    from devcluster.processes import Process
    from devcluster.progress import Progress

_START_SECONDS = 120


class EmbeddedCluster:
    """The cluster of one layout, running or not."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        """Nothing is started or read yet."""
        self.layout = layout
        self._progress = progress
        self._launched: subprocess.Popen[bytes] | None = None

    @property
    def access(self) -> Access:
        """kubectl, audit log and certificates of the running cluster."""
        known = self._record()
        return Access(
            kubeconfig=self.layout.kubeconfig,
            server=f"https://{Network(number=known.network_number).node}:{components.API_PORT}",
            kubectl_path=self._binaries_folder() / "kubectl",
            pki=self.layout.pki,
            audit_log=self.layout.audit_log,
            repository=self.layout.repository,
        )

    @property
    def network(self) -> Network:
        """Addresses of the running cluster."""
        return Network(number=self._record().network_number)

    def is_healthy(self) -> bool:
        """Tell whether it runs, answers, and its node is ready."""
        known = record.load(self.layout.record)
        if known is None or known.supervisor is None or not processes.is_alive(known.supervisor):
            return False
        return self.access.answers() and self._node_is_ready()

    def up(self) -> bool:
        """Start the cluster unless it is healthy; tell whether it had to be started.

        Raises:
            DevclusterError: Something is missing on the machine, or a component did not start.
        """
        with self.locked():
            if self.is_healthy():
                return False
            self._prepare_machine()
            self._remove_traces()
            self._start()
            return True

    def down(self, *, everything: bool = False) -> None:
        """Stop the cluster and remove its traces; with `everything` also its images and keys.

        Raises:
            DevclusterError: Something could not be removed.
        """
        with self.locked():
            self._remove_traces()
        if everything:
            shutil.rmtree(self.layout.state)

    def enter(self, *command: str) -> str:
        """Run a command inside the cluster's namespaces and return its output."""
        supervisor = self._record().supervisor
        if supervisor is None:
            raise DevclusterError("the cluster is not running")
        target = ("--target", str(supervisor.pid), "--mount", "--pid", "--net")
        return shell.run("nsenter", *target, "--", *command)

    def load_image(self, archive_file: Path) -> None:
        """Import a docker-archive into the node's image store."""
        self.enter("ctr", "--namespace=k8s.io", "images", "import", str(archive_file))

    def forget_image(self, name: str) -> None:
        """Remove a name from the node's image store; what no other name holds goes with it."""
        if name in self.image_names():
            self.enter("ctr", "--namespace=k8s.io", "images", "remove", name)

    def image_names(self) -> set[str]:
        """Return the names of the images in the node's store."""
        return set(self.enter("ctr", "--namespace=k8s.io", "images", "list", "--quiet").split())

    def _prepare_machine(self) -> None:
        machine.require_root()
        machine.require_visible(self.layout)
        machine.install_packages(self._progress, self.layout.logs / "apt.log")
        module = self.layout.repository / "devcluster" / "binaries"
        binaries.ensure(self._progress, self.layout.cache, module, binaries.EVERYTHING)

    def _start(self) -> None:
        known = self._choose_network()
        setup = self._setup(Network(number=known.network_number))
        self._write_files(setup, known)
        self._launch(known)
        self._wait_for_api()
        self.access.apply(addons.manifests(setup.network))
        self._load_tools_image()
        self._wait_for_node()

    def _choose_network(self) -> Record:
        earlier = self.layout.state / "network-number"
        preferred = int(earlier.read_text()) if earlier.exists() else None
        chosen = network.choose(network.used_on_host(), preferred)
        self.layout.state.mkdir(parents=True, exist_ok=True)
        earlier.write_text(str(chosen.number))
        known = Record(network_number=chosen.number, cgroup=chosen.link)
        record.save(known, self.layout.record)
        return known

    def _setup(self, addresses: Network) -> Node:
        authority = Authority(folder=self.layout.pki)
        authority.create()
        plane = ControlPlane(
            binaries=self._binaries_folder(),
            authority=authority,
            config=self.layout.config,
            etcd_data=self.layout.var_lib / "etcd",
            audit_log=self.layout.audit_log,
            address=addresses.node,
            port=components.API_PORT,
            etcd_port=components.ETCD_PORT,
            service_range=addresses.services,
            service_address=addresses.kubernetes,
        )
        return Node(plane=plane, network=addresses, config=self.layout.config)

    def _write_files(self, setup: Node, known: Record) -> None:
        """Write all files of a fresh start; only keys and containerd's store are kept."""
        for folder in (self.layout.config, self.layout.logs, self.layout.var_log):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for name in ("etcd", "kubelet", "cni", "volumes"):
            shutil.rmtree(self.layout.var_lib / name, ignore_errors=True)
        for name in addons.VOLUMES:
            (self.layout.volumes / name).mkdir(parents=True)
            (self.layout.volumes / name).chmod(0o777)
        for name, content in node.files(setup).items():
            (self.layout.config / name).parent.mkdir(parents=True, exist_ok=True)
            (self.layout.config / name).write_text(content)
        control_plane.write_audit_policy(setup.plane)
        self._write_kubeconfigs(setup.plane)
        plan.dump(self._plan(setup, known), self.layout.plan)

    def _write_kubeconfigs(self, plane: ControlPlane) -> None:
        server, authority = plane.server, plane.authority
        for component, (user, groups) in components.CLIENTS.items():
            kubeconfig.write(plane.kubeconfig(component), server, authority, user, groups)
        groups = (kubeconfig.ADMIN_GROUP,)
        kubeconfig.write(self.layout.kubeconfig, server, authority, kubeconfig.ADMIN, groups)

    def _plan(self, setup: Node, known: Record) -> Plan:
        return Plan(
            cgroup=known.cgroup,
            network_number=known.network_number,
            binds=((str(self.layout.var_lib), "/var/lib"), (str(self.layout.var_log), "/var/log")),
            logs=str(self.layout.logs),
            components=components.in_order(setup),
        )

    def _launch(self, known: Record) -> None:
        """Start launcher and supervisor, note both, and lay the wire."""
        self._progress.say("starting the cluster, less than a minute")
        with (self.layout.logs / "supervisor.log").open("ab") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "devcluster.launcher", str(self.layout.plan)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.layout.repository,
                start_new_session=True,
            )
        self._launched = popen
        launcher = processes.find(popen.pid)
        known = replace(known, launcher=launcher)
        record.save(known, self.layout.record)
        supervisor = self._await_supervisor(popen, launcher)
        record.save(replace(known, supervisor=supervisor), self.layout.record)
        network.connect(Network(number=known.network_number), supervisor.pid)

    def _await_supervisor(
        self, popen: subprocess.Popen[bytes], launcher: Process | None
    ) -> Process:
        log = self.layout.logs / "supervisor.log"
        found: list[Process] = []

        def appeared() -> bool:
            if popen.poll() is not None or launcher is None:
                raise DevclusterError("the cluster's first process died", log=log)
            child = processes.child_of(launcher)
            found.extend([child] if child else [])
            return bool(found)

        self._progress.wait_for("the supervisor", appeared, seconds=10, log=log)
        return found[0]

    def _wait_for_api(self) -> None:
        log = self.layout.logs / "kube-apiserver.log"
        self._progress.wait_for(
            "the API server", self.access.answers, seconds=_START_SECONDS, log=log
        )
        self._progress.say(f"the API server answers at {self.access.server}")

    def _load_tools_image(self) -> None:
        if archive.TOOLS_IMAGE not in self.image_names():
            file = self.layout.archives / "tools.tar"
            archive.write_tools_image(machine.BUSYBOX, file)
            self.load_image(file)

    def _wait_for_node(self) -> None:
        log = self.layout.logs / "kubelet.log"
        self._progress.wait_for("the node", self._node_is_ready, seconds=_START_SECONDS, log=log)
        self.access.await_namespace("default")
        log = self.layout.logs / "metrics-server.log"
        self._progress.wait_for(
            "the metrics API", self._metrics_are_served, seconds=_START_SECONDS, log=log
        )
        self._progress.say("all components are ready")

    def _node_is_ready(self) -> bool:
        with contextlib.suppress(DevclusterError):
            nodes = self.access.kubectl_json("get", "nodes")["items"]
            return any(_has_condition(item, "Ready") for item in nodes)
        return False

    def _metrics_are_served(self) -> bool:
        with contextlib.suppress(DevclusterError):
            service = self.access.kubectl_json("get", "apiservice", "v1beta1.metrics.k8s.io")
            return _has_condition(service, "Available")
        return False

    def _remove_traces(self) -> None:
        """Kill, unplug and remove whatever the record names."""
        known = record.load(self.layout.record)
        if known is None:
            return
        for process in (known.supervisor, known.launcher):
            if process is not None and not processes.kill(process):
                raise DevclusterError(f"process {process.pid} cannot be killed")
        if self._launched is not None:
            self._launched.wait()  # it was our own child: collect its exit status
            self._launched = None
        network.disconnect(Network(number=known.network_number).link)
        left = cgroups.remove(cgroups.folders(known.cgroup))
        if left:
            raise DevclusterError(f"cgroup folders are still in use: {left}")
        self.layout.record.unlink()

    def _record(self) -> Record:
        known = record.load(self.layout.record)
        if known is None:
            raise DevclusterError("the cluster is not running; start it with: make cluster")
        return known

    def _binaries_folder(self) -> Path:
        module = self.layout.repository / "devcluster" / "binaries"
        return binaries.folder(self.layout.cache, module)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time change the cluster or its images; not to be nested."""
        self.layout.state.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _has_condition(manifest: dict[str, object], kind: str) -> bool:
    status = manifest.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(item["type"] == kind and item["status"] == "True" for item in conditions)
