"""Feedback on predictions: two real workers of one app, and what they refuse."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.practice_fixture import PracticeLM
    from tests.worker_process import Worker

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("clean_lm")]

ANOTHER_TOKEN = "another-token"
ID = r"[0-9a-f-]{36}\.[0-9a-f]{12}\.0\.[0-9a-f]{16}"
LOOK_SECONDS = 1.1
"""After so long a worker has seen that its token was replaced."""


def program(instructions: str = "Label it.\n- animal: zebra\n- tool: saw") -> dict[str, Any]:
    signature = {
        "instructions": instructions,
        "inputs": [{"name": "text"}],
        "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}],
    }
    return {"signature": signature, "module": {"type": "Predict"}}


@pytest.fixture(scope="module")
def pods(lm: PracticeLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Run two pods of one app, which have the same ops token, and one with other prompts."""
    with ExitStack() as running:
        yield [
            running.enter_context(
                worker_process.running(
                    tmp_path_factory.mktemp("pod"),
                    worker_process.document(lm.url, described, maxRequestBytes=10_000),
                )
            )
            for described in (program(), program(), program("Label it anew."))
        ]


def say(worker: Worker, prediction: str, **said: object) -> httpx.Response:
    body = {"predictionId": prediction, **said}
    return httpx.post(f"{worker.url}/v1/feedback", json=body, timeout=30)


def predict(worker: Worker, text: str = "A zebra.") -> str:
    return str(worker.predict(text=text).json()["id"])


def variant(worker: Worker) -> str:
    return str(httpx.get(f"{worker.url}/v1/info").json()["variant"])


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].rsplit(":", 1)[-1]


def counted(worker: Worker, kind: str, of: str) -> float:
    labels = f'app="tickets",kind="{kind}",variant="{of}"'
    found = re.search(
        rf"^dspy_feedback_total\{{{labels}\}} (\S+)$",
        httpx.get(f"{worker.ops}/metrics").text,
        re.MULTILINE,
    )
    return float(found[1]) if found else 0.0


def test_ids_tell_the_variant(pods: list[Worker]) -> None:
    first, _, other = pods
    batch = {"inputs": [{"text": "A zebra."}, {"text": "A saw."}]}
    items = httpx.post(f"{first.url}/v1/batch", json=batch, timeout=30).json()["results"]

    ids = [predict(first), *(item["id"] for item in items)]

    assert all(re.fullmatch(ID, found) for found in ids)
    assert len(set(ids)) == 3
    assert {found.split(".")[1] for found in ids} == {variant(first)}
    assert predict(other).split(".")[1] == variant(other) != variant(first)


def test_the_header_has_the_id_and_request_ids_are_plain(pods: list[Worker]) -> None:
    response = pods[0].predict(text="A zebra.")

    assert response.headers["x-prediction-id"] == response.json()["id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["x-request-id"])


def test_any_pod_takes_feedback_on_the_predictions_of_the_others(pods: list[Worker]) -> None:
    first, second, other = pods
    name = predict(first)
    before = counted(second, "score", variant(first)), counted(other, "score", variant(first))

    told = [say(pod, name, score=0.5).json() for pod in pods]

    assert {answer["id"] for answer in told} == {told[0]["id"]}
    assert told[1] == {
        "id": told[0]["id"],
        "predictionId": name,
        "variant": variant(first),
        "stored": False,
    }
    assert counted(second, "score", variant(first)) == before[0] + 1
    assert counted(other, "score", variant(first)) == before[1] + 1


def test_what_is_sent_again_is_counted_once(pods: list[Worker]) -> None:
    worker = pods[0]
    name, before = predict(worker), counted(worker, "comment", variant(worker))

    statuses = [say(worker, name, comment="Well done.").status_code for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert counted(worker, "comment", variant(worker)) == before + 1


def test_a_streams_prediction_takes_feedback_too(pods: list[Worker]) -> None:
    body = {"inputs": {"text": "A zebra."}}
    text = httpx.post(f"{pods[0].url}/v1/predict/stream", json=body, timeout=30).text
    found = re.search(rf'"id":"({ID})"', text)

    assert found
    assert say(pods[1], found[1], correction={"label": "tool"}).status_code == 200


@pytest.mark.parametrize("part", range(4))
def test_a_forged_id_is_unknown(pods: list[Worker], part: int) -> None:
    parts = predict(pods[0]).split(".")
    parts[part] = {"0": "1"}.get(parts[part], parts[part][:-1] + flipped(parts[part][-1]))

    assert problem(say(pods[0], ".".join(parts), score=1)) == (404, "prediction-unknown")


def flipped(digit: str) -> str:
    return "0" if digit == "1" else "1"


def test_an_id_of_another_app_is_unknown(
    pods: list[Worker], lm: PracticeLM, tmp_path: Path
) -> None:
    described = worker_process.document(lm.url, program())
    described["metadata"]["name"] = "mail"
    with worker_process.running(tmp_path, described) as stranger:
        name = predict(stranger)

        assert say(stranger, name, score=1).status_code == 200

    assert problem(say(pods[0], name, score=1)) == (404, "prediction-unknown")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (422, "invalid-feedback")),
        ({"score": 2}, (422, "invalid-feedback")),
        ({"correction": {"label": "cat"}}, (422, "invalid-feedback")),
        ({"comment": "x" * 4001}, (422, "invalid-feedback")),
        ({"comment": "x" * 10_000}, (413, "too-large")),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_feedback_is_a_problem(
    pods: list[Worker], said: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert problem(say(pods[0], predict(pods[0]), **said)) == expected


def test_a_body_of_another_kind_is_refused(pods: list[Worker]) -> None:
    url = f"{pods[0].url}/v1/feedback"

    assert problem(httpx.post(url, content=b"score=1")) == (415, "unsupported-media-type")
    assert problem(httpx.get(url)) == (405, "method-not-allowed")


@pytest.mark.parametrize("path", ["predict", "predict/stream", "batch", "feedback"])
@pytest.mark.parametrize("header", ["X-Tenant", "X-Subject"])
def test_a_tenant_or_subject_that_cannot_be_one_is_refused(
    pods: list[Worker], path: str, header: str
) -> None:
    response = httpx.post(f"{pods[0].url}/v1/{path}", json={}, headers={header: "a b"})

    assert problem(response) == (400, "invalid-header")
    assert header in response.json()["detail"]


def test_a_prediction_with_tenant_subject_and_cache_control_is_answered(
    pods: list[Worker],
) -> None:
    headers = {"X-Tenant": "acme", "X-Subject": "user:7", "Cache-Control": "no-store"}

    assert pods[0].predict(text="A zebra.", headers=headers).status_code == 200


def test_ids_survive_a_replaced_token(lm: PracticeLM, tmp_path: Path) -> None:
    described = worker_process.document(lm.url, program())
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as running:
        first, second = (
            running.enter_context(worker_process.running(folder, described))
            for folder in folders[:2]
        )
        old = predict(first)
        for worker in (first, second):
            replace_token(worker)
        time.sleep(LOOK_SECONDS)
        new = predict(first)
        third = running.enter_context(
            worker_process.running(folders[2], described, token=ANOTHER_TOKEN)
        )

        statuses = {
            name: [say(pod, name, score=1).status_code for pod in (first, second, third)]
            for name in (old, new)
        }

    assert statuses == {old: [200, 200, 404], new: [200, 200, 200]}


def replace_token(worker: Worker) -> None:
    fresh = worker.folder / "token.new"
    fresh.write_text(ANOTHER_TOKEN)
    fresh.rename(worker.folder / "token")


def test_without_a_token_ids_survive_a_restart(lm: PracticeLM, tmp_path: Path) -> None:
    described = worker_process.document(lm.url, program())
    state = tmp_path / "state"
    names = []
    for _ in range(2):
        with worker_process.running(
            tmp_path, described, token="", XDG_STATE_HOME=str(state)
        ) as worker:
            names.append(predict(worker))
            statuses = [say(worker, name, score=1).status_code for name in names]

    assert statuses == [200, 200]
