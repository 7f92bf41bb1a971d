r"""The store of a worker: notes go to the journal at once, and from there into the database.

     note -> journal on disk ---- batches ----> database -> segment deleted
       \-> (disk refuses) memory --/
             \-> (memory full) lost, counted

A batch that was committed and not yet deleted is written again after a crash, and changes nothing:
names of predictions are unique.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.core import backoff, notes
from dspy_worker.edge import clock, logs
from dspy_worker.errors import BatchRefused, StoreError
from dspy_worker.store import database as databases
from dspy_worker.store import journal as journals
from dspy_worker.store import report, telemetry
from dspy_worker.store.reads import KeptLibrary

if TYPE_CHECKING:
    from pathlib import Path

    from dspy_worker.core.answer import FeedbackRecord, Record
    from dspy_worker.core.notes import Note
    from dspy_worker.store.backlog import Backlog
    from dspy_worker.store.database import Batch, Database
    from dspy_worker.store.journal import Journal
    from dspy_worker.store.source import Source
    from dspy_worker.store.telemetry import StoreMetrics

FLUSH_SECONDS = 0.5
"""How long a note waits before it is written, at most, while the database is there."""
CHECK_SECONDS = 10.0
TOLD_SECONDS = 600.0
"""How long `/v1/health` tells of a loss."""
STOP_SECONDS = 5.0
BATCH_LINES, BATCH_BYTES = 500, 4 << 20
SWEEP_ROWS = 5000
_DAY_MS = 86_400_000

log = logs.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is deleted by age.

    Attributes:
        app: NAMESPACE/NAME of the app whose rows are meant.
        days: After how many days; 0 keeps them for ever.
        every_seconds: How often is looked.
    """

    app: str
    days: int
    every_seconds: float = 3600.0


class Keeper:
    """A `Notebook` and the `Companion` that empties it into a database.

    Attributes:
        library: Reads what is stored; answers are kept for some seconds.
    """

    name = "store"
    takes = True

    def __init__(
        self,
        journal: Journal,
        backlog: Backlog,
        source: Source,
        metrics: StoreMetrics,
        retention: Retention,
    ) -> None:
        """Touch neither disk nor network yet."""
        self._journal, self._backlog, self._source = journal, backlog, source
        self._metrics, self._retention = metrics, retention
        self.library = KeptLibrary(source.opened, metrics)
        self._task: asyncio.Task[None] | None = None
        self._trouble = "It has not been reached yet."
        self._lost_at = float("-inf")
        self._checked_at = self._swept_at = float("-inf")
        self._begins: dict[Path, int] = {}
        metrics.watch(lambda: journal.size, lambda: not self._trouble)

    def note(self, record: Record) -> None:
        """Note a prediction."""
        self._note(record)

    def note_feedback(self, record: FeedbackRecord) -> None:
        """Note what is said about a prediction."""
        self._note(record)

    def trouble(self) -> str:
        """Return in one sentence what does not work."""
        if time.monotonic() - self._lost_at < TOLD_SECONDS:
            return f"Predictions were lost in the last minutes. {self._told()}".strip()
        return self._told()

    async def start(self) -> None:
        """Begin; what was left by workers before is written first."""
        self._journal.open()
        # Not at once, and not in all pods at the same moment.
        spread = random.uniform(0.05, 0.2) * self._retention.every_seconds  # noqa: S311
        self._swept_at = time.monotonic() - self._retention.every_seconds + spread
        self._task = asyncio.create_task(self._run(), name="store")

    async def stop(self) -> None:
        """Write what can be written in a few seconds; the journal keeps the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._write_all(await self._source.opened())
        self._save_backlog()
        if self._journal.size:
            log.error("predictions left in the journal", bytes=self._journal.size)
        self._journal.close()
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._source.close()

    async def report(self) -> report.Report:
        """Return the numbers of the store and of this worker's reads.

        Raises:
            StoreError: The database cannot be asked.
        """
        return await report.make(await self._source.opened(), self.library, self._retention.app)

    def _note(self, note: Note) -> None:
        try:
            line = notes.write(note)
        except Exception as error:  # noqa: BLE001 - users' values; no prediction fails for its note
            self._lose(telemetry.UNWRITABLE, 1, type(error).__name__)
            return
        if not self._journal.append(line) and not self._backlog.put(line):
            self._lose(telemetry.FULL, 1, self._journal.trouble)

    def _told(self) -> str:
        return " ".join(filter(None, (self._trouble, self._journal.trouble)))

    def _lose(self, reason: str, number: int, why: str) -> None:
        # One line of log for all that is lost in a row, not one for each.
        if time.monotonic() - self._lost_at > 1:
            log.error("predictions lost", reason=reason, why=why)
        self._lost_at = time.monotonic()
        self._metrics.lost(reason, number)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._round()
                failures, trouble = 0, ""
            except StoreError as error:
                failures, trouble = failures + 1, str(error)
            except Exception as error:
                failures, trouble = failures + 1, "The store has failed, see the log."
                log.exception("store failed", error=type(error).__name__)
            if trouble != self._trouble:
                self._trouble = trouble
                log.warning("store fails", why=trouble) if trouble else log.info("store works")
            jitter = random.random()  # noqa: S311 - it spreads, it hides nothing
            wait = backoff.delay(failures, jitter=jitter) if failures else FLUSH_SECONDS
            await asyncio.sleep(wait)

    async def _round(self) -> None:
        database = await self._source.opened()
        await self._write_all(database)
        if self._is_due(CHECK_SECONDS, self._checked_at):
            await database.check()
            self._journal.adopt()
            self._checked_at = time.monotonic()
        retention = self._retention
        if retention.days and self._is_due(retention.every_seconds, self._swept_at):
            self._swept_at = time.monotonic()
            await sweep(database, retention, clock.unix_ms())

    def _is_due(self, seconds: float, since: float) -> bool:
        return time.monotonic() - since >= seconds

    async def _write_all(self, database: Database) -> None:
        """Write what waits by now."""
        await self._write_backlog(database)
        self._journal.seal()
        for segment in self._journal.closed():
            await self._write_segment(database, segment)

    async def _write_backlog(self, database: Database) -> None:
        while lines := self._backlog.first(BATCH_LINES):
            found = [note for line in lines if (note := notes.read(line)) is not None]
            await self._write(database, databases.batch(found))
            self._backlog.drop(len(lines))

    async def _write_segment(self, database: Database, segment: Path) -> None:
        most = (BATCH_LINES, BATCH_BYTES)
        while True:
            begin = self._begins.get(segment, 0)
            chunk = await _chunk(segment, begin, most)
            await self._write(database, databases.batch(chunk.found))
            if chunk.broken:
                self._lose(telemetry.BROKEN, chunk.broken, "a line of the journal was damaged")
            self._begins[segment] = chunk.end
            if chunk.last:
                break
        self._journal.drop(segment)
        self._begins.pop(segment, None)

    async def _write(self, database: Database, batch: Batch) -> None:
        if not len(batch):
            return
        began = time.monotonic()
        try:
            counts = await database.write(batch)
        except BatchRefused as error:
            await self._write_parts(database, batch, error)
            return
        self._metrics.duration.observe(time.monotonic() - began)
        self._metrics.batch.observe(len(batch))
        self._metrics.written(counts.predictions, counts.feedback)

    async def _write_parts(self, database: Database, batch: Batch, error: BatchRefused) -> None:
        """Find the rows that cannot be written and give up those alone."""
        if len(batch) == 1:
            self._lose(telemetry.REFUSED, 1, str(error))
            return
        for half in databases.halves(batch):
            await self._write(database, half)

    def _save_backlog(self) -> None:
        """Try once more to bring what is only in memory to the disk."""
        for line in self._backlog.first(len(self._backlog)):
            if not self._journal.append(line):
                self._lose(telemetry.STOPPED, len(self._backlog), self._journal.trouble)
                break
            self._backlog.drop(1)


async def sweep(database: Database, retention: Retention, now_ms: int) -> int:
    """Delete what is too old, some rows at a time; return how many."""
    total = 0
    before = now_ms - retention.days * _DAY_MS
    while deleted := await database.sweep(retention.app, before, SWEEP_ROWS):
        total += deleted
        await asyncio.sleep(0)
    return total


async def _chunk(segment: Path, begin: int, most: tuple[int, int]) -> journals.Chunk:
    try:
        return await asyncio.to_thread(journals.read, segment, begin, most)
    except FileNotFoundError:  # somebody has deleted it: waiting would not bring it back
        return journals.Chunk(found=(), broken=0, end=begin, last=True)
    except OSError as error:
        raise StoreError("The journal cannot be read.") from error
