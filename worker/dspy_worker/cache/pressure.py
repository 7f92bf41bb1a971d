"""Reads how much memory this process and its pod use, and what their limits are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from dspy_worker.core.pressure import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class Gauges:
    """Finds the files once and reads them again and again."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> None:
        """Look for the control group's files, of version 2 or 1."""
        self._proc = proc
        self._groups = list(_groups(root, proc))

    def readings(self) -> list[Reading]:
        """Return every limit that holds for this process; empty where none can be read."""
        found = [_group(folder, names) for folder, names in self._groups]
        return [reading for reading in (*found, self._own()) if reading is not None]

    def _own(self) -> Reading | None:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int((self._proc / "self/statm").read_text().split()[0])
            return Reading(used=pages * _PAGE, limit=limit)
        return None


def give_back() -> None:
    """Hand freed memory back to the system; else it would still count as used."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _groups(root: Path, proc: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Yield the folders of this process's groups that have a limit, up to the root.

    In a container the root is its own group, whatever path the process has outside.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, names = root, _V2
        elif "memory" in controllers.split(","):
            base, names = root / "memory", _V1
        else:
            continue
        inner = base / path.strip("/")
        for folder in (inner, *inner.parents):
            if (folder / names[0]).exists():
                yield folder, names
            if folder == base:
                break


def _group(folder: Path, names: tuple[str, str, str]) -> Reading | None:
    """Return use and limit of a group; files that the kernel can drop at once are not used."""
    try:
        limit = (folder / names[0]).read_text().strip()
        if limit == "max":
            return None
        used = int((folder / names[1]).read_text())
        stat = (folder / "memory.stat").read_text().splitlines()
        idle = next((int(x.split()[1]) for x in stat if x.startswith(names[2] + " ")), 0)
        return Reading(used=max(0, used - idle), limit=int(limit))
    except (OSError, ValueError, IndexError):
        return None
