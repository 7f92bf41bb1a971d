"""Redis, taken out of Debian's packages without installing them.

An installed package would start a service by itself. Unpacked, the program needs the libraries that
came with it and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from devcluster.progress import Progress


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
    root = cache / "redis"
    program = root / "usr/bin/redis-server"
    if not program.exists():
        return None
    return RedisServer(program=program, libraries=tuple(sorted((root / "usr/lib").glob("*-gnu*"))))


def ensure(progress: Progress, cache: Path) -> RedisServer:
    """Return Redis; unpack Debian's packages when it is missing.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    found = find(cache)
    if found:
        return found
    if shutil.which("apt-get") is None:
        raise DevclusterError("please install redis-server: this is not a Debian machine")
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / "logs" / "redis.log"
    progress.say("downloading redis-server, some seconds")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        _download(progress, folder, log)
        for package in folder.glob("*.deb"):
            unpack = ["dpkg-deb", "--extract", str(package), str(folder / "root")]
            progress.run(unpack, what=f"unpacking {package.name}", log=log)
        # A rename is atomic: nobody ever runs half a program.
        (folder / "root").rename(cache / "redis")
    unpacked = find(cache)
    if unpacked is None:
        raise DevclusterError("Debian's package holds no redis-server", log=log)
    return unpacked


def _download(progress: Progress, folder: Path, log: Path) -> None:
    """Download the package and the libraries that the machine lacks."""
    (folder / "partial").mkdir()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["--yes", "--no-install-recommends", "-o", f"Dir::Cache::archives={folder}"]
    download = ["apt-get", "install", "--download-only", *options, "redis-server"]
    try:
        progress.run(download, what="downloading redis-server", log=log, env=env)
    except DevclusterError:
        progress.run(["apt-get", "update"], what="reading package lists", log=log, env=env)
        progress.run(download, what="downloading redis-server", log=log, env=env)
