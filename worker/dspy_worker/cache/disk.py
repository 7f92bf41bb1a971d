"""The third level: answers in an SQLite file, written and read by a thread of its own.

The event loop never waits for the disk: a question that takes too long, or stands behind too many
others, is a miss. A disk that is full or a file that is damaged switches the level off for a while;
a damaged file is begun anew then.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dspy_worker.cache.diskfile import DiskFile, DiskTrouble
from dspy_worker.core import envelope
from dspy_worker.edge import logs, patience

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dspy_worker.cache.metrics import CacheMetrics
    from dspy_worker.cache.place import Place
    from dspy_worker.core.shelflife import Found, ShelfLife

_T = TypeVar("_T")

LEVEL: Final = "disk"
ASK_SECONDS: Final = 0.25
"""Longest wait for an answer from the disk."""
STEP_SECONDS: Final = 5.0
"""Longest wait for any other step, such as opening the file: nothing is held up by a disk."""
RETRY_SECONDS: Final = 60.0
"""How long the level stays off after a failure."""
CLOSE_SECONDS: Final = 2.0
_QUEUE: Final = 128
_SKEW_SECONDS: Final = 60.0
"""By how much the clock may have been set back before an answer from the future is dropped."""

log = logs.get()


class Disk:
    """Answers of one app on this pod's disk."""

    def __init__(
        self,
        folder: Path | None,
        limit: int,
        life: ShelfLife,
        metrics: CacheMetrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open nothing yet.

        Args:
            folder: Where the file lies; None where there is no place for it.
            limit: Most bytes of the file.
            life: How long answers are kept.
            metrics: Where is counted.
            wall: Seconds since 1970.
        """
        self._file = DiskFile(folder, limit) if folder else None
        self._life, self._metrics, self._wall = life, metrics, wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache-disk")
        self._waiting = 0
        self._size = (0, 0)
        self._is_on = False
        self._off_until = 0.0
        self._trouble = "" if folder else "There is no folder for answers on disk."
        metrics.watch(LEVEL, lambda: self._size[0], lambda: self._size[1])

    def trouble(self) -> str:
        """Return what does not work."""
        return self._trouble

    async def start(self) -> None:
        """Open the file."""
        await self.tend()

    async def stop(self) -> None:
        """Write what is left and close the file."""
        if self._is_on:
            await self._do(DiskFile.close, CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def get(self, place: Place) -> Found | None:
        """Return what is kept, good or stale."""
        if not self._is_on:
            return None
        began = time.perf_counter()
        text = await self._do(lambda file: file.get(place.name), ASK_SECONDS)
        self._metrics.seconds[LEVEL].observe(time.perf_counter() - began)
        found = await self._opened(place, text) if text is not None else None
        hit = found is not None and found.is_fresh
        (self._metrics.hits if hit else self._metrics.misses)[LEVEL].inc()
        return found

    async def put(self, place: Place, found: Found) -> None:
        """Keep an answer."""
        if not self._is_on:
            return
        sealed = self._life.envelope(found, self._wall())
        text = envelope.seal(place.name, sealed)
        ends = (sealed.made_ms + sealed.keep_ms) // 1000
        evicted = await self._do(lambda file: file.put(place, text, ends))
        if evicted is not None:
            self._metrics.stores[LEVEL].inc()
            self._metrics.evictions[LEVEL].inc(evicted)

    async def remove(self, variant: str, tag: str) -> None:
        """Remove answers of a variant, a tenant's tag, or both; empty for all."""
        if self._is_on:
            await self._do(lambda file: file.remove(variant, tag))

    async def marks(self) -> dict[str, str]:
        """Return what was cleared by hand; empty where the disk does not say."""
        if not self._is_on:
            return {}
        return await self._do(DiskFile.marks, ASK_SECONDS) or {}

    async def remind(self, marks: Mapping[str, str]) -> None:
        """Write marks that were learned elsewhere, for the next process."""
        if self._is_on:
            known = dict(marks)
            await self._do(lambda file: file.learn(known))

    async def tend(self) -> None:
        """Remove what is too old; switch on again what was off for long enough."""
        if self._file is None:
            return
        if not self._is_on:
            if time.monotonic() < self._off_until:
                return
            if await self._do(DiskFile.open) is None:
                return
            self._is_on, self._trouble = True, ""
        size = await self._do(lambda file: file.tend(int(self._wall())))
        self._size = size or self._size

    async def _opened(self, place: Place, text: bytes) -> Found | None:
        try:
            opened = envelope.unseal(place.name, text)
            envelope.prediction(opened.body)
        except envelope.Unreadable:
            self._metrics.poisoned[LEVEL].inc()
            await self._drop(place)
            return None
        age = self._wall() - opened.made_ms / 1000
        found = self._life.found(LEVEL, opened, age) if age > -_SKEW_SECONDS else None
        if found is None:
            await self._drop(place)
        return found

    async def _drop(self, place: Place) -> None:
        await self._do(lambda file: file.drop(place.name))

    async def _do(
        self,
        step: Callable[[DiskFile], _T],
        seconds: float = STEP_SECONDS,
    ) -> _T | None:
        """Return what a step on the thread returns; None if it fails or has to wait too long."""
        if self._file is None or self._waiting >= _QUEUE:
            return None
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, step, self._file)
        future.add_done_callback(self._came_back)
        try:
            async with patience.within(seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            self._metrics.errors[LEVEL].inc()
            self._switch_off(DiskTrouble("The disk for answers does not answer in time."))
        except DiskTrouble as error:
            self._metrics.errors[LEVEL].inc()
            self._switch_off(error)
        return None

    def _came_back(self, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # nobody may be waiting for it any more

    def _switch_off(self, error: DiskTrouble) -> None:
        if error.passes:
            return
        if str(error) != self._trouble:
            log.warning("answers are not kept on disk", trouble=str(error))
        self._is_on, self._trouble = False, str(error)
        self._off_until = time.monotonic() + RETRY_SECONDS
