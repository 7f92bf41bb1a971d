"""The practice LM over HTTP: completions, streams, faults, keys and its end."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dspy
import httpx
import pytest

from dspy_worker.practice import counters
from tests import practice_fixture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.practice_fixture import PracticeLM

pytestmark = pytest.mark.services

ASKED = dspy.Signature(
    "text: str -> label: str, count: int", "Label it.\n- animal: zebra\n- tool: saw"
)


def body(*, text: object = "A zebra and 3 lions.", **options: object) -> dict[str, Any]:
    messages = dspy.ChatAdapter().format(ASKED, [], {"text": text})
    return {"model": "any", "messages": messages, **options}


def post(
    lm: PracticeLM, *, headers: dict[str, str] | None = None, **options: object
) -> httpx.Response:
    return httpx.post(f"{lm.url}/chat/completions", json=body(**options), headers=headers)


def answer(response: httpx.Response) -> dict[str, Any]:
    text = response.json()["choices"][0]["message"]["content"]
    return dict(dspy.ChatAdapter().parse(ASKED, text))


def events(lm: PracticeLM, **options: object) -> list[str]:
    url, asked = f"{lm.url}/chat/completions", body(stream=True, **options)
    with httpx.stream("POST", url, json=asked) as response:
        return [line.removeprefix("data: ") for line in response.iter_lines() if line]


def until(lm: PracticeLM, name: str, wanted: object) -> None:
    """Wait until a count arrives: the server learns of a client's leave a moment later."""
    for _ in range(100):
        if lm.stats()[name] == wanted:
            return
        time.sleep(0.02)
    assert lm.stats()[name] == wanted


def test_a_completion_has_the_answer_and_its_usage(practice_lm: PracticeLM) -> None:
    response = post(practice_lm)

    usage = response.json()["usage"]
    assert answer(response) == {"label": "animal", "count": 3}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 50


def test_several_choices_are_drawn_apart(practice_lm: PracticeLM) -> None:
    choices = post(practice_lm, n=3, temperature=1.0).json()["choices"]

    assert [choice["index"] for choice in choices] == [0, 1, 2]


def test_a_stream_gives_the_same_text_and_ends_with_its_usage(practice_lm: PracticeLM) -> None:
    *chunks, usage, done = events(practice_lm)
    deltas = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks]

    whole = post(practice_lm).json()
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert json.loads(usage)["usage"] == whole["usage"]
    assert done == "[DONE]"


def test_dspy_itself_can_ask(practice_lm: PracticeLM) -> None:
    lm = dspy.LM("openai/practice", api_base=practice_lm.url, api_key="k", cache=False)

    with dspy.context(lm=lm):
        found = dspy.Predict(ASKED)(text="I want a saw.")

    assert found.label == "tool"


def test_models_and_probes_answer(practice_lm: PracticeLM) -> None:
    assert httpx.get(f"{practice_lm.url}/models").json()["data"][0]["id"] == "practice"
    assert httpx.get(f"{practice_lm.root}/livez").is_success
    assert httpx.get(f"{practice_lm.root}/readyz").is_success


def test_a_request_that_is_no_completion_gets_400(practice_lm: PracticeLM) -> None:
    response = httpx.post(f"{practice_lm.url}/chat/completions", content=b"{}")

    assert response.status_code == 400
    assert "messages" in response.json()["error"]["message"]


def test_stats_count_calls_streams_tokens_and_keys(practice_lm: PracticeLM) -> None:
    post(practice_lm, headers={"authorization": "Bearer one"})
    post(practice_lm, headers={"authorization": "Bearer two"})
    events(practice_lm)

    stats = practice_lm.stats()
    assert (stats["calls"], stats["streams"], stats["in_flight"]) == (3, 1, 0)
    assert stats["completion_tokens"] > 0
    assert stats["keys"] == {
        counters.fingerprint("Bearer one"): 1,
        counters.fingerprint("Bearer two"): 1,
        counters.NO_KEY: 1,
    }


def test_a_refusal_names_when_to_come_back_and_ends_by_itself(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="status", status=429, retry_after_seconds=2, times=1)

    refused, accepted = post(practice_lm), post(practice_lm)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert accepted.is_success
    assert practice_lm.stats()["faults"] == {"status": 1}


@pytest.mark.parametrize("kind", ["garbage", "wrong_types"])
def test_a_spoiled_answer_cannot_be_parsed(practice_lm: PracticeLM, kind: str) -> None:
    practice_lm.faults(kind=kind, match="3 lions")

    with pytest.raises((dspy.utils.exceptions.AdapterParseError, ValueError)):
        answer(post(practice_lm))
    assert answer(post(practice_lm, text="A saw."))


def test_latency_is_added(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="latency", ms=150)
    before = time.monotonic()

    post(practice_lm)

    assert time.monotonic() - before >= 0.15


def test_a_connection_is_closed_without_an_answer(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="hang_up", times=1)

    with pytest.raises(httpx.RemoteProtocolError):
        post(practice_lm)
    assert post(practice_lm).is_success


def test_a_stream_breaks_after_its_chunks(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="cut_stream", after=3)
    seen: list[str] = []

    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{practice_lm.url}/chat/completions", json=body(stream=True)) as got,
    ):
        seen.extend(line for line in got.iter_lines() if line)

    assert len(seen) == 3


def test_a_client_that_leaves_a_slow_stream_is_counted(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="slow_stream", ms=50)
    url = f"{practice_lm.url}/chat/completions"

    with httpx.stream("POST", url, json=body(stream=True)) as response:
        next(response.iter_lines())

    until(practice_lm, "aborted", 1)
    until(practice_lm, "in_flight", 0)


async def test_a_client_that_does_not_wait_is_counted(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="latency", ms=5000)
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{practice_lm.url}/chat/completions", json=body(), timeout=0.1)

    await asyncio.to_thread(until, practice_lm, "aborted", 1)


def test_a_bad_plan_gets_a_clear_problem(practice_lm: PracticeLM) -> None:
    with pytest.raises(ValueError, match="earthquake"):
        practice_lm.faults(kind="earthquake")


def test_faults_are_told_and_ended(practice_lm: PracticeLM) -> None:
    practice_lm.faults(faults=[{"kind": "garbage"}, {"kind": "latency", "ms": 1}])
    url = f"{practice_lm.root}/control/faults"

    assert [row["kind"] for row in httpx.get(url).json()["faults"]] == ["garbage", "latency"]
    assert httpx.delete(url).json() == {"faults": []}


def test_the_peak_of_calls_in_flight_is_kept(practice_lm: PracticeLM) -> None:
    practice_lm.faults(kind="latency", ms=300)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: post(practice_lm), range(5)))

    assert practice_lm.stats()["peak_in_flight"] == 5


def test_only_listed_keys_are_accepted_and_the_list_may_change(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("old\n")
    with practice_fixture.running("--require-key", str(keys)) as lm:
        header = {"authorization": "Bearer new"}
        refused = post(lm, headers=header)
        keys.write_text("old\nnew\n")

        assert refused.status_code == 401
        assert post(lm, headers=header).is_success
        assert lm.stats()["refused_keys"] == 1


def test_fixed_answers_do_not_depend_on_the_inputs() -> None:
    with practice_fixture.running("--fixed") as lm:
        one, two = answer(post(lm, text="A zebra.")), answer(post(lm, text="3 saws."))

    assert one == two
    assert isinstance(one["count"], int)


def test_a_stop_lets_calls_in_flight_finish() -> None:
    with practice_fixture.running("--latency-ms", "400") as lm, ThreadPoolExecutor(1) as pool:
        late = pool.submit(post, lm)
        until(lm, "in_flight", 1)
        lm.process.terminate()

        assert late.result().is_success
        assert lm.process.wait(5) == 0
