"""Redis: from PATH, or out of Debian's packages."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import debian

if TYPE_CHECKING:
    from devcluster.progress import Progress

_PACKAGE = "redis-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """The program `redis-server`.

    Attributes:
        program: Where it lies.
        libraries: Folders with libraries that the machine does not have.
    """

    program: Path
    libraries: tuple[Path, ...] = ()

    def command(self, port: int, folder: Path) -> list[str]:
        """Return a command that listens on loopback and keeps nothing on disk."""
        path = ":".join(str(folder) for folder in self.libraries)
        listen = ["--bind", "127.0.0.1", "--port", str(port)]
        forget = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        return ["env", f"LD_LIBRARY_PATH={path}", str(self.program), *listen, *forget]


def find(cache: Path) -> RedisServer | None:
    """Return Redis if it is there: on PATH, or in the cache."""
    installed = shutil.which("redis-server")
    if installed:
        return RedisServer(program=Path(installed))
    root = cache / f"deb-{_PACKAGE}"
    program = root / "usr/bin/redis-server"
    if not program.exists():
        return None
    return RedisServer(program=program, libraries=tuple(sorted((root / "usr/lib").glob("*-gnu*"))))


def ensure(progress: Progress, cache: Path) -> RedisServer:
    """Return Redis; unpack Debian's packages when it is missing.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    return debian.found_or_unpacked(progress, cache, _PACKAGE, find)
