"""The connection to Redis: quick to notice that it is away, and never a reason to wait long.

          answers                      no answer, or broken
    AWAY ---------> THERE  ----------------------------------> AWAY
      ^  |
      +--+ tried again in the background, after longer and longer pauses

A worker has one, for the answer cache and for the ledger of budgets, for the event loop and for
threads. While Redis is away whoever asks is refused at once. Texts of errors name hosts, and URLs
hold passwords: neither gets into a log line or into what `/v1/health` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from redis import asyncio as redis_asyncio
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from dspy_worker.core import backoff
from dspy_worker.edge import logs, patience

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dspy_worker.edge.keys import Key

_T = TypeVar("_T")

ASK_SECONDS: Final = 0.25
"""Longest time of one question, connecting included; in a thread, of each of its steps."""
CONNECTIONS: Final = 64
"""Most connections of the event loop, and again of the threads."""
LOOK_SECONDS: Final = 1.0
"""How often the URL is read again, and Redis is asked although nobody else asks it."""
STOP_SECONDS: Final = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Most seconds between attempts to reach Redis again: after the first failure, and after many."""
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


class RedisAway(Exception):  # noqa: N818 - a state and no fault of anybody
    """Redis did not say that it has done what it was asked.

    It is away, it refused, or its answer has not come; then it may have done it.
    """


@dataclass(frozen=True, slots=True, eq=False)
class _Clients:
    """Two clients of one Redis; redis-py's types say less than they do.

    Attributes:
        waiting: For the event loop.
        blocking: For threads.
    """

    waiting: Any
    blocking: Any


class RedisLink:
    """A companion that keeps Redis connected.

    Attributes:
        name: What `/v1/health` calls it.
        back: Called in the event loop whenever Redis can be asked again.
    """

    name = "redis"

    def __init__(self, url: Key) -> None:
        """Connect to nothing yet; `url` is read again and again."""
        self._url = url
        self._used: str | None = None
        self._clients: _Clients | None = None
        self._retired: list[_Clients] = []
        self._trouble = "It has not been reached yet."
        self._refused_at = float("-inf")
        self._refusal = ""
        self._lock = threading.Lock()
        self._lost = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._burials: set[asyncio.Task[None]] = set()
        self.back: list[Callable[[], None]] = []

    @property
    def is_there(self) -> bool:
        """Whether it is asked at present."""
        return self._clients is not None

    def trouble(self) -> str:
        """Return what does not work; no address, no password."""
        if not self.is_there:
            return self._trouble
        recent = time.monotonic() - self._refused_at < _REFUSED_SECONDS
        return self._refusal if recent else ""

    async def start(self) -> None:
        """Try once, so that the first requests find it; go on in the background."""
        self._loop = asyncio.get_running_loop()
        await self._connect()
        self._task = asyncio.create_task(self._tend())

    async def stop(self) -> None:
        """Close the connections."""
        tasks = [self._task, *self._burials] if self._task is not None else []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        self._replace(None)
        while self._retired:
            await _close(self._retired.pop())

    async def ask(self, question: Callable[[Any], Awaitable[_T]]) -> _T:
        """Return what Redis answers to a question by the event loop.

        Args:
            question: Gets a client (a `redis.asyncio.Redis`).

        Raises:
            RedisAway: It is away, did not answer in time, or refused.
        """
        with self._asking() as clients:
            async with patience.within(ASK_SECONDS):
                return await question(clients.waiting)

    def ask_in_thread(self, question: Callable[[Any], _T]) -> _T:
        """Return what Redis answers to a question by a thread; raises what `ask` raises.

        Args:
            question: Gets a client (a `redis.Redis`).
        """
        with self._asking() as clients:
            return question(clients.blocking)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[_Clients]:
        clients = self._clients
        if clients is None:
            raise RedisAway
        try:
            yield clients
        except _LOST as error:
            self._lose(clients, error)
            raise RedisAway from None
        except exceptions.RedisError as error:
            self._refused_at = time.monotonic()
            self._refusal = f"It refuses commands ({_code(error)})."
            raise RedisAway from None
        except Exception as error:
            if clients is self._clients:
                raise
            # Given up for the failure of another question, and closed under this one; that fails
            # in ways of uvloop's own, such as a RuntimeError for a handle that is closed.
            raise RedisAway from error

    def _lose(self, clients: _Clients, error: BaseException) -> None:
        """Ask nobody until Redis has been reached again; from any thread."""
        with self._lock:
            if clients is not self._clients:
                return
            self._clients = None
            self._retired.append(clients)
            self._tell(_what(error))
        if self._loop is not None:
            # A loop that has ended has nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._lost.set)

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("redis is away", trouble=trouble)
        self._trouble = trouble

    async def _tend(self) -> None:
        """Connect again whenever the connection is lost or the URL changes."""
        failures = 0
        while True:
            if self.is_there:
                failures = 0
                if await self._stays():
                    continue
            await self._connect()
            if not self.is_there:
                failures += 1
                jitter = random.random()  # noqa: S311 - it spreads the pods
                pause = backoff.delay(failures, jitter=jitter, base=FIRST_PAUSE, cap=LONGEST_PAUSE)
                await asyncio.sleep(pause)

    async def _stays(self) -> bool:
        """Look at Redis after a moment, or as soon as somebody finds it away.

        Returns:
            Whether it answers, and its URL is still the same.
        """
        self._lost.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._lost.wait()
        clients = self._clients
        if clients is None:
            return False
        if error := await _failure(clients):
            self._lose(clients, error)
            return False
        return self._url.read() == self._used

    async def _connect(self) -> None:
        """Take new connections into use, or none where Redis cannot be reached."""
        clients, trouble = await self._reach()
        self._replace(clients)
        self._bury()
        self._tell(trouble)
        if clients is not None:
            log.info("redis is there")
            for tell in self.back:
                tell()

    async def _reach(self) -> tuple[_Clients | None, str]:
        """Return clients that Redis answers to, or None and why not."""
        self._used = self._url.read()
        if self._used is None:
            return None, "Its URL is missing."
        try:
            clients = _make(self._used)
            error = await _failure(clients)
        except (ValueError, TypeError):
            # redis-py reads some parts of a URL only when it connects.
            return None, "Its URL cannot be used."
        if error is None:
            return clients, ""
        await _close(clients)
        return None, _what(error)

    def _replace(self, clients: _Clients | None) -> None:
        """Use other clients from now on."""
        with self._lock:
            before, self._clients = self._clients, clients
            if before is not None:
                self._retired.append(before)

    def _bury(self) -> None:
        """Let clients be closed that are not used any more."""
        while self._retired:
            task = asyncio.create_task(_close_later(self._retired.pop()))
            self._burials.add(task)
            task.add_done_callback(self._burials.discard)


def _make(url: str) -> _Clients:
    # redis-py's own retries would keep each request waiting for seconds. Its own limits are for
    # threads only: those of the event loop would count the loop's lateness as that of Redis.
    waiting = redis_asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=AsyncRetry(NoBackoff(), 0),
    )
    blocking = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=ASK_SECONDS,
        socket_timeout=ASK_SECONDS,
        socket_connect_timeout=ASK_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return _Clients(redis_asyncio.Redis.from_pool(waiting), redis.Redis.from_pool(blocking))


async def _failure(clients: _Clients) -> Exception | None:
    """Return why Redis cannot be asked, or None."""
    try:
        async with patience.within(ASK_SECONDS):
            await clients.waiting.ping()
    except (*_LOST, exceptions.RedisError) as error:
        return error
    return None


async def _close_later(clients: _Clients) -> None:
    """Close clients when all that they were asked is answered, or its time is over.

    A connection that is closed under a question makes redis-py raise whatever it stumbles over.
    """
    try:
        await asyncio.sleep(2 * ASK_SECONDS)
    finally:
        await _close(clients)


async def _close(clients: _Clients) -> None:
    with contextlib.suppress(*_LOST, exceptions.RedisError):
        async with asyncio.timeout(ASK_SECONDS):
            await clients.waiting.aclose()
    # A thread that still waits for an answer keeps its connection until its time is over.
    clients.blocking.connection_pool.disconnect(inuse_connections=False)


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
