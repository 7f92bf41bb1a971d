"""Answers as server-sent events: a real worker against the practice LM."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

SIGNATURE = {
    "instructions": "Label it.\n- animal: zebra\n- tool: saw",
    "inputs": [{"name": "text", "description": "what to label"}],
    "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}, {"name": "remark"}],
}
CHAT = {"signature": SIGNATURE, "module": {"type": "ChainOfThought"}}
JSON = {**CHAT, "adapter": "JSON"}
PYTHON = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}
SHOP = '''
import dspy

class Shop(dspy.Module):
    """Two steps in a thread; the first one has no field that clients see."""
    def __init__(self):
        super().__init__()
        self.plan = dspy.Predict("text -> plan")
        self.write = dspy.Predict("text, plan -> remark")

    def forward(self, text: str) -> dspy.Prediction:
        plan = self.plan(text=text).plan
        return self.write(text=text, plan=plan)

SIGNATURE = dspy.Signature("text -> remark")

def build():
    program = Shop()
    program.signature = SIGNATURE
    return program
'''
LIMITS = {"concurrency": 2, "queueSize": 0, "timeoutSeconds": 10, "drainSeconds": 20}


@pytest.fixture(scope="module")
def workers(
    lm: PracticeLM, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Worker]]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("chat", "json", "python")}
    programs = {"chat": CHAT, "json": JSON, "python": PYTHON}
    described = {
        name: worker_process.document(
            lm.url, program, model={"maxRetries": 1}, **LIMITS, includeReasoning=True
        )
        for name, program in programs.items()
    }
    (folders["python"] / "shop.py").write_text(SHOP)
    with (
        worker_process.running(folders["chat"], described["chat"]) as chat,
        worker_process.running(folders["json"], described["json"]) as json_,
        worker_process.running(folders["python"], described["python"]) as python,
    ):
        yield {"chat": chat, "json": json_, "python": python}


@pytest.fixture(scope="module")
def worker(workers: dict[str, Worker]) -> Worker:
    return workers["chat"]


def events(
    worker: Worker, text: str = "A zebra.", headers: dict[str, str] | None = None
) -> list[tuple[str, Any]]:
    """Ask, and return names and documents of all events."""
    body = {"inputs": {"text": text}}
    url = f"{worker.url}/v1/predict/stream"
    found: list[tuple[str, Any]] = []
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        for block in "".join(response.iter_text()).split("\n\n"):
            if block and not block.startswith(":"):
                name, data = block.split("\n")
                document = json.loads(data.removeprefix("data: "))
                found.append((name.removeprefix("event: "), document))
    return found


def texts(found: list[tuple[str, Any]]) -> dict[str, str]:
    """Return the text of each field as a client puts it together."""
    calls: dict[str, dict[int, str]] = defaultdict(lambda: defaultdict(str))
    for name, token in found:
        if name == "token":
            calls[token["field"]][token["call"]] += token["text"]
    return {field: told[max(told)] for field, told in calls.items()}


@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_tokens_add_up_to_the_result(workers: dict[str, Worker], adapter: str) -> None:
    found = events(workers[adapter])
    names = [name for name, _ in found]
    prediction = found[-1][1]["prediction"]

    assert (names[0], names[-1]) == ("status", "result")
    assert names.count("token") > 3
    assert prediction["label"] == "animal"
    assert texts(found) == prediction
    assert {d["predictor"] for n, d in found if n == "token"} == {"predict"}
    assert found[-1][1]["usage"]["outputTokens"] > 0
    assert workers[adapter].state()["in_flight"] == 0


def test_a_program_in_a_thread_streams_what_clients_may_see(workers: dict[str, Worker]) -> None:
    found = events(workers["python"])
    tokens = [document for name, document in found if name == "token"]

    assert texts(found) == found[-1][1]["prediction"]
    assert {(t["call"], t["predictor"], t["field"]) for t in tokens} == {(2, "write", "remark")}


def test_the_first_token_is_there_long_before_the_last(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="slow_stream", ms=20)
    moments: dict[str, float] = {}
    body = {"inputs": {"text": "zebra"}}
    with httpx.stream("POST", f"{worker.url}/v1/predict/stream", json=body, timeout=30) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                moments.setdefault(line, time.monotonic())

    asked, token, result = (moments[f"event: {n}"] for n in ("status", "token", "result"))
    assert token - asked < (result - asked) / 2


def test_a_stream_that_breaks_is_asked_for_again(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="cut_stream", after=12, times=1)
    found = events(worker)
    calls = [document["call"] for name, document in found if name == "token"]

    assert sorted(set(calls)) == [1, 2]
    assert texts(found) == found[-1][1]["prediction"]


def test_a_failure_ends_the_stream_with_the_problem(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="status", status=500)
    name, document = events(worker, headers={"X-Request-Id": "mine"})[-1]

    assert name == "error"
    assert document["status"] == 502
    assert document["requestId"] == "mine"
    assert 'reason="LMUnavailable"' in httpx.get(f"{worker.ops}/metrics").text


def test_a_late_answer_ends_the_stream_and_frees_the_slot(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="slow_stream", ms=1000)
    found = events(worker, headers={"X-Request-Timeout-Seconds": "0.5"})

    assert found[-1][0] == "error"
    assert found[-1][1]["type"].endswith("deadline-exceeded")
    assert worker.state()["in_flight"] == 0
    assert lm.stats()["aborted"] == 1


def test_a_client_that_leaves_frees_slot_and_connection(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="slow_stream", ms=200)
    body = {"inputs": {"text": "zebra"}}
    with httpx.stream("POST", f"{worker.url}/v1/predict/stream", json=body, timeout=30) as response:
        arriving = response.iter_text()  # httpx closes a response whose iterator is gone
        assert "running" in next(arriving)
        assert worker.state()["in_flight"] == 1

    for _ in range(100):
        if lm.stats()["aborted"] == 1 and worker.state()["in_flight"] == 0:
            break
        time.sleep(0.01)
    assert lm.stats()["aborted"] == 1, "the call of the LM has been given up"
    assert worker.state()["in_flight"] == 0


def test_what_can_be_refused_at_once_is_an_ordinary_problem(worker: Worker, lm: PracticeLM) -> None:
    url = f"{worker.url}/v1/predict/stream"
    wrong = httpx.post(url, json={"inputs": {"text": 1}})
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "/inputs/text")
    assert httpx.get(url).status_code == 405

    lm.faults(kind="slow_stream", ms=300)
    body = {"inputs": {"text": "zebra"}}
    with (
        httpx.stream("POST", url, json=body, timeout=30) as first,
        httpx.stream("POST", url, json=body, timeout=30) as second,
    ):
        arriving = [first.iter_text(), second.iter_text()]
        assert all("running" in next(each) for each in arriving)
        busy = httpx.post(url, json=body)
    assert (busy.status_code, "retry-after" in busy.headers) == (429, True)


def test_the_stream_is_described(worker: Worker) -> None:
    described = httpx.get(f"{worker.url}/openapi.json").json()["paths"]["/v1/predict/stream"]
    assert "text/event-stream" in described["post"]["responses"]["200"]["content"]
