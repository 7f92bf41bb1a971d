"""The cache's own life: memory that runs short, answers that were cleared, a disk to tend."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from dspy_worker.cache import pressure as gauges
from dspy_worker.cache.memory import LEVEL
from dspy_worker.core import generation, pressure
from dspy_worker.edge import logs
from dspy_worker.edge.redis_link import RedisAway

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspy_worker.cache.keeper import Keeper, Levels
    from dspy_worker.cache.metrics import CacheMetrics
    from dspy_worker.core.generation import Generations
    from dspy_worker.core.pressure import Reading

SWEEP_SECONDS: Final = 1.0
"""How often everything is looked at; what was cleared by hand is gone after two of them at most."""
_DISK_SECONDS: Final = 10.0
_FINISH_SECONDS: Final = 2.0

log = logs.get()


class Caretaker:
    """A companion that looks after the levels.

    Attributes:
        name: What `/v1/health` calls it.
    """

    name = "cache"

    def __init__(
        self,
        keeper: Keeper,
        levels: Levels,
        generations: Generations,
        metrics: CacheMetrics,
        readings: Callable[[], Sequence[Reading]] | None = None,
    ) -> None:
        """Do nothing yet; `readings` tells how much memory is used."""
        self._keeper, self._levels = keeper, levels
        self._generations, self._metrics = generations, metrics
        self._readings = readings or gauges.Gauges().readings
        self._evicted = 0
        self._task: asyncio.Task[None] | None = None
        metrics.watch(LEVEL, lambda: levels.memory.bytes, lambda: len(levels.memory))

    def trouble(self) -> str:
        """Return what does not work on disk; Redis speaks for itself."""
        return self._levels.disk.trouble() if self._levels.disk else ""

    async def start(self) -> None:
        """Open the disk and learn what was cleared while nobody was here."""
        if self._levels.disk:
            await self._levels.disk.start()
            self._generations.learn(await self._levels.disk.marks())
        await self.learn()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is being written, and close the disk."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._keeper.finish(_FINISH_SECONDS)
        if self._levels.disk:
            await self._levels.disk.stop()

    async def learn(self) -> None:
        """Learn what was cleared by hand; tell it to whoever has not heard of it."""
        disk, shared = self._levels.disk, self._levels.shared
        news = []
        if disk:
            on_disk = await disk.marks()
            news = self._generations.learn(on_disk)
        if shared and shared.is_there:
            with contextlib.suppress(RedisAway):
                marks = await shared.marks()
                heard = self._generations.learn(marks)
                news += heard
                await self._remove_from_disk(heard)
                await shared.remind(self._generations.unknown_to(marks))
        if news:
            self._levels.memory.clear()
            log.info("answers were cleared", marks=len(news))

    def make_room(self) -> None:
        """Shrink the memory level while memory runs short, and let it grow again."""
        memory = self._levels.memory
        before = memory.bytes
        memory.limit(
            pressure.room(
                self._readings(),
                allowed=memory.allowed,
                present=memory.bytes,
                budget=memory.budget,
            )
        )
        if memory.bytes < before:
            gauges.give_back()

    async def _remove_from_disk(self, names: Sequence[str]) -> None:
        if self._levels.disk and names:
            for name in names:
                await self._levels.disk.remove(*generation.parts(name))
            await self._levels.disk.remind(self._generations.marks)

    async def _run(self) -> None:
        tended = time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.make_room()
            self._levels.memory.sweep()
            evicted = self._levels.memory.evicted
            self._metrics.evictions[LEVEL].inc(evicted - self._evicted)
            self._evicted = evicted
            await self.learn()
            if self._levels.disk and time.monotonic() - tended >= _DISK_SECONDS:
                tended = time.monotonic()
                await self._levels.disk.tend()
