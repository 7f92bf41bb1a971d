"""Real Redis servers for tests: on a free loopback port, killed and started again at will."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from devcluster import redis_server
from devcluster.layout import find_cache
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 20


@dataclass(slots=True, kw_only=True)
class RedisProcess:
    """A Redis that keeps nothing on disk.

    Attributes:
        port: Its port, the same after each start.
        folder: Where it runs.
        password: What it asks for; empty for nothing.
        process: The server.
    """

    port: int
    folder: Path
    password: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL with the right password."""
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client for the test itself."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = redis_server.ensure(Progress(quiet=True), find_cache())
        command = program.command(self.port, self.folder)
        if self.password:
            command += ["--requirepass", self.password]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """End it at once."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running(folder: Path, *, password: str = "") -> Iterator[RedisProcess]:
    """Run a Redis until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    server = RedisProcess(port=port, folder=folder, password=password)
    server.start()
    try:
        yield server
    finally:
        server.kill()
