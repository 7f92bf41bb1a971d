"""The way to Redis: its URL, its connections, and what happens while it is away.

Whoever asks Redis does so through `ask` or `ask_in_thread`. A failure shuts the way: from then on
the question is refused at once, without a wait, until a task in the background has reached Redis
again. That task waits longer after each failure, up to `SLOWEST`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from dspy_worker.edge import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspy_worker.edge.keys import Key

SECONDS: Final = 0.25
"""Longest wait for a connection or an answer."""
CONNECTIONS: Final = 64
QUICKEST, SLOWEST = 0.1, 2.0
"""Seconds between attempts to reach Redis again."""
LOOK_SECONDS: Final = 2.0
"""Seconds between looks at the URL, and at Redis while nobody else asks it."""
STOP_SECONDS: Final = 2.0
FAILURES: Final = (redis.RedisError, OSError, TimeoutError)

T = TypeVar("T")
log = logs.get()


class Away(Exception):  # noqa: N818 - a state and no fault of anybody
    """Redis cannot be asked at present, or its answer has not come."""


class RedisLink:
    """One Redis for the event loop and for threads."""

    name = "redis"

    def __init__(self, url: Key, seconds: float = SECONDS) -> None:
        """Connect to nothing yet.

        Args:
            url: Where the URL comes from; it may change.
            seconds: Longest wait for a connection or an answer.
        """
        self._url = url
        self._seconds = seconds
        self._used: str | None = None
        self._waiting: Any = None
        self._blocking: Any = None
        self._open = True
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self.back: list[Callable[[], None]] = []
        """Called in the event loop when Redis can be asked again."""

    @property
    def is_open(self) -> bool:
        """Whether it is worth asking."""
        return self._open

    def trouble(self) -> str:
        """Return what does not work; empty if all does."""
        if self._open:
            return ""
        return "It cannot be reached." if self._used else "Its URL is missing."

    async def start(self) -> None:
        """Begin to watch over the way."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
        await self._drop()

    async def ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        """Return what Redis answers to a question by the event loop.

        Raises:
            Away: It cannot be asked, or its answer has not come; then it may have done it.
        """
        if not self._open:
            raise Away
        try:
            return await question(self._clients()[0])
        except FAILURES as error:
            self._shut(error)
            raise Away from error

    def ask_in_thread(self, question: Callable[[Any], T]) -> T:
        """Return what Redis answers to a question by a thread; raises what `ask` raises."""
        if not self._open:
            raise Away
        try:
            return question(self._clients()[1])
        except FAILURES as error:
            self._shut(error)
            raise Away from error

    def _clients(self) -> tuple[Any, Any]:
        """Return the clients for the loop and for threads; others when the URL has changed."""
        url = self._url.read()
        if url is None:
            self._used = None
            raise redis.ConnectionError("the URL is missing")
        with self._lock:
            if url != self._used:
                self._waiting, self._blocking = self._connect(url)
                self._used = url
            return self._waiting, self._blocking

    def _connect(self, url: str) -> tuple[Any, Any]:
        """Return new clients; connections of the old ones end when nobody uses them any more."""
        common = {
            "socket_timeout": self._seconds,
            "socket_connect_timeout": self._seconds,
            "max_connections": CONNECTIONS,
            "timeout": self._seconds,
        }
        try:
            waiting = redis_asyncio.BlockingConnectionPool.from_url(
                url, retry=AsyncRetry(NoBackoff(), 0), **common
            )
            blocking = redis.BlockingConnectionPool.from_url(
                url, retry=Retry(NoBackoff(), 0), **common
            )
        except ValueError as error:
            raise redis.ConnectionError("the URL is not one of Redis") from error
        return redis_asyncio.Redis.from_pool(waiting), redis.Redis.from_pool(blocking)

    def _shut(self, error: Exception) -> None:
        with self._lock:
            was, self._open = self._open, False
        if was:
            log.warning("redis is away", error=type(error).__name__)
        if self._loop is not None:
            # A loop that has ended has nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake.set)

    async def _watch(self) -> None:
        """Look at Redis now and then; while it is away, until it is back."""
        pause = QUICKEST
        while True:
            if await self._reach():
                pause = QUICKEST
                await self._until(LOOK_SECONDS)
            else:
                spread = 1 - random.random() / 2  # noqa: S311 - spreads load, guards nothing
                await asyncio.sleep(pause * spread)
                pause = min(SLOWEST, pause * 2)

    async def _until(self, seconds: float) -> None:
        """Wait, though no longer than until somebody has found Redis away."""
        self._wake.clear()
        if not self._open:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _reach(self) -> bool:
        try:
            await self._clients()[0].ping()
        except FAILURES as error:
            self._shut(error)
            return False
        with self._lock:
            was, self._open = self._open, True
        if not was:
            log.info("redis is back")
            for tell in self.back:
                tell()
        return True

    async def _drop(self) -> None:
        waiting, blocking = self._waiting, self._blocking
        self._used = self._waiting = self._blocking = None
        if waiting is not None:
            with contextlib.suppress(*FAILURES):
                await waiting.aclose(close_connection_pool=True)
        if blocking is not None:
            blocking.close()


def monotonic_ms() -> int:
    """Return milliseconds that never jump."""
    return time.monotonic_ns() // 1_000_000
