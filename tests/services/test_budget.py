"""Cost and budgets: real workers that share a real Redis, and a practice LM that counts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process
from tests.patience import until
from tests.programs import DECLARED, PYTHON, SHOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.practice_fixture import PracticeLM
    from tests.redis_process import RedisProcess
    from tests.worker_process import Worker

pytestmark = [
    pytest.mark.services,
    pytest.mark.usefixtures("clean_lm"),
    pytest.mark.timeout(180),
]

IN, OUT = 1, 2
PRICE = {"inputPerMillion": f"{IN}", "outputPerMillion": f"{OUT}"}
MODEL = {"price": PRICE, "maxTokens": 100, "maxRetries": 0, "breaker": {"minimumCalls": 1000}}
LIMITS = {"concurrency": 100, "queueSize": 200, "timeoutSeconds": 30, "drainSeconds": 30}
REDIS = {"urlSecretRef": {"name": "shared"}}
PLENTY = "1000"


@dataclass(frozen=True)
class World:
    """A Redis, a model and a way to start workers."""

    redis: RedisProcess
    lm: PracticeLM
    start: Callable[..., Worker]

    def billed(self) -> float:
        """Return the dollars that the LM would ask for what it has counted itself."""
        told = self.lm.stats()
        return float(told["prompt_tokens"] * IN + told["completion_tokens"] * OUT) / 1e6

    def noted(self, name: str) -> dict[str, float]:
        """Return what Redis holds of a budget over all accounts, in dollars."""
        with self.redis.client(decode=True) as client:
            keys = [k for k in client.scan_iter("dspy:*") if f":budget:{name}:" in k]
            (total,) = [k for k in keys if ":of:" not in k and ":open:" not in k]
            return {k: int(v) / 1e9 for k, v in client.hgetall(total).items()}


@pytest.fixture
def world(
    redis: RedisProcess, lm: PracticeLM, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with ExitStack() as stack:

        def start(
            program: dict[str, Any] = DECLARED,
            *,
            budgets: list[dict[str, Any]],
            shared: bool = True,
            models: tuple[dict[str, Any], ...] = (),
            folder: Path | None = None,
            model: dict[str, Any] | None = None,
        ) -> Worker:
            here = folder or tmp_path_factory.mktemp("worker")
            (here / "shop.py").write_text(SHOP)
            described = worker_process.document(
                lm.url, program, model=MODEL | (model or {}), **LIMITS
            )
            spec = described["spec"] | {"budgets": budgets}
            spec["models"] += [{"endpoint": lm.url, **model} for model in models]
            described["spec"] = spec | ({"redis": REDIS} if shared else {})
            environ = {"XDG_STATE_HOME": str(here)}
            if shared:
                environ["DSPY_URL_REDIS"] = redis.url
            return stack.enter_context(worker_process.running(here, described, **environ))

        yield World(redis, lm, start)


def day(name: str = "day", limit: str = PLENTY, **more: object) -> dict[str, Any]:
    return {"name": name, "limit": limit, **more}


def health(worker: Worker) -> dict[str, str]:
    told = httpx.get(f"{worker.url}/v1/health").json()
    return {c["name"]: c["state"] for c in told["components"]}


@pytest.mark.parametrize("program", [DECLARED, PYTHON], ids=["declared", "in a thread"])
def test_an_answer_tells_what_it_cost_and_the_budget_notes_the_same(
    world: World, program: dict[str, Any]
) -> None:
    worker = world.start(program, budgets=[day()])

    answer = worker.predict(text="A zebra.").json()

    assert float(answer["usage"]["costUsd"]) == pytest.approx(world.billed())
    assert worker.metric("dspy_cost_usd_total", model="main") == pytest.approx(world.billed())
    until(lambda: world.noted("day") == {"spent": pytest.approx(world.billed()), "reserved": 0})


def test_batches_and_streams_tell_their_cost_too(world: World) -> None:
    worker = world.start(budgets=[day()])
    body = {"inputs": [{"text": "A zebra."}, {"text": "A saw."}]}
    batch = httpx.post(f"{worker.url}/v1/batch", json=body).json()
    billed = world.billed()

    body = {"inputs": {"text": "A zebra."}}
    stream = httpx.post(f"{worker.url}/v1/predict/stream", json=body).text
    result = json.loads(stream.split("event: result\ndata: ")[1])

    assert float(batch["usage"]["costUsd"]) == pytest.approx(billed)
    assert float(result["usage"]["costUsd"]) == pytest.approx(world.billed() - billed)


def test_a_model_without_a_price_tells_no_cost(world: World) -> None:
    unknown = {"price": None, "maxTokens": None}
    worker = world.start(budgets=[], model=unknown)

    answer = worker.predict(text="A zebra.").json()

    assert "costUsd" not in answer["usage"]
    assert worker.metric("dspy_cost_unknown_total", model="main") == 1


def test_two_hundred_requests_on_three_pods_do_not_overspend(world: World) -> None:
    """Nobody knows what a call costs before it ends: what may be spent is what is set aside."""
    limit = 0.03
    budget = day(limit=f"{limit}", whenUnavailable="Deny")
    pods = [world.start(budgets=[budget]) for _ in range(3)]
    world.lm.faults(kind="latency", ms=200)

    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(lambda n: pods[n % 3].predict(text=f"Zebra {n}."), range(600)))

    statuses = {response.status_code for response in found}
    answered = [r.json() for r in found if r.status_code == 200]
    assert statuses <= {200, 429, 503}
    assert world.billed() <= limit
    assert 10 < len(answered) < 200
    until(lambda: world.noted("day")["reserved"] == 0)
    costs = sum(float(answer["usage"]["costUsd"]) for answer in answered)
    assert world.noted("day")["spent"] == pytest.approx(costs) == pytest.approx(world.billed())
    print(f"billed {world.billed():.6f} of {limit}: {len(answered)} answers")


def test_a_refusal_names_the_budget_and_when_to_come_back(world: World) -> None:
    worker = world.start(budgets=[day("large"), day("tiny", limit="0.0001")])

    response = worker.predict(text="A zebra.")

    assert response.status_code == 429
    assert response.json()["type"].endswith(":budget-exhausted")
    assert "'tiny'" in response.json()["detail"]
    assert 1 <= int(response.headers["retry-after"]) <= 3600
    assert world.lm.stats()["calls"] == 0
    assert worker.metric("dspy_budget_refused_total", budget="tiny") == 1
    assert worker.metric("dspy_errors_total", reason="BudgetExhausted") == 1
    assert worker.metric("dspy_lm_circuit_opened_total", model="main") == 0


def test_tenants_have_budgets_of_their_own(world: World) -> None:
    worker = world.start(budgets=[day(limit="0.0021", per="Tenant")])

    def ask(tenant: str) -> int:
        found = [
            worker.predict(headers={"X-Tenant": tenant}, text="A zebra.").status_code
            for _ in range(8)
        ]
        return found.count(200)

    first, second = ask("blue"), ask("green")

    assert 0 < first == second < 8
    assert "green" not in httpx.get(f"{worker.ops}/metrics").text
    assert worker.metric("dspy_budget_spent_usd", budget="day") == pytest.approx(world.billed())


def test_a_shadow_only_tells(world: World) -> None:
    worker = world.start(budgets=[day(limit="0.0001", mode="Shadow")])

    assert worker.predict(text="A zebra.").status_code == 200
    assert worker.metric("dspy_budget_would_refuse_total", budget="day") == 1
    assert worker.metric("dspy_budget_refused_total", budget="day") == 0


def test_a_cheaper_model_answers_beyond_the_soft_limit(world: World) -> None:
    small = {"name": "small", "model": "practice", **MODEL}
    worker = world.start(
        budgets=[day(limit="0.02", softPercent=1, cheaperModel="small")], models=(small,)
    )

    first = worker.predict(text="A zebra.")
    until(lambda: world.noted("day")["spent"] > 0.0002)
    second = worker.predict(text="A zebra.")

    assert "degraded" not in first.json()
    assert second.json()["degraded"] == ["budget:day"]
    assert second.headers["x-degraded"] == "budget"
    assert worker.metric("dspy_budget_soft_total", budget="day") == 1
    assert worker.metric("dspy_lm_calls_total", model="small") == 1
    assert worker.metric("dspy_degraded_total", reason="budget") == 1


def test_what_a_timeout_may_have_cost_is_spent(world: World) -> None:
    worker = world.start(budgets=[day()])
    world.lm.faults(kind="latency", ms=20_000)

    response = worker.predict(headers={"X-Request-Timeout-Seconds": "1"}, text="A zebra.")

    assert response.status_code == 504
    until(lambda: world.noted("day")["reserved"] == 0)
    assert world.noted("day")["spent"] > 0.001


@pytest.mark.parametrize(
    ("status", "spends"), [(400, False), (429, False), (500, True), (502, True)]
)
def test_what_a_refused_call_costs(world: World, status: int, *, spends: bool) -> None:
    worker = world.start(budgets=[day()])
    world.lm.faults(kind="status", status=status)

    worker.predict(text="A zebra.")

    until(lambda: world.noted("day")["reserved"] == 0)
    assert bool(world.noted("day")["spent"]) == spends


def test_a_local_worker_remembers_after_it_was_killed(world: World, tmp_path: Path) -> None:
    limit, statuses = "0.003", []
    for asked in (3, 3, 20):
        worker = world.start(budgets=[day(limit=limit)], shared=False, folder=tmp_path)
        statuses += [worker.predict(text="A zebra.").status_code for _ in range(asked)]
        worker.process.kill()
        worker.process.wait()

    assert statuses[:6] == [200] * 6
    assert statuses[-1] == 429
    assert world.billed() <= float(limit)


def test_redis_that_dies_under_load_costs_no_answer_where_budgets_allow_it(world: World) -> None:
    """What is spent meanwhile is told to Redis when it is back, once, and what it has forgotten."""
    pods = [world.start(budgets=[day()]) for _ in range(3)]

    def ask(n: int) -> int:
        return pods[n % 3].predict(text=f"Zebra {n}.").status_code

    with ThreadPoolExecutor(16) as pool:
        before = list(pool.map(ask, range(60)))
        world.redis.kill()
        during = list(pool.map(ask, range(60)))
        assert health(pods[0])["redis"] == "failing"
        assert pods[0].ready().status_code == 200
        world.redis.start()
        until(lambda: all(health(pod)["redis"] == "ok" for pod in pods))
        after = list(pool.map(ask, range(60)))

    assert {*before, *during, *after} == {200}
    until(lambda: world.noted("day")["reserved"] == 0)
    until(lambda: world.noted("day")["spent"] >= world.billed() - 1e-9)


def test_a_budget_that_wants_to_know_denies_while_redis_is_away(world: World) -> None:
    worker = world.start(budgets=[day(whenUnavailable="Deny")])
    assert worker.predict(text="A zebra.").status_code == 200
    world.redis.kill()

    denied = worker.predict(text="A zebra.")
    world.redis.start()
    until(lambda: health(worker)["redis"] == "ok")

    assert denied.status_code == 503
    assert denied.json()["type"].endswith(":budget-unavailable")
    assert int(denied.headers["retry-after"]) >= 1
    assert worker.predict(text="A zebra.").status_code == 200


def test_a_worker_without_redis_at_its_start_serves(world: World) -> None:
    world.redis.kill()
    worker = world.start(budgets=[day()])

    assert worker.predict(text="A zebra.").status_code == 200
    assert worker.ready().status_code == 200


def test_a_killed_pods_money_is_spent_when_its_time_is_over(world: World) -> None:
    """Nobody can tell whether its call was billed."""
    worker = world.start(budgets=[day()])
    world.lm.faults(kind="latency", ms=20_000)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: httpx.post(f"{worker.url}/v1/predict", json={"inputs": {"text": "x"}}))
        until(lambda: world.lm.stats()["in_flight"])
        worker.process.kill()
        worker.process.wait()
    held = world.noted("day")["reserved"]
    with world.redis.client(decode=True) as client:
        (key,) = [k for k in client.scan_iter("dspy:*") if ":open:" in k]
        ((member, expires),) = client.zrange(key, 0, -1, withscores=True)
        assert expires / 1000 - client.time()[0] > 60
        client.zadd(key, {member: 0})

    world.lm.reset()
    other = world.start(budgets=[day()])

    until(lambda: other.metric("dspy_budget_spent_usd", budget="day") == pytest.approx(held))


def test_budgets_are_told_without_what_is_spent(world: World) -> None:
    worker = world.start(budgets=[day(limit="12.50")])

    told = httpx.get(f"{worker.url}/v1/info").json()["budgets"]

    assert told == [
        {"name": "day", "period": "Day", "per": "App", "limitUsd": "12.5", "mode": "Enforce"}
    ]
    assert worker.metric("dspy_budget_limit_usd", budget="day") == 12.5
