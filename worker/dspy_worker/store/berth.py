"""A folder of a worker's own below one that several workers may share.

Each worker locks a folder; the kernel lifts the lock when the process ends, however it ends. What a
dead one has left is moved into the folder of whoever looks next.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT_SUFFIX = ".journal"
_LOCK = "lock"


class Berth:
    """A locked folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Hold the lock, an open file, until `leave`."""
        self.path = path
        self._lock = lock

    def leave(self, *, remove: bool = False) -> None:
        """Lift the lock; an empty folder can go with it."""
        if remove:
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink()
                self.path.rmdir()
        os.close(self._lock)

    def segments(self) -> list[Path]:
        """Return its segments, the oldest first."""
        return sorted(self.path.glob(f"*{SEGMENT_SUFFIX}"))

    def adopt(self) -> None:
        """Move here what dead workers left in the folders beside this one."""
        for folder in sorted(self.path.parent.iterdir()):
            if folder == self.path or not folder.is_dir():
                continue
            dead = claim(folder)
            if dead is None:
                continue
            for segment in dead.segments():
                segment.rename(fresh(self.path))
            dead.leave(remove=True)


def take(root: Path) -> Berth:
    """Return the first folder below `root` that nobody holds.

    Raises:
        OSError: The disk does not let us.
    """
    for number in itertools.count():
        berth = claim(root / str(number))
        if berth is not None:
            return berth
    raise AssertionError  # the count has no end


def claim(path: Path) -> Berth | None:
    """Return a folder locked; None while a living process holds it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path / _LOCK
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who adopted the folder a moment ago has removed the file that we have locked.
        if file.stat().st_ino == os.fstat(lock).st_ino:
            return Berth(path, lock)
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def fresh(folder: Path) -> Path:
    """Return a name for a new segment that sorts behind those before."""
    while True:
        path = folder / f"{time.time_ns():020d}{SEGMENT_SUFFIX}"
        if not path.exists():
            return path
