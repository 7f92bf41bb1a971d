"""What the supervisor has to do, as one JSON file written before it starts.

The supervisor runs inside the namespaces and decides nothing: which programs, in which order,
with which files, is decided here, by pure code that tests can read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A program that the supervisor starts, and starts again when it dies.

    Attributes:
        name: Name of its log.
        command: Program and arguments.
        await_port: TCP port at the node's address that must answer before the next component is
            started; 0 to go on at once.
        await_socket: The same for a Unix socket; "" to go on at once.
    """

    name: str
    command: tuple[str, ...]
    await_port: int = 0
    await_socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the supervisor needs to know.

    Attributes:
        cgroup: Name of the cluster's folder in each cgroup hierarchy.
        network_number: See `network.Network`.
        binds: Folders of the state, and where the programs shall see them.
        logs: Folder of the components' logs.
        components: What to start, in this order.
    """

    cgroup: str
    network_number: int
    binds: tuple[tuple[str, str], ...]
    logs: str
    components: tuple[Component, ...]


def dump(plan: Plan, path: Path) -> None:
    """Write a plan."""
    path.write_text(json.dumps(asdict(plan), indent=2))


def load(path: Path) -> Plan:
    """Read a plan that `dump` wrote."""
    raw = json.loads(path.read_text())
    return Plan(
        cgroup=raw["cgroup"],
        network_number=raw["network_number"],
        binds=tuple((source, target) for source, target in raw["binds"]),
        logs=raw["logs"],
        components=tuple(
            Component(
                name=item["name"],
                command=tuple(item["command"]),
                await_port=item["await_port"],
                await_socket=item["await_socket"],
            )
            for item in raw["components"]
        ),
    )
