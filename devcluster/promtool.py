"""promtool, which checks and tests alerts: taken out of Debian's package without installing it.

An installed package would bring a service that starts by itself. The program alone needs nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from devcluster.progress import Progress

_PACKAGE = "prometheus"


def find(cache: Path) -> Path | None:
    """Return promtool if it is there: in the cache, or on PATH."""
    ours = cache / "promtool"
    if ours.exists():
        return ours
    installed = shutil.which("promtool")
    return Path(installed) if installed else None


def ensure(progress: Progress, cache: Path) -> Path:
    """Return promtool; take it out of its Debian package when it is missing.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    found = find(cache)
    if found:
        return found
    if shutil.which("apt-get") is None:
        raise DevclusterError("please install promtool: this is not a Debian machine")
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / "logs" / "promtool.log"
    progress.say("downloading promtool, some seconds")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        _download(progress, folder, log)
        (package,) = folder.glob("*.deb")
        unpack = ["dpkg-deb", "--extract", str(package), str(folder / "root")]
        progress.run(unpack, what="unpacking promtool", log=log)
        # A rename is atomic: nobody ever runs half a program.
        (folder / "root/usr/bin/promtool").rename(cache / "promtool")
    return cache / "promtool"


def _download(progress: Progress, folder: Path, log: Path) -> None:
    """Download the package; read the package lists first where the machine has none."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    download = ["apt-get", "download", _PACKAGE]
    try:
        progress.run(download, what="downloading promtool", log=log, env=env, cwd=folder)
    except DevclusterError:
        progress.run(["apt-get", "update"], what="reading package lists", log=log, env=env)
        progress.run(download, what="downloading promtool", log=log, env=env, cwd=folder)
