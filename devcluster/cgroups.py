"""Resource groups of a cluster: one folder per hierarchy, so that `down` finds all of them.

The launcher puts itself into these folders and then opens a cgroup namespace; everything the
kubelet and containerd make later appears below them. On cgroup v1 there are many hierarchies (cpu,
memory, ...), on v2 there is one, whose group may not hold processes and subgroups that are limited
at once: there the programs live in a leaf of their own.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LEAF = "programs"
_REMOVE_SECONDS = 10.0
_NOT_MOUNT_OPTIONS = ("rw", "ro", "seclabel", "nsdelegate", "clone_children", "xattr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted cgroup file system.

    Attributes:
        mount: Where it is mounted.
        kind: `cgroup` (v1) or `cgroup2`.
        options: What `mount -o` needs to mount the same hierarchy again.
    """

    mount: Path
    kind: str
    options: str

    @property
    def holds_limits(self) -> bool:
        """Whether it is v2 with controllers, where a leaf is needed."""
        controllers = self.mount / "cgroup.controllers"
        return self.kind == "cgroup2" and controllers.exists() and bool(controllers.read_text())


def parse_mounts(mountinfo: str) -> list[Hierarchy]:
    """Return the hierarchies in the text of `/proc/self/mountinfo`."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, super_options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            mount = Path(before.split(" ")[4])
            options = _mount_options(super_options) if kind == "cgroup" else ""
            found.append(Hierarchy(mount=mount, kind=kind, options=options))
    return found


def _mount_options(super_options: str) -> str:
    kept = [
        option
        for option in super_options.split(",")
        if option not in _NOT_MOUNT_OPTIONS and not option.startswith("release_agent=")
    ]
    named = any(option.startswith("name=") for option in kept)
    return ",".join(["none", *kept] if named else kept)


def hierarchies() -> list[Hierarchy]:
    """Return the hierarchies that this process sees."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text())


def folders(name: str) -> list[Path]:
    """Return the folder of a cluster in each hierarchy."""
    return [hierarchy.mount / name for hierarchy in hierarchies()]


def join(name: str) -> None:
    """Make a cluster's folders and move this process into them."""
    for hierarchy in hierarchies():
        folder = hierarchy.mount / name
        folder.mkdir(exist_ok=True)
        # An empty cpuset accepts nobody; it has to be filled from its parent first.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if hierarchy.kind == "cgroup" and (folder / setting).exists():
                (folder / setting).write_text((hierarchy.mount / setting).read_text())
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def delegate() -> None:
    """On v2, move the programs into a leaf and hand all controllers down; runs inside.

    The cgroup namespace must be open and mounted: the root of the hierarchy is the cluster's.
    """
    for hierarchy in hierarchies():
        if not hierarchy.holds_limits:
            continue
        leaf = hierarchy.mount / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (hierarchy.mount / "cgroup.procs").read_text().split():
            (leaf / "cgroup.procs").write_text(pid)
        names = (hierarchy.mount / "cgroup.controllers").read_text().split()
        enable = " ".join(f"+{name}" for name in names)
        (hierarchy.mount / "cgroup.subtree_control").write_text(enable)


def remove(tops: Iterable[Path]) -> list[Path]:
    """Remove folders with all subfolders and return those that are still there.

    A folder whose last process has died a moment ago may still be busy, hence the patience.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    left = [top for top in tops if top.exists()]
    while left and time.monotonic() < deadline:
        for top in left:
            _remove_tree(top)
        left = [top for top in left if top.exists()]
        time.sleep(0.05 if left else 0)
    return left


def _remove_tree(top: Path) -> None:
    for folder in _deepest_first(top):
        try:
            folder.rmdir()
        except OSError:
            continue  # busy or gone; the caller looks again


def _deepest_first(top: Path) -> Iterator[Path]:
    for parent, _, _ in os.walk(top, topdown=False):
        yield Path(parent)
