"""What a cluster has made on the host, written down before it is made.

`down` removes exactly this, also when the `up` that wrote it was killed half-way.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from devcluster.processes import Process

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The traces of a cluster on the host.

    Attributes:
        network_number: See `network.Network`.
        cgroup: Name of its folder in each cgroup hierarchy.
        launcher: The process outside the namespaces, once started.
        supervisor: Process 1 of the namespaces, as the host sees it, once started.
    """

    network_number: int
    cgroup: str
    launcher: Process | None = None
    supervisor: Process | None = None


def save(record: Record, path: Path) -> None:
    """Replace the record; a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(record)))
    draft.rename(path)


def load(path: Path) -> Record | None:
    """Return the record, or None when nothing was made."""
    if not path.exists():
        return None
    raw = json.loads(path.read_text())
    return Record(
        network_number=raw["network_number"],
        cgroup=raw["cgroup"],
        launcher=Process(**raw["launcher"]) if raw["launcher"] else None,
        supervisor=Process(**raw["supervisor"]) if raw["supervisor"] else None,
    )
