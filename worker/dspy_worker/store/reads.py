"""Reads of the store that are kept for some seconds, and what they cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from dspy_worker.core.answer import FeedbackRecord
    from dspy_worker.core.search import Page, Query
    from dspy_worker.store.database import Library
    from dspy_worker.store.telemetry import StoreMetrics

KEPT_SECONDS = 10.0
MOST_ANSWERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStatistics:
    """What reads have cost since the start.

    Attributes:
        kept: Answers that are kept now.
        hits: Questions that a kept answer served.
        misses: Questions that the database was asked.
        mean_milliseconds: Mean time of those; 0 where there was none.
    """

    kept: int
    hits: int
    misses: int
    mean_milliseconds: float

    @property
    def hit_rate(self) -> float:
        """The share of questions that a kept answer served."""
        return self.hits / max(1, self.hits + self.misses)


class KeptLibrary:
    """A `Library` in front of another one; answers may be some seconds old."""

    def __init__(
        self,
        library: Callable[[], Awaitable[Library]],
        metrics: StoreMetrics | None = None,
        *,
        seconds: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep nothing yet.

        Args:
            library: Gives the library that is asked.
            metrics: Where is counted, if anywhere.
            seconds: How long an answer is good.
            clock: Seconds from some moment.
        """
        self._library, self._metrics, self._clock = library, metrics, clock
        self._kept: TTLCache[Hashable, Any] = TTLCache(MOST_ANSWERS, seconds, timer=clock)
        self._hits = self._misses = 0
        self._seconds = 0.0

    async def search(self, query: Query) -> Page:
        """Return a page of predictions, the newest first."""

        async def ask() -> Page:
            return await (await self._library()).search(query)

        found: Page = await self._answer(query, ask)
        return found

    async def feedback(self, prediction_ids: Sequence[str]) -> tuple[FeedbackRecord, ...]:
        """Return what was said about predictions, the oldest first."""
        names = tuple(prediction_ids)

        async def ask() -> tuple[FeedbackRecord, ...]:
            return await (await self._library()).feedback(names)

        found: tuple[FeedbackRecord, ...] = await self._answer(names, ask)
        return found

    def statistics(self) -> ReadStatistics:
        """Return what reads have cost since the start."""
        self._kept.expire()
        mean = 1000 * self._seconds / self._misses if self._misses else 0.0
        return ReadStatistics(
            kept=len(self._kept), hits=self._hits, misses=self._misses, mean_milliseconds=mean
        )

    async def _answer(self, key: Hashable, ask: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - pages or feedback
        found = self._kept.get(key)
        if found is not None:
            self._hits += 1
            self._count(None)
            return found
        began = self._clock()
        found = self._kept[key] = await ask()
        self._misses += 1
        self._seconds += self._clock() - began
        self._count(self._clock() - began)
        return found

    def _count(self, seconds: float | None) -> None:
        if self._metrics is not None:
            self._metrics.read(seconds)
