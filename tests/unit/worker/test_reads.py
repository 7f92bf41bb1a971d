"""Reads that are kept for some seconds, with a real SQLite file behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from dspy_worker.core.search import Query
from dspy_worker.errors import StoreError
from dspy_worker.store.database import Batch
from dspy_worker.store.reads import KeptLibrary
from dspy_worker.store.sqlite import SQLite
from dspy_worker.store.telemetry import StoreMetrics
from tests.store_records import FEEDBACK, RECORD, record

if TYPE_CHECKING:
    from pathlib import Path


async def test_an_answer_is_kept_until_it_is_too_old(tmp_path: Path) -> None:
    now, registry = [0.0], CollectorRegistry()
    database = SQLite(tmp_path / "predictions.sqlite")

    async def opened() -> SQLite:
        await database.open()
        return database

    library = KeptLibrary(opened, StoreMetrics(registry), seconds=10, clock=lambda: now[0])
    await (await opened()).write(Batch(predictions=(RECORD,), feedback=(FEEDBACK,)))
    first = await library.search(Query())
    await database.write(Batch(predictions=(record(1),)))

    assert await library.search(Query()) is first
    assert len((await library.search(Query(text="twice"))).found) == 2
    assert await library.feedback(["p-0"]) == await library.feedback(["p-0"]) == (FEEDBACK,)
    told = library.statistics()
    assert (told.kept, told.hits, told.misses, told.hit_rate) == (3, 2, 3, 0.4)
    assert registry.get_sample_value("dspy_store_reads_total", {"source": "cache"}) == 2

    now[0] += 11
    assert library.statistics().kept == 0
    assert len((await library.search(Query())).found) == 2
    await database.close()


async def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    database = SQLite(tmp_path / "predictions.sqlite")

    async def itself() -> SQLite:
        return database

    library = KeptLibrary(itself)
    with pytest.raises(StoreError):
        await library.search(Query())

    await database.open()

    assert (await library.search(Query())).found == ()
    assert library.statistics().misses == 1
    await database.close()
