"""PostgreSQL: installed, or out of Debian's packages."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import debian

if TYPE_CHECKING:
    from devcluster.progress import Progress

_PACKAGE = "postgresql-15"
_INSTALLED = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """The programs of PostgreSQL; they refuse to run as root.

    Attributes:
        programs: Folder with `initdb` and `postgres`.
        root: Folder that was unpacked; None where PostgreSQL is installed.
    """

    programs: Path
    root: Path | None = None

    def readable(self, folder: Path) -> PostgresServer:
        """Return programs that any user can run: a copy in `folder` of what root alone can read."""
        if self.root is None or os.geteuid() != 0:
            return self
        copy = folder / "postgresql"
        shutil.copytree(self.root / "usr/lib", copy / "usr/lib", symlinks=True)
        shutil.copytree(self.root / "usr/share/postgresql", copy / "usr/share/postgresql")
        return PostgresServer(programs=copy / self.programs.relative_to(self.root), root=copy)

    def environment(self) -> dict[str, str]:
        """Return the variables that the programs need."""
        if self.root is None:
            return {}
        libraries = sorted((self.root / "usr/lib").glob("*-gnu*"))
        return {"LD_LIBRARY_PATH": ":".join(str(folder) for folder in libraries)}

    def make(self, data: Path, user: str, password_file: Path) -> list[str]:
        """Return a command that makes a cluster of databases."""
        who = [f"--username={user}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        plain = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        return [str(self.programs / "initdb"), f"--pgdata={data}", *who, *plain]

    def command(self, data: Path, port: int) -> list[str]:
        """Return a command that listens on loopback."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",  # a test kills the program, never the machine
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(data), *settings]


def find(cache: Path, installed: Path = _INSTALLED) -> PostgresServer | None:
    """Return PostgreSQL if it is there: the newest that is installed, or in the cache."""
    programs = _newest(installed)
    if programs:
        return PostgresServer(programs=programs)
    root = cache / f"deb-{_PACKAGE}"
    programs = _newest(root / "usr/lib/postgresql")
    return PostgresServer(programs=programs, root=root) if programs else None


def ensure(progress: Progress, cache: Path) -> PostgresServer:
    """Return PostgreSQL; unpack Debian's packages when it is missing.

    Raises:
        DevclusterError: There is no apt, or it failed.
    """
    return debian.found_or_unpacked(progress, cache, _PACKAGE, find)


def _newest(folder: Path) -> Path | None:
    found = sorted(
        (path.parent for path in folder.glob("*/bin/initdb")), key=lambda p: int(p.parent.name)
    )
    return found[-1] if found else None
