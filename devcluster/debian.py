"""Programs out of Debian's packages, without installing them.

An installed package may start a service by itself. Unpacked, a program needs the libraries that
came with it and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devcluster.progress import Progress

_T = TypeVar("_T")


def unpack(progress: Progress, cache: Path, package: str, *, libraries: bool) -> Path:
    """Return the folder `cache/deb-PACKAGE` with a package's files; download them if it is missing.

    Args:
        progress: Where to tell.
        cache: Folder for what outlives a checkout.
        package: Name of the package.
        libraries: Whether to bring the packages that the machine lacks for it.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    target = cache / f"deb-{package}"
    if target.exists():
        return target
    if shutil.which("apt-get") is None:
        raise DevclusterError(f"please install {package}: this is not a Debian machine")
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / "logs" / f"deb-{package}.log"
    progress.say(f"downloading Debian's {package}, some seconds")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        _download(progress, folder, log, _command(package, folder, libraries=libraries))
        for file in folder.glob("*.deb"):
            extract = ["dpkg-deb", "--extract", str(file), str(folder / "root")]
            progress.run(extract, what=f"unpacking {file.name}", log=log)
        # A rename is atomic: nobody ever runs half a program.
        (folder / "root").rename(target)
    return target


def found_or_unpacked(
    progress: Progress, cache: Path, package: str, find: Callable[[Path], _T | None]
) -> _T:
    """Return a program that needs libraries; unpack its package when it is missing.

    Args:
        progress: Where to tell.
        cache: Folder for what outlives a checkout.
        package: Name of the package.
        find: Looks for the program, in the cache too.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    found = find(cache)
    if found is None:
        unpack(progress, cache, package, libraries=True)
        found = find(cache)
    if found is None:
        raise DevclusterError(f"Debian's {package} does not hold what belongs into it")
    return found


def _command(package: str, folder: Path, *, libraries: bool) -> list[str]:
    if not libraries:
        return ["apt-get", "download", package]
    (folder / "partial").mkdir()  # apt wants it
    options = ["--yes", "--no-install-recommends", "-o", f"Dir::Cache::archives={folder}"]
    return ["apt-get", "install", "--download-only", *options, package]


def _download(progress: Progress, folder: Path, log: Path, command: Sequence[str]) -> None:
    """Download into the folder; read the package lists first where the machine has none."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    what = "downloading packages"
    try:
        progress.run(command, what=what, log=log, env=env, cwd=folder)
    except DevclusterError:
        progress.run(["apt-get", "update"], what="reading package lists", log=log, env=env)
        progress.run(command, what=what, log=log, env=env, cwd=folder)
