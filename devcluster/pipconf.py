"""The caller's pip settings, for builds only.

A build must reach the same package index as the caller, through the same proxy and with the same
certificates. The settings become a `pip.conf` that is mounted during the build; passing them as
environment variables would leave them in the image.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

_KEPT = frozenset(
    {
        "cert",
        "client-cert",
        "default-timeout",
        "extra-index-url",
        "find-links",
        "index-url",
        "no-index",
        "proxy",
        "retries",
        "timeout",
        "trusted-host",
    }
)


def read() -> dict[str, str]:
    """Return the settings of the caller's files and variables; folders that are gone left out."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    settings = parse(done.stdout)
    folder = settings.get("find-links", "")
    if folder.startswith("/") and not Path(folder).is_dir():
        del settings["find-links"]
    return settings


def parse(listing: str) -> dict[str, str]:
    """Turn the output of `pip config list` into settings; variables win over files."""
    files: dict[str, str] = {}
    variables: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        if name in _KEPT and quoted:
            into = variables if section == ":env:" else files
            into[name] = str(ast.literal_eval(quoted))
    return {**files, **variables}


def render(settings: dict[str, str]) -> str:
    """Return the text of a `pip.conf`."""
    lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in settings.items()]
    return "\n".join(["[global]", *lines, ""])


def mounts(settings: dict[str, str]) -> list[str]:
    """Return the folders that the settings name, which a build has to see as well."""
    folder = settings.get("find-links", "")
    return [folder] if folder.startswith("/") else []
