"""A real PostgreSQL for tests: on loopback, with a password, gone with the test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from devcluster import postgres_server
from devcluster.layout import find_cache
from devcluster.progress import Progress
from tests import ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.postgres_server import PostgresServer

USER, PASSWORD = "dspy", "s3cret-Pa55"
_NOBODY = 65534
_START_SECONDS = 60
_LOOK_SECONDS = 0.05


@dataclass(slots=True, kw_only=True)
class Postgres:
    """A server that can be killed and started again on the same port and files."""

    server: PostgresServer
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    _made: int = field(default=0)

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        self._made += 1
        name = f"test_{self._made}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def ask(self, statement: str, url: str = "") -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = self.server.command(self.folder / "data", self.port)
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_whom())
        give_up = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > give_up or self.process.poll() is not None:
                    raise AssertionError((self.folder / "postgres.log").read_text()) from None
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def kill(self) -> None:
        """End it as a power cut would: the main process and all its children at once."""
        assert self.process is not None
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for process in (number, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait(_START_SECONDS)
        give_up = time.monotonic() + _START_SECONDS
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < give_up, "PostgreSQL's children do not end"
            time.sleep(_LOOK_SECONDS)

    def make(self) -> None:
        """Make the files of an empty server."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.folder, secret):
                os.chown(path, _NOBODY, _NOBODY)
        command = self.server.make(self.folder / "data", USER, secret)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._as_whom())

    def _as_whom(self) -> dict[str, Any]:
        """PostgreSQL refuses to run as root."""
        env = {**os.environ, **self.server.environment()}
        whom = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        return {"env": env, "cwd": self.folder, **(whom if os.geteuid() == 0 else {})}


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        folder.chmod(0o755)
        found = postgres_server.ensure(Progress(quiet=True), find_cache())
        server = Postgres(server=found.readable(folder), folder=folder, port=ports.free())
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)
