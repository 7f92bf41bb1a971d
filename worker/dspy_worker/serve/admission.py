"""Slots for predictions: holds back those that must wait, as `core/limiter.py` decides."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from dspy_worker.core import limiter
from dspy_worker.core.limiter import Limits, Verdict
from dspy_worker.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Admission:
    """Slots and queue of one worker; used from one event loop.

    Attributes:
        limits: How many may run and wait.
        running: Predictions that hold a slot.
    """

    def __init__(self, limits: Limits) -> None:
        """Begin with every slot free."""
        self.limits = limits
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_seconds = 0.0

    @property
    def waiting(self) -> int:
        """Return how many predictions wait for a slot."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def slot(self, *, patient: bool = False) -> AsyncIterator[float]:
        """Hold a slot and tell the seconds that it took to get it.

        Args:
            patient: Wait even if the queue is full: the items of a batch that was let in.

        Raises:
            QueueFull: All slots are busy and nobody more may wait.
        """
        asked = time.monotonic()
        await self._enter(patient=patient)
        got = time.monotonic()
        try:
            yield got - asked
        finally:
            held = time.monotonic() - got
            self._mean_seconds = limiter.moving_mean(self._mean_seconds, held)
            self._leave()

    def check(self) -> None:
        """Refuse at once what would be refused later.

        Raises:
            QueueFull: All slots are busy and nobody more may wait.
        """
        if self._verdict() is Verdict.REFUSE:
            raise self._refusal()

    async def _enter(self, *, patient: bool) -> None:
        found = self._verdict()
        if found is Verdict.RUN:
            self.running += 1
        elif found is Verdict.WAIT or patient:
            await self._wait()
        else:
            raise self._refusal()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the slot came in the same moment as the cancellation
            elif turn in self._waiting:  # else it was passed over while the cancellation was due
                self._waiting.remove(turn)
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _verdict(self) -> Verdict:
        return limiter.verdict(self.limits, running=self.running, waiting=self.waiting)

    def _refusal(self) -> QueueFull:
        seconds = limiter.retry_after(
            self.limits, waiting=self.waiting, mean_seconds=self._mean_seconds
        )
        return QueueFull(
            f"All {self.limits.concurrency} slots are busy and {self.waiting} requests wait "
            f"already; try again in {seconds} s.",
            retry_after=seconds,
        )
