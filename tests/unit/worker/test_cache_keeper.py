"""The shelf on memory and disk: leaders and followers, old answers, clocks that jump."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from dspy_worker.cache.caretaker import Caretaker
from dspy_worker.cache.disk import Disk
from dspy_worker.cache.diskfile import DiskFile, DiskTrouble
from dspy_worker.cache.keeper import Keeper, Levels
from dspy_worker.cache.memory import Memory
from dspy_worker.cache.metrics import CacheMetrics
from dspy_worker.cache.place import Place
from dspy_worker.contract import app
from dspy_worker.core.cachekey import KeyMaker
from dspy_worker.core.generation import Generations
from dspy_worker.core.pressure import Reading
from dspy_worker.core.shelflife import Found, ShelfLife
from dspy_worker.edge.call import Call, Origin
from dspy_worker.errors import (
    DeadlineExceeded,
    LMAnswerUnusable,
    LMCircuitOpen,
    LMCredentialsMissing,
    LMUnavailable,
    ProgramRaised,
    QueueFull,
    WorkerError,
)
from tests import store_records

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from dspy_worker.core.answer import Answer, Record

DOCUMENT = app.load(
    {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "qa"},
        "spec": {
            "program": {"signature": {"inputs": [{"name": "a"}], "outputs": [{"name": "b"}]}},
            "models": [{"name": "main", "model": "m", "endpoint": "http://lm/v1"}],
            "cache": {},
        },
    }
)
LIFE = ShelfLife(ttl_seconds=100, stale_seconds=50)
DISK_BYTES = 1 << 20


@dataclass
class World:
    """A shelf whose clock stands still until a test moves it.

    Attributes:
        now: Reading of its clocks.
        asked: How often the program was asked.
        outcome: What the program does.
    """

    folder: Path | None = None
    now: float = 1_000_000.0
    asked: int = 0
    outcome: Callable[[], Coroutine[Any, Any, dict[str, Any]]] | None = None
    keeper: Keeper = field(init=False)
    levels: Levels = field(init=False)
    generations: Generations = field(default_factory=Generations)

    def __post_init__(self) -> None:
        self.metrics = CacheMetrics(CollectorRegistry())
        wall = lambda: self.now  # noqa: E731 - a clock
        disk = Disk(self.folder, DISK_BYTES, LIFE, self.metrics, wall) if self.folder else None
        memory = Memory(1 << 20, LIFE.stale_seconds, lambda: self.now)
        self.levels = Levels(memory=memory, disk=disk)
        maker = KeyMaker(DOCUMENT, variant="v", dspy_version="3")
        self.keeper = Keeper(
            maker, self.levels, LIFE, self.generations, self.metrics, chance=lambda: 0.5
        )

    async def ask(self) -> dict[str, Any]:
        self.asked += 1
        number = self.asked
        if self.outcome is not None:
            return await self.outcome()
        return {"b": number}

    def answer(self, call: Call | None = None, text: str = "x") -> Coroutine[Any, Any, Answer]:
        call = call or Call(time.monotonic() + 60)
        return self.keeper.answer(lambda: {"a": text}, call, self.ask)

    def fails(self, error: Exception) -> None:
        async def fail() -> dict[str, Any]:
            await asyncio.sleep(0)
            raise error

        self.outcome = fail


async def test_an_answer_is_given_until_its_time_is_over() -> None:
    world = World()
    await world.answer()

    world.now += 99
    kept = await world.answer()
    world.now += 1
    anew = await world.answer()

    assert kept.kept is not None
    assert (kept.prediction, kept.kept.age_seconds) == ({"b": 1}, 99)
    assert (anew.prediction, anew.kept) == ({"b": 2}, None)


async def test_what_a_client_does_with_its_answer_does_not_change_what_is_kept() -> None:
    world = World()
    await world.answer()
    first = await world.answer()
    dict.__setitem__(first.prediction, "b", "spoilt")  # type: ignore[arg-type]

    assert (await world.answer()).prediction == {"b": 1}


async def test_equal_questions_at_once_are_asked_once() -> None:
    world = World()

    async def slow() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"b": "slow"}

    world.outcome = slow
    calls = [Call(time.monotonic() + 60) for _ in range(100)]
    found = await asyncio.gather(*(world.answer(call) for call in calls))

    levels = [answer.kept.level for answer in found if answer.kept]
    assert world.asked == 1
    assert levels == ["flight"] * 99
    assert all(call.waited > 0 for call in calls[1:])
    assert calls[0].waited == 0


@pytest.mark.parametrize(
    ("error", "times"),
    [
        pytest.param(LMUnavailable("away"), 1, id="shared: away"),
        pytest.param(LMCircuitOpen("open"), 1, id="shared: circuit"),
        pytest.param(LMAnswerUnusable("odd"), 1, id="shared: unusable"),
        pytest.param(ProgramRaised("bug"), 1, id="shared: program"),
        pytest.param(QueueFull("full", retry_after=3), 10, id="own: queue"),
        pytest.param(DeadlineExceeded("late"), 10, id="own: deadline"),
    ],
)
async def test_failures_of_the_lm_are_shared_and_those_of_the_leader_are_not(
    error: WorkerError, times: int
) -> None:
    world = World()
    world.fails(error)

    found = await asyncio.gather(*(world.answer() for _ in range(10)), return_exceptions=True)

    assert world.asked == times
    assert {type(one) for one in found} == {type(error)}
    assert {getattr(one, "retry_after", 0) for one in found} == {error.retry_after}
    assert await is_free(world)


async def is_free(world: World) -> bool:
    """Return whether nothing stays behind that the next request would wait for."""
    world.outcome = None
    return (await world.answer()).kept is None


async def test_another_leads_when_the_leader_is_cancelled() -> None:
    world = World()

    async def hang() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    world.outcome = hang
    leader = asyncio.create_task(world.answer())
    await asyncio.sleep(0.01)
    world.outcome = None
    followers = [asyncio.create_task(world.answer()) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert world.asked == 1

    leader.cancel()
    found = await asyncio.gather(*followers)

    assert [answer.prediction for answer in found] == [{"b": 2}] * 5
    assert world.asked == 2


async def test_a_degraded_answer_is_shared_as_such_and_not_kept() -> None:
    world = World()
    leader, follower = Call(time.monotonic() + 60), Call(time.monotonic() + 60)

    async def fall_back() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        leader.degrade("fallback:spare")
        return {"b": "spare"}

    world.outcome = fall_back
    await asyncio.gather(world.answer(leader), world.answer(follower))

    assert follower.degraded == ("fallback:spare",)
    assert await is_free(world)


@pytest.mark.parametrize(
    "error", [LMUnavailable, LMCircuitOpen, LMCredentialsMissing, DeadlineExceeded]
)
async def test_an_old_answer_is_better_than_these(error: type[WorkerError]) -> None:
    world = World()
    await world.answer()
    world.now += 120
    world.fails(error("no"))
    calls = [Call(time.monotonic() + 60) for _ in range(3)]

    found = await asyncio.gather(*(world.answer(call) for call in calls))

    assert [answer.prediction for answer in found] == [{"b": 1}] * 3
    assert [call.degraded for call in calls] == [("stale",)] * 3
    assert all(answer.kept and answer.kept.ttl_seconds == -20 for answer in found)
    assert calls[0].headers["Cache-Status"] == "dspy-worker; hit; ttl=-20; detail=memory"


@pytest.mark.parametrize("error", [LMAnswerUnusable, ProgramRaised, QueueFull])
async def test_an_old_answer_does_not_hide_these(error: type[WorkerError]) -> None:
    world = World()
    await world.answer()
    world.now += 120
    world.fails(error("no"))

    with pytest.raises(error):
        await world.answer()


async def test_an_answer_that_is_too_old_is_none() -> None:
    world = World()
    await world.answer()
    world.now += 150
    world.fails(LMUnavailable("away"))

    with pytest.raises(LMUnavailable):
        await world.answer()


async def test_an_old_answer_is_given_just_before_the_deadline() -> None:
    world = World()
    await world.answer()
    world.now += 120

    async def hang() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    world.outcome = hang
    calls = [Call(time.monotonic() + 0.2) for _ in range(2)]

    found = await asyncio.gather(*(world.answer(call) for call in calls))

    assert [answer.prediction for answer in found] == [{"b": 1}] * 2
    assert all(call.remaining() > 0 for call in calls)


@pytest.mark.parametrize(("keep", "next_one"), [(True, 2), (False, 3)])
async def test_a_client_may_want_a_new_answer(keep: bool, next_one: int) -> None:  # noqa: FBT001 - a parameter
    world = World()
    await world.answer()
    world.now += 60
    anew = await world.answer(Call(time.monotonic() + 60, Origin(fresh=True, keep=keep)))

    world.now += 60

    assert anew.prediction == {"b": 2}
    assert (await world.answer()).prediction == {"b": next_one}


async def test_an_answer_that_json_cannot_hold_is_given_and_not_kept() -> None:
    world = World()

    async def huge() -> dict[str, Any]:
        return {"b": 2**70}

    world.outcome = huge

    assert (await world.answer()).prediction == {"b": 2**70}
    await world.answer()
    assert world.asked == 2


def noted(answer: Answer, text: str = "x") -> Record:
    """Return what the store holds of an answer."""
    return replace(
        store_records.RECORD,
        tenant="",
        inputs={"a": text},
        prediction=answer.prediction,
        question=answer.question,
    )


async def test_answers_that_were_made_before_warm_the_cache() -> None:
    world = World()

    before = World()
    made, other = await before.answer(), await before.answer(text="y")

    assert world.keeper.warm(noted(made), 60)
    assert not world.keeper.warm(noted(other, text="y"), 100)
    assert (await world.answer()).prediction == {"b": 1}
    assert world.keeper.holds(lambda: {"a": "x"}, Call(float("inf")))
    assert not world.keeper.holds(lambda: {"a": "y"}, Call(float("inf")))
    assert world.asked == 0
    world.now += 40
    assert (await world.answer()).kept is None, "its age counts from when it was made"


async def test_what_was_asked_before_clearing_is_not_given_after_it() -> None:
    world = World()
    go_on = asyncio.Event()

    async def wait() -> dict[str, Any]:
        await go_on.wait()
        return {"b": "old"}

    world.outcome = wait
    under_way = asyncio.create_task(world.answer())
    await asyncio.sleep(0.01)
    world.generations.learn({"*/*": "1"})
    go_on.set()
    await under_way
    world.outcome = None

    assert (await world.answer()).prediction == {"b": 2}


async def test_answers_make_room_and_come_back_with_the_memory() -> None:
    world = World()
    share = [Reading(used=50, limit=100)]
    caretaker = Caretaker(
        world.keeper, world.levels, world.generations, world.metrics, lambda: share
    )
    for n in range(10):
        await world.answer(text=str(n))

    share[:] = [Reading(used=90, limit=100)]
    caretaker.make_room()
    assert 0 < len(world.levels.memory) <= 5
    share[:] = [Reading(used=96, limit=100)]
    caretaker.make_room()
    assert len(world.levels.memory) == 0
    await world.answer()
    assert len(world.levels.memory) == 0, "nothing is kept while it is critical"
    share[:] = [Reading(used=50, limit=100)]
    for _ in range(11):
        caretaker.make_room()
    assert world.levels.memory.allowed == world.levels.memory.budget


async def on_disk(folder: Path, now: float = 1_000_000.0) -> World:
    world = World(folder, now)
    assert world.levels.disk is not None
    await world.levels.disk.start()
    return world


async def stop(world: World) -> None:
    await world.keeper.finish(5)
    assert world.levels.disk is not None
    await world.levels.disk.stop()


@pytest.mark.parametrize(
    ("seconds", "kept", "level"),
    [
        pytest.param(99, {"b": 1}, "disk", id="in time"),
        pytest.param(101, {"b": 1}, "", id="over"),
        pytest.param(-30, {"b": 1}, "disk", id="the clock was set back a little"),
        pytest.param(-3600, {"b": 1}, "", id="the clock was set back by an hour"),
        pytest.param(1e9, {"b": 1}, "", id="the clock jumped ahead"),
    ],
)
async def test_the_disk_counts_by_the_clock_on_the_wall(
    tmp_path: Path, seconds: float, kept: dict[str, Any], level: str
) -> None:
    world = await on_disk(tmp_path)
    await world.answer()
    await stop(world)

    again = await on_disk(tmp_path, world.now + seconds)
    found = await again.answer()
    await stop(again)

    assert found.prediction == kept
    assert (found.kept.level if found.kept else "") == level
    assert again.asked == (0 if level else 1)


async def test_the_clock_on_the_wall_does_not_matter_to_the_memory(tmp_path: Path) -> None:
    """The memory counts by a clock that nobody sets; only the disk sees the jump."""
    world = await on_disk(tmp_path)
    await world.answer()
    ages = []
    for jump in (-1e6, 1e6):
        disk = world.levels.disk
        assert disk is not None
        disk._wall = lambda jump=jump: world.now + jump  # type: ignore[misc]
        found = await world.answer()
        ages.append(found.kept.age_seconds if found.kept else None)
    await stop(world)

    assert ages == [0, 0]


PLACE = Place("v", "-", "0", "k")


def numbered(n: int, variant: str = "v", tag: str = "-") -> Place:
    return Place(variant, tag, "0", str(n))


def test_the_file_evicts_what_was_not_used_for_longest_and_keeps_its_limit(tmp_path: Path) -> None:
    file = DiskFile(tmp_path, DISK_BYTES)
    file.open()
    evicted = 0
    for n in range(400):
        evicted += file.put(numbered(n), bytes(4000), 10**10)
        assert file.get(numbered(0).name) is not None, "it is used all the time"

    size, count = file.tend(0)
    file.close()
    assert evicted == 400 - count
    assert size <= DISK_BYTES
    assert count > 100
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_an_answer_that_would_take_most_of_the_disk_is_not_kept(tmp_path: Path) -> None:
    file = DiskFile(tmp_path, DISK_BYTES)
    file.open()
    file.put(PLACE, bytes(DISK_BYTES // 2), 10**10)

    assert file.get(PLACE.name) is None
    file.close()


def test_answers_are_removed_by_variant_and_tenant(tmp_path: Path) -> None:
    file = DiskFile(tmp_path, DISK_BYTES)
    file.open()
    places = [numbered(1, variant, tag) for variant in "vw" for tag in "tu"]
    for place in places:
        file.put(place, b"x", 10**10)

    def left() -> int:
        return sum(file.get(place.name) is not None for place in places)

    assert (file.remove("v", "t"), left()) == (1, 3)
    assert (file.remove("", "u"), left()) == (2, 1)
    assert (file.clear("w", "", "5"), left()) == (1, 0)
    assert file.marks() == {"w/*": "5"}
    file.close()


def test_a_file_that_is_damaged_later_is_told(tmp_path: Path) -> None:
    file = DiskFile(tmp_path, DISK_BYTES)
    file.open()
    for n in range(100):
        file.put(numbered(n), bytes(2000), 10**10)
    file.close()
    with file.path.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * 200_000)

    again = DiskFile(tmp_path, DISK_BYTES)
    with pytest.raises(DiskTrouble, match="damaged"):
        _use(again)
    again.open()
    assert again.put(PLACE, b"x", 10**10) == 0
    again.close()


def _use(file: DiskFile) -> None:
    """Use a file as a worker does that opened it before the damage."""
    file._db = sqlite3.connect(file.path, isolation_level=None)
    try:
        for n in range(100):
            file.get(numbered(n).name)
        file.tend(0)
    finally:
        file._shut()


async def test_a_poisoned_file_is_a_miss_and_is_removed(tmp_path: Path) -> None:
    world = await on_disk(tmp_path)
    disk = world.levels.disk
    assert disk is not None
    found = Found(level="x", body=b"{}", age_seconds=0, ttl_seconds=100)
    await disk.put(PLACE, found)
    with sqlite3.connect(tmp_path / "answers" / "answers.sqlite") as db:
        db.execute("UPDATE answers SET value = 'no'")
    db.close()

    assert await disk.get(PLACE) is None
    assert disk._file is not None
    assert await disk._do(lambda file: file.get(PLACE.name)) is None
    assert world.metrics.poisoned["disk"]._value.get() == 1  # type: ignore[attr-defined]
    await stop(world)


async def test_a_disk_that_hangs_is_a_miss_and_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspy_worker.cache.disk.ASK_SECONDS", 0.01)
    world = await on_disk(tmp_path)
    disk = world.levels.disk
    assert disk is not None
    stuck = asyncio.create_task(disk._do(lambda _: time.sleep(0.3)))
    await asyncio.sleep(0)

    assert await disk.get(PLACE) is None
    assert not stuck.done()
    await stuck
    await stop(world)


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the place of the folder")
    world = World(tmp_path / "data")
    disk = world.levels.disk
    assert disk is not None

    await disk.start()

    assert disk.trouble() == "The folder for answers cannot be used."
    assert (await world.answer()).prediction == {"b": 1}
    await disk.stop()


async def test_a_good_answer_is_at_hand_without_waiting_and_counts_once() -> None:
    world = World()
    call = Call(time.monotonic() + 60)
    await world.answer()

    found = world.keeper.recall(lambda: {"a": "x"}, call)

    assert found is not None
    assert found.prediction == {"b": 1}
    assert call.headers["Age"] == "0"
    assert world.keeper.recall(lambda: {"a": "y"}, call) is None
    assert world.keeper.recall(lambda: {"a": "x"}, Call(9, Origin(fresh=True))) is None
    world.now += 120
    assert world.keeper.recall(lambda: {"a": "x"}, call) is None, "it is stale"
    assert world.metrics.hits["memory"]._value.get() == 1  # type: ignore[attr-defined]
    assert world.metrics.misses["memory"]._value.get() == 1, "the first question"  # type: ignore[attr-defined]
