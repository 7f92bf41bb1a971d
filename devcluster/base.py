"""The base image for builds without a registry: a small Debian with Python, by debootstrap.

The Dockerfiles name an image of Docker Hub as their base and take another one as `BASE`. This one
is made from the packages that the machine can install anyway. Its files are kept as one tar file
in the cache, since making them takes more than a minute.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import shell
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from devcluster.progress import Progress

RELEASE = "bookworm"
NAME = "localhost/python-base:bookworm"
_PACKAGES = ("python3", "python3-venv", "ca-certificates")
_UNUSED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)


def ensure(progress: Progress, cache: Path) -> Path:
    """Return the tar file with the files of the image; make it when it is missing.

    Raises:
        DevclusterError: debootstrap failed.
    """
    target = cache / f"python-base-{RELEASE}.tar"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / "logs" / "debootstrap.log"
    progress.say("making the base image with debootstrap, about 70 seconds the first time")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        root = Path(scratch) / "root"
        include = f"--include={','.join(_PACKAGES)}"
        bootstrap = ["debootstrap", "--variant=minbase", include, RELEASE, str(root), *_mirror()]
        progress.run(bootstrap, what="making the base image", log=log)
        tidy(root)
        draft = Path(scratch) / "root.tar"
        shell.run("tar", "--numeric-owner", "-C", str(root), "-cf", str(draft), ".")
        draft.rename(target)
    return target


def tidy(root: Path) -> None:
    """Remove what no container needs, and give Python the name that it has in Docker's image."""
    for name in _UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    link = root / "usr/local/bin/python"
    if not link.exists():
        link.symlink_to("/usr/bin/python3")


def _mirror() -> list[str]:
    """Return the mirror that this machine uses for the same release, if it does."""
    filters = ("Created-By: Packages", f"Codename: {RELEASE}", "Origin: Debian")
    try:
        known = shell.run("apt-get", "indextargets", "--format", "$(REPO_URI)", *filters)
    except DevclusterError:
        return []
    return known.split()[:1]
