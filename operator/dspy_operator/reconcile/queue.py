"""A queue of keys: each key waits once and runs once at a time; failures back off per key.

`Schedule` decides and takes the time as an argument; `Queue` gives it a clock and workers. A key
may be asked for as a minor matter, such as a status that has moved on: it goes last while there is
other work, but not for ever.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from typing import TYPE_CHECKING, Final

import structlog

from dspy_operator.errors import OperatorError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspy_operator.core.manifest import Key
    from dspy_operator.edge.telemetry import Telemetry

_log = structlog.get_logger(__name__)

_UNEXPECTED_AFTER: Final = 0.5
_UNEXPECTED_LIMIT: Final = 300.0
_NEWS_AFTER: Final = 0.5
"""Longest wait in seconds of a key that failed where there was news during its run."""


_REST: Final = 0.25
"""Seconds between the end of a run and the next: the events of one change come in a row."""

_PATIENCE: Final = 15.0
"""Seconds that a minor matter waits for others at most."""

_REMEMBERED: Final = 5000


class Schedule:
    """Which key is due when. All times are seconds of one clock."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        """Start empty; `jitter` returns a factor around 1 that spreads retries."""
        self._jitter = jitter
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._minor: dict[Key, float] = {}
        self._minor_heap: list[tuple[float, Key]] = []
        self._running: dict[Key, float] = {}
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._rested: dict[Key, float] = {}

    def add(self, key: Key, at: float, *, minor: bool = False) -> None:
        """Ask for a look at a key, at that time or sooner if it was already due sooner.

        Args:
            key: The key.
            at: When it is due.
            minor: Whether all others that are due may go first, for so long as patience lasts.
        """
        if key in self._running:
            self._again[key] = minor and self._again.get(key, True)
            return
        at = max(at, self._rested.get(key, at))
        if minor:
            _earlier(self._minor, self._minor_heap, key, at)
        _earlier(self._due, self._heap, key, at + _PATIENCE if minor else at)

    def take(self, now: float) -> Key | None:
        """Return a due key and count it as running; None while none is due."""
        for due, heap in ((self._due, self._heap), (self._minor, self._minor_heap)):
            first = _first(due, heap)
            if first is not None and first[0] <= now:
                return self._run(first[1], now)
        return None

    def _run(self, key: Key, now: float) -> Key:
        for known in (self._due, self._minor, self._rested):
            known.pop(key, None)
        self._running[key] = now
        return key

    def succeed(self, key: Key, now: float, look_again_after: float | None = None) -> None:
        """End a run; what was asked for meanwhile is due at once."""
        self._failures.pop(key, None)
        self._end(key, None if look_again_after is None else now + look_again_after, now)

    def fail(self, key: Key, now: float, *, first: float, limit: float) -> float:
        """End a run that failed and return the seconds to the next one.

        News that came during the run may be the remedy, and the run may have missed them; they
        shorten the wait, but never to nothing.

        Args:
            key: The key.
            now: The present moment.
            first: Wait after the first failure; each further one in a row doubles it.
            limit: Longest wait.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        wait = min(limit, first * float(1 << min(failures, 30))) * self._jitter()
        if self._again.pop(key, None) is not None:
            wait = min(wait, _NEWS_AFTER)
        self._end(key, now + wait, now)
        return wait

    def next_due(self) -> float | None:
        """Return when the next key may run; None while no key waits."""
        found = [_first(self._due, self._heap), _first(self._minor, self._minor_heap)]
        return min((each[0] for each in found if each is not None), default=None)

    def depth(self, now: float) -> int:
        """Return how many keys are due and wait for a worker, minor matters left out."""
        return sum(at <= now for at in self._due.values())

    def waiting(self) -> set[Key]:
        """Return the keys that wait, due or not."""
        return set(self._due)

    def is_busy(self, now: float) -> bool:
        """Return whether a key is due and waits for a worker, minor matters left out."""
        first = _first(self._due, self._heap)
        return first is not None and first[0] <= now

    def running(self) -> int:
        """Return how many keys run."""
        return len(self._running)

    def longest(self, now: float) -> float:
        """Return the age of the oldest run in seconds."""
        return max((now - at for at in self._running.values()), default=0.0)

    def _end(self, key: Key, at: float | None, now: float) -> None:
        self._running.pop(key, None)
        if len(self._rested) > _REMEMBERED:
            self._rested = {k: at for k, at in self._rested.items() if at > now}
        self._rested[key] = now + _REST
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, now, minor=again)
        if at is not None and again is not False:
            self.add(key, at)


def _earlier(due: dict[Key, float], heap: list[tuple[float, Key]], key: Key, at: float) -> None:
    """Note when a key is due, unless it is due sooner."""
    if key not in due or at < due[key]:
        due[key] = at
        heapq.heappush(heap, (at, key))


def _first(due: dict[Key, float], heap: list[tuple[float, Key]]) -> tuple[float, Key] | None:
    """Return the first entry that still holds, and forget those before it that do not."""
    while heap and due.get(heap[0][1]) != heap[0][0]:
        heapq.heappop(heap)
    return heap[0] if heap else None


class Queue:
    """Runs `work` for each key that is asked for, by a fixed number of workers.

    Attributes:
        drained: Set once every key that waited when the queue opened was looked at.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing runs before `open`.

        Args:
            work: Looks at one key; returns the seconds after which to look again, or None.
            telemetry: Counts.
            clock: Seconds from any fixed point.
        """
        self.drained = asyncio.Event()
        self._work = work
        self._telemetry = telemetry
        self._clock = clock
        self._schedule = Schedule(lambda: random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries
        self._news = asyncio.Event()
        self._opened = asyncio.Event()
        self._first: set[Key] = set()
        self._stopping = False
        telemetry.queue_depth.set_function(lambda: self._schedule.depth(clock()))
        telemetry.queue_longest.set_function(self.longest)

    def add(self, key: Key, after: float = 0.0) -> None:
        """Ask for a look at a key."""
        self._add(key, after, minor=False)

    def add_minor(self, key: Key) -> None:
        """Ask for a look at a key once there is nothing better to do, soon in any case."""
        self._add(key, 0.0, minor=True)

    def _add(self, key: Key, after: float, *, minor: bool) -> None:
        self._telemetry.queue_adds.inc()
        self._schedule.add(key, self._clock() + after, minor=minor)
        self._news.set()

    def open(self) -> None:
        """Let the workers begin; before that everything known at the start must be listed."""
        self._first = self._schedule.waiting()
        if not self._first:
            self.drained.set()
        self._opened.set()

    def is_busy(self) -> bool:
        """Return whether other keys wait for a worker now."""
        return self._schedule.is_busy(self._clock())

    def longest(self) -> float:
        """Return the age of the oldest run in seconds."""
        return self._schedule.longest(self._clock())

    async def stop(self, patience: float) -> None:
        """Give out no more keys, and wait until the running ones are done, or patience ends."""
        self._stopping = True
        deadline = self._clock() + patience
        while self._schedule.running() and self._clock() < deadline:  # noqa: ASYNC110 - once
            await asyncio.sleep(0.05)

    async def run_worker(self) -> None:
        """Take keys one after the other; never returns."""
        await self._opened.wait()
        while True:
            key = None if self._stopping else self._schedule.take(self._clock())
            if key is None:
                await self._idle()
            else:
                await self._run(key)

    async def _idle(self) -> None:
        self._news.clear()
        due = self._schedule.next_due()
        wait = 1.0 if due is None else min(1.0, max(0.005, due - self._clock()))
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            return

    async def _run(self, key: Key) -> None:
        started = self._clock()
        result = "success"
        try:
            look_again_after = await self._work(key)
            self._schedule.succeed(key, self._clock(), look_again_after)
        except OperatorError as error:
            result = "error"
            self._failed(key, error)
        except Exception as error:  # noqa: BLE001 - one app's surprise must not end the operator
            result = "panic"
            _log.exception("unexpected error", app=str(key))
            self._retry(key, type(error).__name__, _UNEXPECTED_AFTER, _UNEXPECTED_LIMIT)
        self._note_look(key)
        self._telemetry.reconciles.labels("DSPyApp", result).inc()
        self._telemetry.reconcile_seconds.labels("DSPyApp").observe(self._clock() - started)

    def _note_look(self, key: Key) -> None:
        """Note a look; one that failed counts too, the app's status or the metrics tell of that."""
        self._first.discard(key)
        if not self._first:
            self.drained.set()

    def _failed(self, key: Key, error: OperatorError) -> None:
        if error.retry_after is None:
            self._telemetry.errors.labels(error.reason).inc()
            self._schedule.succeed(key, self._clock())
            return
        wait = self._retry(key, error.reason, error.retry_after, error.retry_limit)
        shown = _log.debug if isinstance(error, UnavailableError) else _log.warning
        shown("will try again", app=str(key), error=str(error), seconds=round(wait, 1))

    def _retry(self, key: Key, reason: str, first: float, limit: float) -> float:
        self._telemetry.errors.labels(reason).inc()
        self._telemetry.queue_retries.inc()
        wait = self._schedule.fail(key, self._clock(), first=first, limit=limit)
        self._news.set()
        return wait
