"""A model that fails: fallback, circuit, retry budget; a real worker and two practice LMs."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import practice_fixture, worker_process
from tests.programs import DECLARED, PYTHON, SHOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = pytest.mark.services

LIMITS = {"concurrency": 20, "timeoutSeconds": 20, "drainSeconds": 20}
QUICK = {"minimumCalls": 4, "openSeconds": 1}
FAILS = {"kind": "status", "status": 500}
HEAL_SECONDS = 15


@pytest.fixture(scope="module")
def main() -> Iterator[PracticeLM]:
    with practice_fixture.running() as server:
        yield server


@pytest.fixture(scope="module")
def spare() -> Iterator[PracticeLM]:
    with practice_fixture.running() as server:
        yield server


@dataclass(frozen=True)
class World:
    """Two models and a way to start a worker that asks them."""

    main: PracticeLM
    spare: PracticeLM
    start: Callable[..., Worker]


@pytest.fixture
def world(
    main: PracticeLM, spare: PracticeLM, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    main.reset()
    spare.reset()
    running = []

    def start(
        program: dict[str, Any] = DECLARED, *, fallback: bool = True, **model: object
    ) -> Worker:
        folder = tmp_path_factory.mktemp("worker")
        (folder / "shop.py").write_text(SHOP)
        described = worker_process.document(
            main.url, program, model={"maxRetries": 0, "breaker": QUICK, **model}, **LIMITS
        )
        if fallback:
            models = described["spec"]["models"]
            models[0]["fallback"] = "spare"
            models.append({"name": "spare", "model": "practice", "endpoint": spare.url})
        process = worker_process.running(folder, described)
        running.append(process)
        return process.__enter__()

    yield World(main, spare, start)
    for process in running:
        process.__exit__(None, None, None)


def health(worker: Worker) -> tuple[str, dict[str, str]]:
    """Return the state of the worker and of each component."""
    response = httpx.get(f"{worker.url}/v1/health")
    assert response.status_code == 200
    assert "http" not in response.text, "no address is told"
    found = response.json()
    return found["status"], {c["name"]: c["state"] for c in found["components"]}


@pytest.mark.parametrize("program", [DECLARED, PYTHON], ids=["declared", "in a thread"])
def test_a_fallback_answers_and_the_answer_says_so(world: World, program: dict[str, Any]) -> None:
    worker = world.start(program)
    usual = worker.predict(text="A zebra.")
    world.main.faults(**FAILS)

    response = worker.predict(text="A saw.")

    assert "degraded" not in usual.json()
    assert "x-degraded" not in usual.headers
    assert response.json()["degraded"] == ["fallback:spare"]
    assert response.headers["x-degraded"] == "fallback"
    assert response.json()["usage"]["calls"] == 1
    assert worker.metric("dspy_degraded_total", app="tickets", reason="fallback") == 1
    assert worker.metric("dspy_lm_calls_total", model="spare", outcome="ok") == 1
    assert worker.metric("dspy_lm_calls_total", model="main", outcome="server") == 1
    assert worker.metric("dspy_token_usage_total", model="spare", direction="input") > 0


def test_each_item_of_a_batch_says_whether_it_is_degraded(world: World) -> None:
    worker = world.start()
    world.main.faults(**FAILS, match="saw!")
    body = {"inputs": [{"text": "A zebra."}, {"text": "A saw!"}, {"text": "Another saw!"}]}

    response = httpx.post(f"{worker.url}/v1/batch", json=body, timeout=30)

    told = [item.get("degraded") for item in response.json()["results"]]
    assert told == [None, ["fallback:spare"], ["fallback:spare"]]
    assert response.headers.get_list("x-degraded") == ["fallback"]


def test_a_stream_goes_on_with_the_fallback(world: World) -> None:
    worker = world.start()
    world.main.faults(kind="cut_stream", after=3)
    body = {"inputs": {"text": "A zebra."}}

    response = httpx.post(f"{worker.url}/v1/predict/stream", json=body, timeout=30)

    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    found = [(name[7:], json.loads(data[6:])) for name, data in blocks]
    tokens = [document for name, document in found if name == "token"]
    result = found[-1][1]
    assert found[-1][0] == "result"
    assert result["degraded"] == ["fallback:spare"]
    assert "".join(t["text"] for t in tokens if t["call"] == 2) == result["prediction"]["label"]


def test_a_circuit_opens_spares_the_model_and_closes_when_it_is_well(world: World) -> None:
    worker = world.start(breaker={**QUICK, "openSeconds": 2})
    world.main.faults(**FAILS)
    for _ in range(QUICK["minimumCalls"]):
        assert worker.predict(text="A zebra.").json()["degraded"]

    asked = world.main.stats()["calls"]
    assert worker.predict(text="A zebra.").json()["degraded"] == ["fallback:spare"]
    assert world.main.stats()["calls"] == asked == QUICK["minimumCalls"]
    assert health(worker) == ("degraded", {"lm/main": "failing", "lm/spare": "ok"})
    assert worker.metric("dspy_lm_circuit_open", model="main") == 1
    assert worker.metric("dspy_lm_circuit_opened_total", model="main") == 1
    assert worker.ready().status_code == 200, "the worker still answers"

    world.main.reset()
    give_up = time.monotonic() + HEAL_SECONDS
    while health(worker)[0] == "degraded" and time.monotonic() < give_up:
        worker.predict(text="A zebra.")
        time.sleep(0.02)
    assert health(worker) == ("ok", {"lm/main": "ok", "lm/spare": "ok"})
    assert world.main.stats()["calls"] == 2, "the two probes"
    assert worker.metric("dspy_lm_circuit_open", model="main") == 0
    assert "degraded" not in worker.predict(text="A zebra.").json()


def test_an_open_circuit_without_a_fallback_is_a_503_that_asks_nobody(world: World) -> None:
    worker = world.start(fallback=False, breaker={**QUICK, "openSeconds": 60})
    world.main.faults(**FAILS)
    for _ in range(QUICK["minimumCalls"]):
        assert worker.predict(text="A zebra.").status_code == 502
    world.main.reset()

    response = worker.predict(text="A zebra.")

    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"].endswith(":lm-circuit-open")
    assert 40 < int(response.headers["retry-after"]) <= 60
    assert world.main.stats()["calls"] == 0
    assert worker.metric("dspy_errors_total", reason="LMCircuitOpen") == 1
    assert worker.ready().status_code == 200


def test_what_the_client_did_wrong_opens_no_circuit(world: World) -> None:
    worker = world.start(breaker={"minimumCalls": 1, "openSeconds": 60})
    world.main.faults(kind="status", status=400)

    statuses = {worker.predict(text="A zebra.").status_code for _ in range(3)}

    assert statuses == {502}
    assert world.main.stats()["calls"] == 3
    assert world.spare.stats()["calls"] == 0
    assert health(worker)[0] == "ok"


def test_a_retry_budget_stops_a_storm(world: World) -> None:
    worker = world.start(fallback=False, maxRetries=1, breaker={"minimumCalls": 1000})
    world.main.faults(**FAILS)

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: worker.predict(text="A zebra."), range(20)))

    assert {response.status_code for response in found} == {502}
    # Ten retries are in stock, and twenty first attempts earn at most four.
    asked = world.main.stats()["calls"]
    assert 30 <= asked <= 34
    assert worker.metric("dspy_lm_retries_refused_total", model="main") == 40 - asked


def test_a_slow_model_opens_its_circuit(world: World) -> None:
    worker = world.start(breaker={"minimumCalls": 1, "openSeconds": 60, "slowSeconds": 1})
    world.main.faults(kind="latency", ms=1100, times=1)

    first, second = worker.predict(text="A zebra."), worker.predict(text="A zebra.")

    assert "degraded" not in first.json()
    assert second.json()["degraded"] == ["fallback:spare"]
    assert world.main.stats()["calls"] == 1


def test_the_answer_is_described(world: World) -> None:
    described = httpx.get(f"{world.start().url}/openapi.json").json()

    answer = described["components"]["schemas"]["PredictResponse"]
    assert answer["properties"]["degraded"]["type"] == "array"
    assert "degraded" not in answer["required"]
    assert "/v1/health" in described["paths"]
