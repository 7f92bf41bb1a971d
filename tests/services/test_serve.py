"""A real worker against the practice LM: predictions, refusals, limits, keys."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

PROGRAM = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text", "description": "what to label"}],
        "outputs": [
            {"name": "label", "type": "Literal['animal', 'tool']"},
            {"name": "place", "type": "Place"},
        ],
        "types": [
            {
                "name": "Place",
                "fields": [{"name": "city"}, {"name": "rooms", "type": "list[int]"}],
            }
        ],
    },
    "module": {"type": "ChainOfThought"},
}
LIMITS = {"concurrency": 4, "queueSize": 4, "timeoutSeconds": 10, "drainSeconds": 20}


@pytest.fixture(scope="module")
def worker(lm: PracticeLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    described = worker_process.document(
        lm.url, PROGRAM, maxRequestBytes=20_000, maxBatchSize=5, **LIMITS
    )
    with worker_process.running(tmp_path_factory.mktemp("worker"), described) as found:
        yield found


def post(
    worker: Worker, body: bytes, content_type: str = "application/json", path: str = "/v1/predict"
) -> httpx.Response:
    headers = {"Content-Type": content_type}
    return httpx.post(worker.url + path, content=body, headers=headers, timeout=30)


def problem(response: httpx.Response) -> tuple[int, str]:
    """Check what all problems have in common; return status and kind."""
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == response.status_code
    assert found["requestId"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return response.status_code, found["type"].rsplit(":", 1)[-1]


def test_a_prediction_has_typed_values_an_id_and_its_usage(worker: Worker) -> None:
    response = worker.predict(text="A zebra runs.", headers={"X-Request-Id": "my-request"})

    found = response.json()
    assert response.status_code == 200
    assert found["prediction"]["label"] == "animal"
    assert set(found["prediction"]["place"]) == {"city", "rooms"}
    assert "reasoning" not in found["prediction"]
    assert response.headers["x-request-id"] == "my-request"
    assert response.headers["x-prediction-id"] == found["id"]
    assert found["usage"]["calls"] == 1
    assert found["usage"]["inputTokens"] > found["usage"]["outputTokens"] > 0
    assert found["durationMs"] > 0


def test_a_batch_answers_in_order(worker: Worker) -> None:
    inputs = [{"text": text} for text in ("A zebra.", "A saw.", "A zebra!", "The saw", "Saw")]

    response = httpx.post(f"{worker.url}/v1/batch", json={"inputs": inputs}, timeout=30)

    found = response.json()
    labels = [item["prediction"]["label"] for item in found["results"]]
    assert labels == ["animal", "tool", "animal", "tool", "tool"]
    assert len({item["id"] for item in found["results"]}) == 5
    assert found["usage"]["calls"] == 5


def test_a_batch_is_checked_as_a_whole_before_anything_is_asked(
    worker: Worker, lm: PracticeLM
) -> None:
    inputs = [{"text": "A zebra."}, {"text": 1}, {}]

    response = httpx.post(f"{worker.url}/v1/batch", json={"inputs": inputs})

    assert problem(response) == (422, "invalid-inputs")
    paths = [error["path"] for error in response.json()["errors"]]
    assert paths == ["/inputs/1/text", "/inputs/2/text"]
    assert lm.stats()["calls"] == 0


def test_a_failed_item_of_a_batch_does_not_spoil_the_others(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="garbage", match="broken")
    inputs = [{"text": "A zebra."}, {"text": "broken"}]

    found = httpx.post(f"{worker.url}/v1/batch", json={"inputs": inputs}, timeout=30).json()

    assert found["results"][0]["prediction"]["label"] == "animal"
    assert found["results"][1]["problem"]["status"] == 502


def test_a_batch_that_is_too_large_is_refused(worker: Worker) -> None:
    response = httpx.post(f"{worker.url}/v1/batch", json={"inputs": [{"text": "a"}] * 6})

    assert problem(response) == (413, "too-large")


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"{", "application/json", (400, "malformed-body")),
        (b"", "application/json", (400, "malformed-body")),
        (b'{"inputs": {"text": "\xff\xfe"}}', "application/json", (400, "malformed-body")),
        (b"[" * 9000 + b"]" * 9000, "application/json", (400, "malformed-body")),
        (b'{"inputs": {"text": 7}}', "application/json", (422, "invalid-inputs")),
        (b'{"inputs": {}}', "application/json", (422, "invalid-inputs")),
        (b'{"inputs": {"text": "a", "more": 1}}', "application/json", (422, "invalid-inputs")),
        (b'{"inputs": {"text": "a"}}', "text/plain", (415, "unsupported-media-type")),
        (b'{"inputs": {"text": "' + b"x" * 20_000 + b'"}}', "application/json", (413, "too-large")),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_cannot_be_answered_is_a_problem(
    worker: Worker, body: bytes, content_type: str, expected: tuple[int, str]
) -> None:
    assert problem(post(worker, body, content_type)) == expected


def test_json_with_a_charset_or_a_suffix_is_json(worker: Worker) -> None:
    body = b'{"inputs": {"text": "A zebra."}}'

    for kind in ("application/json; charset=utf-8", "application/vnd.tickets+json"):
        assert post(worker, body, kind).status_code == 200


def test_a_body_that_grows_too_large_on_the_way_is_refused(worker: Worker) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"inputs": {"text": "'
        for _ in range(100):
            yield b"x" * 1000

    with suppress(httpx.WriteError):
        response = httpx.post(
            f"{worker.url}/v1/predict",
            content=chunks(),
            headers={"Content-Type": "application/json"},
        )
        assert problem(response) == (413, "too-large")


def test_unknown_paths_and_methods_are_problems(worker: Worker) -> None:
    gone = httpx.get(f"{worker.url}/v1/nothing")
    wrong = httpx.get(f"{worker.url}/v1/predict")

    assert problem(gone) == (404, "not-found")
    assert problem(wrong) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "POST"


def test_info_openapi_and_docs_are_there(worker: Worker) -> None:
    info = httpx.get(f"{worker.url}/v1/info").json()
    described = httpx.get(f"{worker.url}/openapi.json").json()
    page = httpx.get(f"{worker.url}/", follow_redirects=True)

    assert info["app"] == "tickets"
    assert info["limits"]["concurrency"] == 4
    assert described["openapi"].startswith("3.1")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_an_overload_is_refused_with_a_time_to_come_back(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="latency", ms=500)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda i: worker.predict(text=f"zebra {i}"), range(20)))

    refused = [r for r in found if r.status_code == 429]
    assert sorted({r.status_code for r in found}) == [200, 429]
    assert len(refused) >= 4
    assert all(1 <= int(r.headers["retry-after"]) <= 60 for r in refused)
    assert {problem(r) for r in refused} == {(429, "queue-full")}
    assert lm.stats()["peak_in_flight"] <= 4


def test_a_late_answer_is_a_timeout_and_frees_the_slot(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="latency", ms=25_000)
    began = time.monotonic()

    response = worker.predict(text="zebra", headers={"X-Request-Timeout-Seconds": "0.3"})

    assert problem(response) == (504, "deadline-exceeded")
    assert time.monotonic() - began < 25, "it waited for the LM"
    assert worker.state()["in_flight"] == 0


def test_a_client_that_leaves_cancels_the_work(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="latency", ms=5000)
    with suppress(httpx.TimeoutException):
        httpx.post(f"{worker.url}/v1/predict", json={"inputs": {"text": "zebra"}}, timeout=0.4)

    for _ in range(100):
        if lm.stats()["aborted"] == 1 and worker.state()["in_flight"] == 0:
            break
        time.sleep(0.02)
    assert lm.stats()["aborted"] == 1, "the call of the LM has been given up"
    assert worker.state()["in_flight"] == 0


def test_a_client_that_leaves_in_the_middle_of_its_body_disturbs_nobody(worker: Worker) -> None:
    host, port = worker.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )

    assert worker.predict(text="A zebra.").status_code == 200


def test_a_body_that_does_not_arrive_is_not_waited_for(worker: Worker) -> None:
    host, port = worker.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"X-Request-Timeout-Seconds: 0.2\r\nContent-Length: 100\r\n\r\n{"
        )
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 504 ")


def test_garbage_is_asked_for_again_once_and_then_a_problem(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="garbage")

    response = worker.predict(text="zebra")

    assert problem(response) == (502, "lm-answer-unusable")
    assert lm.stats()["calls"] == 2


def test_a_passing_failure_of_the_lm_is_not_noticed(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="status", status=500, times=1)

    assert worker.predict(text="A zebra.").json()["prediction"]["label"] == "animal"


def test_a_lasting_failure_of_the_lm_is_a_problem(worker: Worker, lm: PracticeLM) -> None:
    lm.faults(kind="hang_up")

    response = worker.predict(text="A zebra.")

    assert problem(response) == (502, "lm-unavailable")
    assert "127.0.0.1" not in response.text


def test_the_ops_port_tells_metrics_and_state(worker: Worker) -> None:
    worker.predict(text="A zebra.")

    state = worker.state()
    assert (state["app"], state["ready"], state["version"]) == ("tickets", True, 1)
    assert worker.metric("dspy_requests_total", route="/v1/predict", code="200") >= 1
    assert worker.metric("dspy_request_overhead_seconds_count") >= 1
    assert worker.metric("dspy_lm_calls_total", outcome="ok") >= 1
    assert worker.metric("dspy_token_usage_total", direction="input") > 0


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic ops-token", "Bearer", "ops-token"])
def test_the_state_needs_the_token(worker: Worker, header: str) -> None:
    response = httpx.get(f"{worker.ops}/state", headers={"Authorization": header})

    assert response.status_code == 401
    assert "tickets" not in response.text


def test_probes_answer(worker: Worker) -> None:
    for path in ("/livez", "/startedz", "/readyz"):
        assert httpx.get(worker.ops + path).status_code == 200


def test_the_log_has_ids_and_no_inputs(worker: Worker) -> None:
    worker.predict(text="a very secret zebra", headers={"X-Request-Id": "look-for-me"})

    log = worker.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line.get("request_id") == "look-for-me" for line in lines)
    assert "secret" not in log


SERVES_ONCE = """
import asyncio, pathlib, sys
from dspy_worker import main
main._prepare()
from dspy_worker.edge.call import Call
from dspy_worker.serve import files, runtime, schema

async def ask():
    made = runtime.assemble(files.document(pathlib.Path(sys.argv[1])), runtime.Folders())
    found = await made.program.run({"text": "A zebra."})
    assert found["label"] == "animal", found

asyncio.run(ask())
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_process_that_has_predicted_has_loaded_neither_litellm_nor_diskcache(
    worker: Worker,
) -> None:
    command = [sys.executable, "-c", SERVES_ONCE, f"{worker.folder}/app.json"]

    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert "'dspy'" in modules
    assert "'litellm'" not in modules
    assert "'diskcache'" not in modules


async def test_many_clients_at_once_all_get_their_own_answer(worker: Worker) -> None:
    async def ask(client: httpx.AsyncClient, i: int) -> tuple[int, Any]:
        text = f"{i}: a {'zebra' if i % 2 else 'saw'}"
        while True:
            response = await client.post(
                f"{worker.url}/v1/predict", json={"inputs": {"text": text}}
            )
            if response.status_code != 429:
                return i, response.json()["prediction"]["label"]
            await asyncio.sleep(0.05)

    async with httpx.AsyncClient(timeout=60) as client:
        found = await asyncio.gather(*(ask(client, i) for i in range(60)))

    assert found == [(i, "animal" if i % 2 else "tool") for i in range(60)]
