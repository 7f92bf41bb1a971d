"""The connection to Redis: quick to notice that it is away, and never a reason to wait long.

          answers                      no answer, or broken
    AWAY ---------> THERE  ----------------------------------> AWAY
      ^  |
      +--+ tried again in the background, after longer and longer pauses

While it is away `ask` raises at once. Texts of errors name hosts, and URLs hold passwords: neither
gets into a log line or into what `/v1/health` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from dspy_worker.edge import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspy_worker.edge.keys import Key

_T = TypeVar("_T")

ASK_SECONDS: Final = 0.25
"""Longest time of one question, connecting included."""
CONNECTIONS: Final = 16
_LOOK_SECONDS: Final = 1.0
"""How often the URL is read again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_REFUSED_SECONDS: Final = 30.0
"""How long a refused command is told as trouble."""

_LOST = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.InvalidResponse,
    OSError,
    TimeoutError,
)

log = logs.get()


class RedisAway(Exception):  # noqa: N818 - reads better where it is caught
    """Redis did not do what it was asked: it is away, or it refused."""


class RedisLink:
    """A companion that keeps one client connected.

    Attributes:
        name: What `/v1/health` calls it.
    """

    name = "redis"

    def __init__(self, url: Key) -> None:
        """Connect to nothing yet; `url` is read again and again."""
        self._url = url
        self._used: str | None = None
        self._client: redis.asyncio.Redis | None = None
        self._retired: redis.asyncio.Redis | None = None
        self._trouble = "It has not been reached yet."
        self._refused_at = float("-inf")
        self._refusal = ""
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_there(self) -> bool:
        """Whether it is asked at present."""
        return self._client is not None

    def trouble(self) -> str:
        """Return what does not work; no address, no password."""
        if self._client is None:
            return self._trouble
        recent = time.monotonic() - self._refused_at < _REFUSED_SECONDS
        return self._refusal if recent else ""

    async def start(self) -> None:
        """Try once, so that the first requests find it; go on in the background."""
        await self._connect()
        self._task = asyncio.create_task(self._tend())

    async def stop(self) -> None:
        """Close the connections."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._close()

    async def ask(self, command: Callable[[Any], Awaitable[_T]]) -> _T:
        """Return what a command returns.

        Args:
            command: Gets the client (a `redis.asyncio.Redis`, whose types say less than it does).

        Raises:
            RedisAway: Redis is away, did not answer in time, or refused.
        """
        client = self._client
        if client is None:
            raise RedisAway
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await command(client)
        except _LOST as error:
            self._lose(client, error)
            raise RedisAway from None
        except exceptions.RedisError as error:
            self._refused_at = time.monotonic()
            self._refusal = f"It refuses commands ({_code(error)})."
            raise RedisAway from None

    def _lose(self, client: redis.asyncio.Redis, error: BaseException) -> None:
        if client is self._client:
            self._client, self._retired = None, client
            self._tell(_what(error))
            self._lost.set()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("redis is away", trouble=trouble)
        self._trouble = trouble

    async def _tend(self) -> None:
        """Connect again whenever the connection is lost or the URL changes."""
        failures = 0
        while True:
            if self.is_there:
                failures = 0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._lost.wait()
                if not self._lost.is_set() and self._url.read() == self._used:
                    continue
            await self._connect()
            if not self.is_there:
                failures += 1
                await asyncio.sleep(_pause(failures))

    async def _connect(self) -> None:
        await self._close()
        self._lost.clear()
        self._used = self._url.read()
        if self._used is None:
            self._tell("Its URL is missing.")
            return
        try:
            client = _client(self._used)
        except (ValueError, exceptions.RedisError):
            self._tell("Its URL cannot be used.")
            return
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await client.ping()
        except (*_LOST, exceptions.RedisError) as error:
            self._tell(_what(error))
            await _shut(client)
            return
        log.info("redis is there")
        self._client, self._trouble = client, ""

    async def _close(self) -> None:
        for client in {self._client, self._retired} - {None}:
            await _shut(client)
        self._client = self._retired = None


def _client(url: str) -> redis.asyncio.Redis:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=ASK_SECONDS,
        socket_timeout=ASK_SECONDS,
        socket_connect_timeout=ASK_SECONDS,
        # redis-py's own retries would keep each request waiting for seconds.
        retry=Retry(NoBackoff(), 0),
    )
    return redis.asyncio.Redis.from_pool(pool)


async def _shut(client: redis.asyncio.Redis | None) -> None:
    if client is not None:
        with contextlib.suppress(*_LOST, exceptions.RedisError):
            await client.aclose()


def _what(error: BaseException) -> str:
    """Return in our words what is wrong; those of the error may name a host."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return "It refuses the user or the password of its URL."
    if isinstance(error, exceptions.BusyLoadingError):
        return "It is loading its data."
    if isinstance(error, exceptions.ResponseError):
        return f"It refuses commands ({_code(error)})."
    return "It does not answer."


def _code(error: BaseException) -> str:
    """Return the word that begins Redis' own errors, such as OOM or READONLY."""
    word = str(error).partition(" ")[0]
    return word if word.isalpha() and word.isupper() else type(error).__name__


def _pause(failures: int) -> float:
    ceiling = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 10))
    return ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads the pods
