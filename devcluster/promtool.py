"""promtool, which checks and tests alerts: from PATH, or out of Debian's package of Prometheus."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import debian

if TYPE_CHECKING:
    from devcluster.progress import Progress

_PACKAGE = "prometheus"


def find(cache: Path) -> Path | None:
    """Return promtool if it is there: on PATH, or in the cache."""
    installed = shutil.which("promtool")
    ours = cache / f"deb-{_PACKAGE}" / "usr/bin/promtool"
    return Path(installed) if installed else ours if ours.exists() else None


def ensure(progress: Progress, cache: Path) -> Path:
    """Return promtool; take it out of its Debian package when it is missing.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    found = find(cache)
    if found:
        return found
    return debian.unpack(progress, cache, _PACKAGE, libraries=False) / "usr/bin/promtool"
