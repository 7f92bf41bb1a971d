"""Filling the memory of a worker that starts, from predictions in a real SQLite store."""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from dspy_worker.cache import build, warming
from dspy_worker.cache.warming import Warmer
from dspy_worker.contract import app
from dspy_worker.core.search import Query
from dspy_worker.edge.call import Call, Origin
from dspy_worker.errors import StoreError
from dspy_worker.serve import parts
from dspy_worker.serve.runtime import Folders
from dspy_worker.store.database import Batch
from dspy_worker.store.sqlite import SQLite
from tests import store_records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dspy_worker.core.answer import Record

DOCUMENT: dict[str, Any] = {
    "apiVersion": app.API_VERSION,
    "kind": app.KIND,
    "metadata": {"name": "qa", "namespace": "default"},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "a"}], "outputs": [{"name": "b"}]}},
        "models": [{"name": "main", "model": "m", "endpoint": "http://lm/v1"}],
        "cache": {"ttlSeconds": 1000},
    },
}
TTL_SECONDS = 1000
NUMBERS = itertools.count()


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    """Return the app with some of its parts changed."""
    described = copy.deepcopy(DOCUMENT)
    spec = described["spec"]
    for name, values in parts.items():
        part = spec["models"][0] if name == "model" else spec.setdefault(name, {})
        part |= values
    return described


class Pod:
    """The cache of one worker, and how often its program was asked."""

    def __init__(self, described: dict[str, Any] | None = None, variant: str = "v") -> None:
        self.registry, self.variant, self.asked = CollectorRegistry(), variant, 0
        document = app.load(described or DOCUMENT)
        self.cache = build.build(document, variant, self.registry, link=None, data=None)
        self.keeper = self.cache.keeper

    async def answer(self, text: str, tenant: str = "", **origin: bool) -> Record:
        """Ask, and return what the store is told."""
        call = Call(time.monotonic() + 60, Origin(tenant=tenant, **origin))

        async def ask() -> dict[str, Any]:
            self.asked += 1
            return {"b": f"answer {self.asked}"}

        inputs = {"a": text}
        answer = await self.keeper.answer(lambda: inputs, call, ask)
        return replace(
            store_records.RECORD,
            id=f"p-{next(NUMBERS)}",
            unix_ms=now_ms(),
            app="default/qa",
            variant=self.variant,
            tenant=tenant,
            inputs=inputs,
            prediction=answer.prediction,
            question=answer.question,
            cached=answer.kept.level if answer.kept else "",
        )

    @property
    def warmed(self) -> float:
        return self.registry.get_sample_value("dspy_cache_warmed_total") or 0.0


@dataclass
class Store:
    """A database, and whether it can be used."""

    database: SQLite
    troubles: int = 0
    asked: list[Query] = field(default_factory=list)

    async def write(self, *records: Record) -> None:
        await self.database.write(Batch(predictions=records))

    async def library(self) -> SQLite:
        if self.troubles:
            self.troubles -= 1
            raise StoreError("It is away.")
        return self.database

    async def warm(self, pod: Pod) -> None:
        """Do what a worker does that starts."""
        await self.warmer(pod).fill()

    def warmer(self, pod: Pod) -> Warmer:
        wanted = Query(app="default/qa", variant=pod.variant)
        return Warmer(pod.keeper, self.library, wanted, TTL_SECONDS)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    database = SQLite(tmp_path / "predictions.sqlite")
    await database.open()
    yield Store(database)
    await database.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_the_next_worker_answers_what_this_one_has_answered(store: Store) -> None:
    await store.write(await Pod().answer("x", "acme"), await Pod().answer("x", "beta"))
    pod = Pod()

    await store.warm(pod)

    assert pod.warmed == 2
    kept = [await pod.answer("x", tenant) for tenant in ("acme", "beta")]
    assert [record.cached for record in kept] == ["memory", "memory"]
    await pod.answer("x", "other")
    assert pod.asked == 1, "nobody gets the answer of another tenant"


@pytest.mark.parametrize(
    "described",
    [
        changed(model={"temperature": "0.5"}),
        changed(model={"model": "other"}),
        changed(serving={"includeReasoning": True}),
        changed(cache={"scope": "App"}),
    ],
    ids=["temperature", "model", "reasoning", "scope"],
)
async def test_answers_of_other_settings_are_not_used(
    store: Store, described: dict[str, Any]
) -> None:
    await store.write(await Pod().answer("x", "acme"))
    pod = Pod(described)

    await store.warm(pod)

    assert pod.warmed == 0
    assert (await pod.answer("x", "acme")).cached == ""


CHANGES: dict[str, dict[str, Any]] = {
    "degraded": {"degraded": ("fallback:other",)},
    "failed": {"prediction": None, "error": "LMUnavailable"},
    "given before": {"cached": "memory"},
    "of another app": {"app": "default/other"},
    "of another variant": {"variant": "w"},
    "of another tenant": {"tenant": "beta"},
    "of a version before": {"question": ""},
    "that the database holds otherwise": {"inputs": {"a": "x\0"}},
    "too old": {"unix_ms": now_ms() - 1000 * TTL_SECONDS - 1},
    "of the future": {"unix_ms": now_ms() + 3_600_000},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_an_answer_is_not_used(store: Store, change: dict[str, Any]) -> None:
    await store.write(replace(await Pod().answer("x"), **change))
    pod = Pod()

    await store.warm(pod)

    assert pod.warmed == 0


@pytest.mark.parametrize("text", ["a\0b", "half \ud800"])
async def test_a_question_that_the_database_cannot_hold_answers_no_other(
    store: Store, text: str
) -> None:
    await store.write(await Pod().answer(text))
    stored = (await store.database.search(Query())).found[0].record.inputs["a"]
    pod = Pod()

    await store.warm(pod)

    assert stored != text
    assert (await pod.answer(stored)).cached == ""


async def test_an_answer_that_was_not_to_be_kept_is_not_kept_by_the_next_worker(
    store: Store,
) -> None:
    await store.write(await Pod().answer("x", keep=False))
    pod = Pod()

    await store.warm(pod)

    assert pod.warmed == 0


async def test_what_was_cleared_by_hand_stays_cleared(store: Store) -> None:
    await store.write(await Pod().answer("x"))
    pod = Pod()
    pod.cache.caretaker._generations.learn({"*/*": "000000000000001-aa"})

    await store.warm(pod)

    assert pod.warmed == 0


async def test_the_newest_answer_wins_and_none_that_is_there_is_replaced(store: Store) -> None:
    pod, before = Pod(), Pod()
    for age in (30, 20, 10):
        record = await before.answer("x", fresh=True)
        await store.write(replace(record, unix_ms=now_ms() - age * 1000))
    await store.write(await Pod().answer("y"))
    own = await pod.answer("y")

    await store.warm(pod)

    assert (await pod.answer("x")).prediction == {"b": "answer 3"}
    assert (await pod.answer("y")).prediction == own.prediction
    assert pod.warmed == 1


async def test_half_of_the_memory_is_left_for_what_is_asked(store: Store) -> None:
    before = Pod()
    await store.write(*[await before.answer(f"{n}") for n in range(10)])
    pod = Pod()
    memory = pod.cache.caretaker._levels.memory
    memory.limit(6000)

    await store.warm(pod)

    assert 3000 <= memory.bytes < 4000
    assert pod.warmed == len(memory)


async def test_no_more_rows_are_looked_at_than_a_start_is_worth(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "MOST_ROWS", 2 * warming.PAGE_ROWS)
    monkeypatch.setattr(warming, "PAUSE_SECONDS", 0)
    before = Pod()
    await store.write(*[await before.answer(f"{n}") for n in range(3 * warming.PAGE_ROWS)])
    pod = Pod()

    await store.warm(pod)

    assert pod.warmed == 2 * warming.PAGE_ROWS


async def test_a_store_that_is_away_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "RETRY_SECONDS", 0)
    await store.write(await Pod().answer("x"))
    store.troubles = 3
    pod = Pod()

    await store.warm(pod)

    assert pod.warmed == 1


async def test_a_store_that_stays_away_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "RETRY_SECONDS", 0)
    monkeypatch.setattr(warming, "MOST_SECONDS", 0.01)
    store.troubles = 10**9
    pod = Pod()

    await store.warm(pod)

    assert pod.warmed == 0


@pytest.mark.parametrize(
    ("program", "file", "known"),
    [
        (DOCUMENT["spec"]["program"], "", True),
        ({"python": {"entrypoint": "users:make"}}, "users.py", True),
        ({"python": {"entrypoint": "users:make"}}, "notes.txt", False),
        ({"python": {"entrypoint": "users:make"}}, "", False),
    ],
    ids=["declared", "a file", "another file", "no folder"],
)
def test_code_that_only_the_image_has_may_have_changed(
    tmp_path: Path, program: dict[str, Any], file: str, *, known: bool
) -> None:
    if file:
        (tmp_path / file).write_text("")
    document = app.load({**DOCUMENT, "spec": {**DOCUMENT["spec"], "program": program}})

    folders = Folders(source=tmp_path if file else None)

    assert parts._knows_code(document, folders) is known


async def test_a_worker_that_stops_while_it_warms_does_not_wait(store: Store) -> None:
    store.troubles = 10**9
    warmer = store.warmer(Pod())
    await warmer.start()
    await asyncio.sleep(0)

    await warmer.stop()

    assert warmer._task is not None
    assert warmer._task.cancelled()
    assert warmer.trouble() == ""
