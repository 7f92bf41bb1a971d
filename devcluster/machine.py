"""What the machine must offer: root, Debian packages, a place for state."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import shell
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devcluster.layout import Layout
    from devcluster.progress import Progress

PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "socat": "socat",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/bin/busybox": "busybox-static",
    "openssl": "openssl",
    "mount": "mount",
}
"""A program that we start, and the Debian package that it comes from."""

BUSYBOX = Path("/bin/busybox")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HIDDEN_FOLDERS = (Path("/run"), Path("/var/lib"), Path("/var/log"))


def missing_packages() -> list[str]:
    """Return the Debian packages that are not installed, sorted."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    return sorted({PROGRAMS[name] for name in PROGRAMS if shutil.which(name, path=path) is None})


def require_root() -> None:
    """Refuse to go on without root.

    Raises:
        DevclusterError: The caller is somebody else.
    """
    if os.geteuid() != 0:
        raise DevclusterError("the embedded cluster needs root: it makes namespaces and mounts")


def require_visible(layout: Layout) -> None:
    """Refuse folders that the cluster's own `/run`, `/var/lib` and `/var/log` would hide.

    Raises:
        DevclusterError: The checkout or the cache lies below one of them.
    """
    for path in (layout.repository, layout.cache, layout.state):
        for hidden in _HIDDEN_FOLDERS:
            if path.is_relative_to(hidden):
                raise DevclusterError(f"{path} must not lie below {hidden}: move it elsewhere")


def install_packages(progress: Progress, log: Path) -> None:
    """Install the Debian packages that are missing.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    missing = missing_packages()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise DevclusterError(f"please install {', '.join(missing)}: this is not a Debian machine")
    progress.say(f"installing {', '.join(missing)}, about a minute")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    progress.run(["apt-get", "update"], what="reading package lists", log=log, env=env)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    progress.run(install, what="installing packages", log=log, env=env)


def docker_runs() -> bool:
    """Tell whether a Docker engine answers (the client alone is not enough)."""
    return shutil.which("docker") is not None and shell.succeeds("docker", "info", seconds=10)
