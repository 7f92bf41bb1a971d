"""The worker's decisions: slots, deadlines, retries, ids, problems."""

from __future__ import annotations

import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_worker.core import backoff, deadline, ids, limiter, nesting, problem
from dspy_worker.core.limiter import Limits, Verdict
from dspy_worker.errors import FieldError, InputsInvalid, QueueFull, RequestError

LIMITS = Limits(concurrency=2, queue_size=3)


@pytest.mark.parametrize(
    ("running", "waiting", "expected"),
    [
        pytest.param(0, 0, Verdict.RUN, id="a free slot"),
        pytest.param(2, 0, Verdict.WAIT, id="no slot, room in the queue"),
        pytest.param(1, 1, Verdict.WAIT, id="nobody overtakes those who wait"),
        pytest.param(2, 3, Verdict.REFUSE, id="no slot, no room"),
    ],
)
def test_verdict(running: int, waiting: int, expected: Verdict) -> None:
    assert limiter.verdict(LIMITS, running=running, waiting=waiting) is expected


def test_without_a_queue_whoever_finds_no_slot_is_refused() -> None:
    limits = Limits(concurrency=1, queue_size=0)

    assert limiter.verdict(limits, running=1, waiting=0) is Verdict.REFUSE


@pytest.mark.parametrize(
    ("waiting", "mean", "expected"),
    [
        pytest.param(3, 1.0, 2, id="four requests, two at a time"),
        pytest.param(0, 0.0, 1, id="never below a second"),
        pytest.param(3, 1000.0, 60, id="never above a minute"),
    ],
)
def test_retry_after_is_when_the_queue_will_have_been_served(
    waiting: int, mean: float, expected: int
) -> None:
    assert limiter.retry_after(LIMITS, waiting=waiting, mean_seconds=mean) == expected


def test_a_batch_leaves_half_of_the_slots_to_others() -> None:
    assert limiter.fan_out(Limits(concurrency=8, queue_size=0), 64) == 4
    assert limiter.fan_out(Limits(concurrency=1, queue_size=0), 64) == 1
    assert limiter.fan_out(Limits(concurrency=8, queue_size=0), 2) == 2


def test_a_header_can_only_shorten_the_time() -> None:
    assert deadline.timeout(60, None) == 60
    assert deadline.timeout(60, "2.5") == 2.5
    assert deadline.timeout(60, "3600") == 60


@pytest.mark.parametrize("header", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_timeout_that_is_no_time_is_refused(header: str) -> None:
    with pytest.raises(RequestError, match="X-Request-Timeout-Seconds must be a number"):
        deadline.timeout(60, header)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**ids.RANDOM_BITS - 1))
def test_ids_are_uuids_of_version_7(unix_ms: int, random: int) -> None:
    found = uuid.UUID(ids.uuid7(unix_ms, random))

    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == unix_ms


@given(st.integers(0, 2**ids.RANDOM_BITS - 1), st.integers(0, 2**ids.RANDOM_BITS - 1))
def test_other_randomness_is_another_id(one: int, other: int) -> None:
    assert (ids.uuid7(1, one) == ids.uuid7(1, other)) == (one == other)


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("abc-123", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("", False),
        (None, False),
        ("two words", False),
        ("x" * 129, False),
        ("line\nbreak", False),
        ("a/b", False),
        ('quote"', False),
    ],
)
def test_only_ids_that_can_stand_in_logs_and_headers_are_taken(
    offered: str | None, *, taken: bool
) -> None:
    assert ids.request_id(offered) == (offered if taken else None)


@given(st.integers(1, 50), st.floats(0, 1))
def test_pauses_grow_and_stay_below_the_cap(attempt: int, jitter: float) -> None:
    pause = backoff.delay(attempt, jitter=jitter)

    assert 0.5 * backoff.BASE_SECONDS <= pause <= backoff.CAP_SECONDS
    assert pause <= backoff.delay(attempt + 1, jitter=1)


def test_a_pause_is_never_shorter_than_the_server_asked_for() -> None:
    assert backoff.delay(1, jitter=0, retry_after=30) == 30
    assert backoff.delay(9, jitter=1, retry_after=0.001) == backoff.CAP_SECONDS


@pytest.mark.parametrize(
    ("attempt", "wait", "remaining", "expected"),
    [
        pytest.param(2, 1.0, 9.0, True, id="allowed and in time"),
        pytest.param(3, 1.0, 9.0, False, id="one too many"),
        pytest.param(1, 9.0, 8.0, False, id="would begin after the deadline"),
        pytest.param(1, 0.0, 0.0, False, id="nobody waits any more"),
    ],
)
def test_whether_another_attempt_is_worth_it(
    attempt: int, wait: float, remaining: float, *, expected: bool
) -> None:
    assert backoff.worth_it(attempt, 2, wait=wait, remaining=remaining) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"[" * 65, True, id="arrays"),
        pytest.param(b'{"a":' * 65, True, id="objects"),
        pytest.param(b"[" * 64 + b"]" * 64, False, id="just not"),
        pytest.param(b"[],[]," * 100, False, id="many, side by side"),
        pytest.param(b'{"a": "' + b"[" * 999 + b'"}', False, id="brackets in a string"),
        pytest.param(b'{"a": "\\"' + b"[" * 999 + b'"}', False, id="after an escaped quote"),
        pytest.param(b'{"a": "\\\\"' + b"[" * 999, True, id="after an escaped backslash"),
        pytest.param(b'"' + b"[" * 999, False, id="in a string without an end"),
    ],
)
def test_too_deep(body: bytes, *, expected: bool) -> None:
    assert nesting.too_deep(body) is expected


def test_a_megabyte_of_brackets_is_judged_at_once() -> None:
    assert nesting.too_deep(b"[" * 1_000_000)


def test_a_problem_names_each_field() -> None:
    field = FieldError(path="/inputs/text", message="this field is required", code="missing")

    found = problem.document(InputsInvalid("no text", fields=(field,)), request_id="r1")

    assert found == {
        "type": "urn:dspy-operator:problem:invalid-inputs",
        "title": "The inputs do not fit the program",
        "status": 422,
        "detail": "no text",
        "requestId": "r1",
        "errors": [
            {"path": "/inputs/text", "message": "this field is required", "code": "missing"}
        ],
    }


def test_retry_after_is_rounded_up_to_whole_seconds() -> None:
    assert problem.retry_after(QueueFull("full", retry_after=1.2)) == "2"
    assert problem.retry_after(QueueFull("full")) is None


@pytest.mark.parametrize("asked", [1e300, math.inf])
def test_no_client_waits_for_ever_because_an_lms_server_says_so(asked: float) -> None:
    assert problem.retry_after(QueueFull("full", retry_after=asked)) == "3600"


def test_pointers_escape_what_json_pointers_escape() -> None:
    assert problem.pointer("inputs", 3, "a/b~c") == "/inputs/3/a~1b~0c"
