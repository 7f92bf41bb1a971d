"""The writer between journal and database, with a real journal and a real SQLite file."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from dspy_worker.core.search import Query
from dspy_worker.store import keeper as keepers
from dspy_worker.store.backlog import Backlog
from dspy_worker.store.journal import Journal
from dspy_worker.store.keeper import Keeper, Retention
from dspy_worker.store.source import FixedSource
from dspy_worker.store.sqlite import SQLite
from dspy_worker.store.telemetry import StoreMetrics
from tests.store_records import RECORD, feedback, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspy_worker.core.answer import Record

WAIT_SECONDS = 20
DAY_MS = 86_400_000


class Store:
    """A keeper whose database can be taken away: SQLite cannot open a file below a file."""

    def __init__(self, folder: Path, *, room: int = 1 << 20, lines: int = 10) -> None:
        self.registry = CollectorRegistry()
        self.place = folder / "place"
        self.journal = Journal(folder / "journal", room)
        self.keeper = Keeper(
            self.journal,
            Backlog(lines),
            FixedSource(SQLite(self.place / "predictions.sqlite")),
            StoreMetrics(self.registry),
            Retention(app=RECORD.app, days=1, every_seconds=0.2),
        )

    def take_away(self) -> None:
        self.place.write_text("a file")

    def give_back(self) -> None:
        self.place.unlink()

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    async def until(self, so: Callable[[], object]) -> None:
        give_up = time.monotonic() + WAIT_SECONDS
        while not so():
            assert time.monotonic() < give_up
            await asyncio.sleep(0.02)

    async def stored(self) -> list[str]:
        database = SQLite(self.place / "predictions.sqlite")
        await database.open()
        page = await database.search(Query())
        await database.close()
        return sorted(stored.record.id for stored in page.found)


def now(number: int, **changes: object) -> Record:
    """Return a prediction of now, which no retention deletes."""
    return record(number, unix_ms=time.time_ns() // 1_000_000, **changes)


async def test_what_was_noted_is_stored_and_the_segments_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keeper.note(now(1))
    await store.keeper.start()
    store.keeper.note(now(2))
    store.keeper.note_feedback(feedback(1, 2, unix_ms=time.time_ns() // 1_000_000))
    await store.until(lambda: store.count("dspy_store_written_total", kind="feedback") == 1)
    await store.until(lambda: store.count("dspy_store_spool_bytes") == 0)

    assert store.keeper.trouble() == ""
    assert store.count("dspy_store_up") == 1
    assert store.count("dspy_store_batch_size_sum") == 3
    assert (await store.keeper.library.search(Query(least_score=0.5))).found[0].record.id == "p-2"
    told = (await store.keeper.report()).document()
    assert (told["predictions"], told["feedback"]) == (2, 1)
    await store.keeper.stop()
    assert await store.stored() == ["p-1", "p-2"]


async def test_while_the_database_is_away_the_journal_grows_and_memory_does_not(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.take_away()
    await store.keeper.start()
    for number in range(30):
        store.keeper.note(now(number))
    await store.until(lambda: "cannot be used" in store.keeper.trouble())
    assert str(tmp_path) not in store.keeper.trouble()

    assert len(store.keeper._backlog) == 0
    assert store.count("dspy_store_up") == 0
    assert store.count("dspy_store_spool_bytes") == store.journal.size > 0
    await store.keeper.stop()

    again = Store(tmp_path)
    again.give_back()
    await again.keeper.start()
    await again.until(lambda: again.count("dspy_store_written_total", kind="prediction") == 30)
    await again.keeper.stop()
    assert len(await again.stored()) == 30


async def test_what_finds_room_nowhere_is_counted_and_told(tmp_path: Path) -> None:
    store = Store(tmp_path, room=2000, lines=3)
    store.take_away()
    await store.keeper.start()
    for number in range(20):
        store.keeper.note(now(number))

    lost = store.count("dspy_store_lost_total", reason="full")
    spooled = 20 - 3 - lost
    assert 0 < spooled < 17
    assert store.keeper.trouble().startswith("Predictions were lost in the last minutes.")
    assert "The journal is full." in store.keeper.trouble()

    store.give_back()
    await store.until(
        lambda: store.count("dspy_store_written_total", kind="prediction") == 3 + spooled
    )
    store.keeper.note(now(100))
    assert "full" not in store.keeper.trouble()
    await store.keeper.stop()
    assert len(await store.stored()) == 4 + spooled


async def test_memory_goes_to_the_disk_at_the_end_or_is_counted(tmp_path: Path) -> None:
    store = Store(tmp_path, room=2000, lines=10)
    store.take_away()
    await store.keeper.start()
    for number in range(8):
        store.keeper.note(now(number))
    waiting = len(store.keeper._backlog)
    await store.keeper.stop()

    assert waiting > 0
    assert store.count("dspy_store_lost_total", reason="stopped") == waiting


async def test_a_row_that_is_refused_is_given_up_and_its_neighbors_are_not(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    for number in range(9):
        store.keeper.note(now(number, **({"app": None} if number == 4 else {})))
    await store.keeper.start()
    await store.until(lambda: store.count("dspy_store_written_total", kind="prediction") == 8)
    await store.until(lambda: store.count("dspy_store_spool_bytes") == 0)

    assert store.count("dspy_store_lost_total", reason="refused") == 1
    await store.keeper.stop()
    assert "p-4" not in await store.stored()


async def test_a_damaged_segment_costs_only_its_damaged_lines(tmp_path: Path) -> None:
    first = Store(tmp_path)
    first.take_away()
    first.journal.open()
    for number in range(3):
        first.keeper.note(now(number))
    first.journal.close()
    (segment,) = (tmp_path / "journal").rglob("*.journal")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(lines[0] + lines[1].replace(b"charged", b"changed") + lines[2][:-9])
    first.give_back()

    store = Store(tmp_path)
    await store.keeper.start()
    await store.until(lambda: store.count("dspy_store_lost_total", reason="broken") == 2)
    await store.keeper.stop()

    assert await store.stored() == ["p-0"]


async def test_a_segment_that_somebody_deletes_holds_nothing_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.journal.open()
    store.keeper.note(now(1))
    store.journal.seal()
    store.journal.closed()[0].unlink()
    store.keeper.note(now(2))
    await store.keeper.start()
    await store.until(lambda: store.count("dspy_store_spool_bytes") == 0)
    await store.keeper.stop()

    assert await store.stored() == ["p-2"]


async def test_what_is_old_is_swept_again_and_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = time.time_ns() // 1_000_000 - 2 * DAY_MS
    await store.keeper.start()
    for number in range(3):
        store.keeper.note(record(number, unix_ms=old))
    store.keeper.note(record(3, unix_ms=old, app="default/other"))
    store.keeper.note(now(4))
    await store.until(lambda: store.count("dspy_store_written_total", kind="prediction") == 5)

    for _ in range(200):
        if await store.stored() == ["p-3", "p-4"]:
            break
        await asyncio.sleep(0.05)
    assert await store.stored() == ["p-3", "p-4"]
    await store.keeper.stop()


async def test_days_0_keep_for_ever(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keeper._retention = Retention(app=RECORD.app, days=0, every_seconds=0.01)
    await store.keeper.start()
    store.keeper.note(record(1, unix_ms=1))
    await store.until(lambda: store.count("dspy_store_written_total", kind="prediction") == 1)
    store.keeper.note(record(2, unix_ms=1))
    await store.until(lambda: store.count("dspy_store_written_total", kind="prediction") == 2)
    await store.keeper.stop()

    assert await store.stored() == ["p-1", "p-2"]


async def test_a_value_that_has_no_form_at_all_fails_no_prediction(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    store = Store(tmp_path)
    store.journal.open()

    store.keeper.note(now(1, prediction={"label": endless}))

    assert store.count("dspy_store_lost_total", reason="unwritable") == 1
    store.journal.close()


async def test_a_store_that_nothing_was_noted_in_stops_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.keeper.start()
    await store.keeper.stop()

    assert list((tmp_path / "journal").rglob("*.journal")) == []


def test_halves_lose_nothing() -> None:
    whole = keepers.databases.batch([record(1), feedback(1, 1), record(2)])

    one, other = keepers.databases.halves(whole)

    assert len(one) + len(other) == 3
    assert {r.id for r in (*one.predictions, *other.predictions)} == {"p-1", "p-2"}


@pytest.mark.parametrize(("lines", "size"), [(2, 100), (100, 8)])
def test_the_backlog_is_bounded_in_lines_and_bytes(lines: int, size: int) -> None:
    backlog = Backlog(lines, size)

    assert [backlog.put(b"1234") for _ in range(3)] == [True, True, False]
    assert backlog.first(1) == (b"1234",)
    backlog.drop(1)
    assert len(backlog) == 1
    assert backlog.put(b"5678")
