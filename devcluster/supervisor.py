"""Process 1 of a cluster: makes the namespaces habitable, then keeps the components alive.

    python -m devcluster.supervisor PLAN      (started by `devcluster.launcher`)

It starts the components of the plan in order and restarts any that dies, as systemd would. It also
reaps the orphans of all containers, which is the duty of process 1. To stop a cluster, kill it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import cgroups, network, plan, shell
from devcluster.network import Network

if TYPE_CHECKING:
    from devcluster.plan import Component, Plan

_WIRE_SECONDS = 30.0
_AWAIT_SECONDS = 60.0
_RESTART_SECONDS = 1.0
_KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
# What the kubelet insists on writing. These settings belong to the whole machine.


def main(path: str) -> None:
    """Run a cluster until this process is killed."""
    todo = plan.load(Path(path))
    mount_folders(todo)
    pretend_kernel_settings()
    remount_cgroups()
    await_wire(Network(number=todo.network_number))
    running = {}
    for component in todo.components:
        running[start(component, todo)] = component
        await_component(component, Network(number=todo.network_number).node)
    keep_alive(running, todo)


def mount_folders(todo: Plan) -> None:
    """Give the programs a `/run`, `/var/lib` and `/var/log` of their own."""
    for source, target in todo.binds:
        shell.run("mount", "--bind", source, target)
    shell.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")


def pretend_kernel_settings() -> None:
    """Lay ordinary files over the machine-wide settings that the kubelet wants to change."""
    for name, value in _KERNEL_SETTINGS.items():
        setting = Path("/proc/sys") / name
        if setting.exists():
            substitute = Path("/run/kernel-settings") / name
            substitute.parent.mkdir(parents=True, exist_ok=True)
            substitute.write_text(f"{value}\n")
            shell.run("mount", "--bind", str(substitute), str(setting))


def remount_cgroups() -> None:
    """Mount each hierarchy again, so that its root is the cluster's own folder."""
    for hierarchy in cgroups.hierarchies():
        mount = str(hierarchy.mount)
        shell.run("umount", "--lazy", mount)
        options = ("-o", hierarchy.options) if hierarchy.options else ()
        shell.run("mount", "-t", hierarchy.kind, *options, hierarchy.kind, mount)
    cgroups.delegate()


def await_wire(wire: Network) -> None:
    """Wait until `up` has laid the veth pair; give up when it died before."""
    deadline = time.monotonic() + _WIRE_SECONDS
    while not shell.succeeds("ip", "link", "show", network.INNER_LINK):
        if time.monotonic() > deadline:
            raise SystemExit("no veth pair came: `up` must have died")
        time.sleep(0.05)
    network.connect_inside(wire)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start(component: Component, todo: Plan) -> int:
    """Start a component and return its process id.

    Not by `subprocess`: that reaps forgotten children on its own, and `keep_alive` would never
    hear of their death.
    """
    program = shutil.which(component.command[0])
    if program is None:
        raise SystemExit(f"{component.command[0]} is missing")
    log = str(Path(todo.logs) / f"{component.name}.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = component.command
    return os.posix_spawn(
        program, command, os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE]
    )


def await_component(component: Component, address: str) -> None:
    """Wait until a component accepts connections, or go on after a while: the rest retries."""
    deadline = time.monotonic() + _AWAIT_SECONDS
    while time.monotonic() < deadline:
        if _accepts(component, address):
            return
        time.sleep(0.05)


def _accepts(component: Component, address: str) -> bool:
    try:
        if component.await_port:
            socket.create_connection((address, component.await_port), timeout=1).close()
        if component.await_socket:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(component.await_socket)
    except OSError:
        return False
    return True


def keep_alive(running: dict[int, Component], todo: Plan) -> None:
    """Reap every child; start a component again when it was one."""
    while True:
        pid, status = os.wait()
        component = running.pop(pid, None)
        if component is not None:
            print(f"{component.name} ended with status {status}, starting it again", flush=True)
            time.sleep(_RESTART_SECONDS)
            running[start(component, todo)] = component


if __name__ == "__main__":
    main(sys.argv[1])
