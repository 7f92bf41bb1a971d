"""A real Redis for tests, on a free loopback port, that can be killed and started again."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from devcluster import redis_server
from devcluster.layout import Layout
from devcluster.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 10


@dataclass(slots=True, kw_only=True)
class RedisProcess:
    """A Redis that remembers nothing once it is killed.

    Attributes:
        port: Its port, the same after each start.
        folder: Where it may write.
        process: The server; None while it is down.
    """

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:  # noqa: ANN401 - redis-py's client
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        server = redis_server.ensure(Progress(quiet=True), Layout.of_checkout().cache)
        command = server.command(self.port, self.folder)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with self.client() as asked:
            while True:
                try:
                    asked.ping()
                except redis.RedisError:
                    assert self.process.poll() is None, "Redis has ended"
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            self.process = None


def free_port() -> int:
    """Return a port that nobody uses at present."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running() -> Iterator[RedisProcess]:
    """Run a Redis until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        found = RedisProcess(port=free_port(), folder=Path(folder))
        found.start()
        try:
            yield found
        finally:
            found.kill()
