"""Three pods with everything on, while PostgreSQL, Redis and the language model die and come back.

OUTAGE_SECONDS says for how long each of them is away.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import practice_fixture, redis_process, worker_process
from tests.outage_load import CLIENTS, PROGRAM, Load, Told, Watch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres_process import Postgres
    from tests.practice_fixture import PracticeLM
    from tests.redis_process import RedisProcess
    from tests.worker_process import Worker

SECONDS = float(os.environ.get("OUTAGE_SECONDS", "2"))

pytestmark = [pytest.mark.services, pytest.mark.timeout(300 + 20 * SECONDS)]

PODS = 3
IN, OUT = 1, 2
LIMIT = 1000
LARGEST_GROWTH_MIB = 48
MOST_OF_ONE_CALL = 0.003
"""More dollars than are set aside for a question of this program."""
LM, REDIS, STORE = "lm/main", "redis", "store"
PLAN = ((STORE,), (REDIS,), (LM,), (STORE, REDIS, LM))
MODEL = {
    "price": {"inputPerMillion": f"{IN}", "outputPerMillion": f"{OUT}"},
    "maxTokens": 100,
    "timeoutSeconds": 5,
    "breaker": {"openSeconds": 1},
}
PARTS = {
    "redis": {"urlSecretRef": {"name": "redis"}},
    "cache": {"ttlSeconds": 1, "staleSeconds": 3600, "memoryBytes": 4 << 20},
    "store": {"postgres": {"urlSecretRef": {"name": "db"}}},
    "budgets": [{"name": "month", "limit": f"{LIMIT}", "period": "Month"}],
}
DOCUMENTED = {
    (502, "lm-unavailable"),
    (503, "lm-circuit-open"),
    (504, "deadline-exceeded"),
    (429, "queue-full"),
}
"""Status and problem type of what clients may be told while the language model is away."""


@dataclass
class Model:
    """A language model that is killed and started again on the same port."""

    processes: ExitStack
    port: int = 0
    billed: float = 0.0
    """Dollars that its own counts ask for; calls in the very moment of its end may be missing."""
    _server: PracticeLM | None = None

    def start(self) -> None:
        server = practice_fixture.running("--port", f"{self.port}", "--latency-ms", "10")
        self._server = self.processes.enter_context(server)
        self.port = int(self._server.root.rpartition(":")[2])

    def kill(self) -> None:
        assert self._server is not None
        self.count()
        self._server.process.kill()
        self._server.process.wait()

    def count(self) -> None:
        """Add what it has counted since its start."""
        assert self._server is not None
        told = self._server.stats()
        self.billed += (told["prompt_tokens"] * IN + told["completion_tokens"] * OUT) / 1e6


@dataclass
class World:
    """The pods and what they need; `lm_away` are the times in which they may refuse."""

    pods: list[Worker]
    away: dict[str, Model | Postgres | RedisProcess]
    database: str
    load: Load
    watch: Watch
    lm_away: list[tuple[float, float]] = field(default_factory=list)

    @property
    def model(self) -> Model:
        model = self.away[LM]
        assert isinstance(model, Model)
        return model

    async def outage(self, *parts: str) -> None:
        """Kill some parts, and start them again once all pods have told that they are away."""
        print(f"{len(self.load.told):6} requests, now without {', '.join(parts)}")
        began, names = time.monotonic(), frozenset(parts)
        for part in parts:
            await asyncio.to_thread(self.away[part].kill)
        await asyncio.sleep(SECONDS)
        await until(lambda: self.watch.all_name(names), f"no pod misses {parts}")
        for part in parts:
            await asyncio.to_thread(self.away[part].start)
        await until(self.watch.is_well, f"{parts} are back, and pods have not noticed")
        if LM in parts:
            self.lm_away.append((began, time.monotonic()))

    def noted(self) -> dict[str, float]:
        """Return what Redis holds of the budget, in dollars."""
        found = Counter[str]()
        redis = self.away[REDIS]
        assert isinstance(redis, redis_process.RedisProcess)
        with redis.client(decode=True) as client:
            for key in client.scan_iter("dspy:*"):
                if ":budget:month:" in key and ":of:" not in key and ":open:" not in key:
                    found.update({k: int(v) for k, v in client.hgetall(key).items()})
        return {name: nanos / 1e9 for name, nanos in found.items()}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        postgres = self.away[STORE]
        assert not isinstance(postgres, Model | redis_process.RedisProcess)
        return postgres.ask(statement, self.database)

    def is_flushed(self) -> bool:
        spooled = sum(pod.metric("dspy_store_spool_bytes") for pod in self.pods)
        return not spooled and self.watch.is_well() and not self.noted().get("reserved")

    def memory(self) -> list[float]:
        return [_memory_mib(pod) for pod in self.pods]


@pytest.fixture
def world(postgres: Postgres, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as processes:
        model = Model(processes)
        model.start()
        redis = processes.enter_context(redis_process.running())
        database = postgres.new_database()
        pods = []
        for number in range(PODS):
            folder = tmp_path / f"pod-{number}"
            worker_process.set_url(folder, "redis", redis.url)
            worker_process.set_url(folder, "postgres", database)
            described = worker_process.document(
                f"http://127.0.0.1:{model.port}/v1", PROGRAM, model=MODEL, timeoutSeconds=10
            )
            described["spec"] |= PARTS
            pods.append(processes.enter_context(worker_process.running(folder, described)))
        yield World(
            pods=pods,
            away={LM: model, REDIS: redis, STORE: postgres},
            database=database,
            load=Load([pod.url for pod in pods]),
            watch=Watch([(pod.url, pod.ops) for pod in pods]),
        )


@asynccontextmanager
async def under_load(world: World) -> AsyncIterator[None]:
    """Ask and watch during the block, and go on watching until everything is written."""
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(world.watch.run())
        asking = group.create_task(world.load.run())
        try:
            yield
        finally:
            world.load.stop()
        await asking
        await until(world.is_flushed, "not everything is written")
        watching.cancel()


async def test_outages_cost_nothing_but_what_they_must(world: World) -> None:
    async with under_load(world):
        await until(world.load.is_warm, "the pods do not answer")
        await asyncio.sleep(SECONDS)
        warm, before = time.monotonic(), world.memory()
        for parts in PLAN:
            await world.outage(*parts)
        await asyncio.sleep(SECONDS)
    world.model.count()

    check_answers(world, warm)
    check_failures(world)
    check_predictions(world)
    check_feedback(world)
    check_money(world)
    check_memory(before, world.memory())
    assert world.watch.unready == []


def check_answers(world: World, warm: float) -> None:
    """Nobody got a wrong answer, and who may have an old one always got one."""
    answers = [told for told in world.load.told if told.is_answer]
    wrong = [told for told in answers if told.body["prediction"] != told.question.answer]
    repeated = [t for t in world.load.told if t.question.repeated and t.began > warm]
    stale = [told for told in answers if told.body.get("degraded") == ["stale"]]
    kept = Counter(t.body["cached"]["level"] for t in answers if "cached" in t.body)
    print(f"{len(answers)} answers of {len(world.load.told)}; {len(stale)} stale; {dict(kept)}")

    assert wrong == []
    assert [told for told in repeated if not told.is_answer] == []
    assert stale
    assert all(any(told.overlaps(*away) for away in world.lm_away) for told in stale)
    assert kept["memory"]


def check_failures(world: World) -> None:
    """Requests failed only while the language model was away, and said why."""
    failed = [told for told in world.load.told if not told.is_answer]
    kinds = Counter((told.status, _slug(told)) for told in failed)
    print(f"{len(failed)} failed: {dict(kinds)}")

    assert [t for t in failed if not any(t.overlaps(*away) for away in world.lm_away)] == []
    assert set(kinds) <= DOCUMENTED
    assert failed, "nothing was asked while the language model was away"


def check_predictions(world: World) -> None:
    """What a client was told is stored once, as it was told."""
    rows = world.rows("SELECT request_id, id, inputs, prediction, error FROM predictions")
    times = Counter(row[0] for row in rows)
    stored = {row[0]: row[1:] for row in rows}
    expected = {
        told.request_id: (
            told.body["id"],
            {"text": told.question.text},
            told.question.answer,
            "",
        )
        for told in world.load.told
        if told.is_answer
    }

    assert [name for name, found in times.items() if found > 1] == []
    assert {name: stored.get(name) for name in expected} == expected
    assert set(stored) <= {told.request_id for told in world.load.told}
    assert sum(pod.metric("dspy_store_lost_total", reason="full") for pod in world.pods) == 0


def check_feedback(world: World) -> None:
    """What was said is stored once, and is the score of its prediction, whichever came first."""
    rows = world.rows("SELECT id, prediction_id, score FROM feedback")
    scores = world.rows("SELECT id, score FROM predictions WHERE score IS NOT NULL")
    print(f"{len(rows)} pieces of feedback")

    assert world.load.refused_opinions == []
    assert len(rows) == len(world.load.opinions) > 0
    assert {row[0]: row[1:] for row in rows} == world.load.opinions
    assert dict(scores) == dict(world.load.opinions.values())


def check_money(world: World) -> None:
    """The budget knows of all that was billed."""
    usages = [told.body["usage"] for told in world.load.told if told.is_answer]
    told = sum(float(usage["costUsd"]) for usage in usages)
    spent = world.noted()["spent"]
    print(f"spent {spent:.6f}; the LM has billed {world.model.billed:.6f}, clients saw {told:.6f}")

    assert spent >= world.model.billed - 1e-9
    assert spent >= told - 1e-9
    # What was under way when something died may be paid in full, and nothing is paid twice.
    assert spent <= told + len(PLAN) * CLIENTS * MOST_OF_ONE_CALL
    assert spent <= LIMIT
    assert sum(pod.metric("dspy_budget_overrun_total") for pod in world.pods) == 0


def check_memory(before: list[float], after: list[float]) -> None:
    told = ", ".join(f"{a:.1f} -> {b:.1f}" for a, b in zip(before, after, strict=True))
    print(f"resident memory of the pods in MiB: {told}")

    assert max(b - a for a, b in zip(before, after, strict=True)) < LARGEST_GROWTH_MIB


def _slug(told: Told) -> str:
    return str(told.body["type"]).rpartition(":")[2]


def _memory_mib(pod: Worker) -> float:
    lines = Path(f"/proc/{pod.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
