"""Fills the memory of a worker that starts: with good answers that the store has of workers before.

It runs beside the first requests and gives way to them: a few rows at a time, then a pause. What it
takes and for how long is bounded; without the database a worker begins with an empty memory.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from dspy_worker.edge import logs
from dspy_worker.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspy_worker.cache.keeper import Keeper
    from dspy_worker.core.answer import Record
    from dspy_worker.core.search import Page, Query

MOST_ROWS: Final = 1000
"""Predictions that are looked at."""
PAGE_ROWS: Final = 10
PAUSE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
MOST_SECONDS: Final = 60.0
"""How long a worker tries; later its own answers are warmer."""
_SKEW_SECONDS: Final = 60.0
"""By how much the clock of whoever made an answer may be ahead of ours."""

log = logs.get()


class Library(Protocol):
    """Where predictions can be looked for."""

    async def search(self, query: Query) -> Page:
        """Return a page of predictions, the newest first; raises StoreError."""


class Warmer:
    """A companion that fills the memory once.

    Attributes:
        name: What `/v1/health` calls it.
    """

    name = "cache"

    def __init__(
        self,
        keeper: Keeper,
        library: Callable[[], Awaitable[Library]],
        wanted: Query,
        ttl_seconds: float,
    ) -> None:
        """Read nothing yet.

        Args:
            keeper: Whose memory is filled.
            library: Gives the store; raises StoreError while there is none.
            wanted: Whose predictions: app and variant.
            ttl_seconds: How old they may be.
        """
        self._keeper, self._library = keeper, library
        self._wanted = replace(wanted, cached=False, degraded=False, error=False, limit=PAGE_ROWS)
        self._ttl_seconds = ttl_seconds
        self._taken = 0
        self._task: asyncio.Task[None] | None = None

    def trouble(self) -> str:
        """Return nothing: the store speaks for itself, and an empty memory is no trouble."""
        return ""

    async def start(self) -> None:
        """Begin, beside the first requests."""
        self._task = asyncio.create_task(self._run(), name="cache-warming")

    async def stop(self) -> None:
        """End, if it has not."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            await self.fill()
        except Exception as error:
            log.exception("warming failed", error=type(error).__name__)
        log.info("cache warmed", answers=self._taken)

    async def fill(self) -> None:
        """Read pages until the memory is half full, or the rows or the time are over."""
        query = replace(self._wanted, since_ms=int((time.time() - self._ttl_seconds) * 1000))
        give_up = time.monotonic() + MOST_SECONDS
        left = MOST_ROWS
        while left > 0 and not self._keeper.is_half_full and time.monotonic() < give_up:
            try:
                page = await (await self._library()).search(query)
            except StoreError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for stored in page.found:
                self._take(stored.record)
            if not page.cursor:
                return
            query, left = replace(query, cursor=page.cursor), left - len(page.found)
            await asyncio.sleep(PAUSE_SECONDS)

    def _take(self, record: Record) -> None:
        age = time.time() - record.unix_ms / 1000
        if age < -_SKEW_SECONDS or self._keeper.is_half_full:
            return
        if self._keeper.warm(record, max(0.0, age)):
            self._taken += 1
