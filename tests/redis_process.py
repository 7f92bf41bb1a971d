"""A real Redis for tests: on loopback, with a password, killed and started again at will."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from devcluster import redis_server
from devcluster.layout import find_cache
from devcluster.progress import Progress
from tests import ports

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "open-sesame"
_START_SECONDS = 20
_STOP_SECONDS = 10


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
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def client(self, *, decode: bool = False) -> Any:  # noqa: ANN401 - redis-py's client
        """Return a client for the test itself; with `decode` it gives texts."""
        return redis.Redis.from_url(self.url, decode_responses=decode)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        server = redis_server.ensure(Progress(quiet=True), find_cache())
        command = [*server.command(self.port, self.folder), "--requirepass", PASSWORD]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + _START_SECONDS
        with self.client() as asked:
            while True:
                try:
                    asked.ping()
                except redis.ConnectionError:
                    assert self.process.poll() is None, "Redis has ended"
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_SECONDS)
            self.process = None


@contextmanager
def running() -> Iterator[RedisProcess]:
    """Run a Redis until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        found = RedisProcess(port=ports.free(), folder=Path(folder))
        found.start()
        try:
            yield found
        finally:
            found.kill()
