"""What clients read about failures, and what they must not read."""

from __future__ import annotations

import dspy
import pytest
from dspy import lm15

from dspy_worker.edge import adapter
from dspy_worker.errors import (
    LMAnswerUnusable,
    LMCredentialsMissing,
    LMError,
    LMRejected,
    LMUnavailable,
    ProgramRaised,
    WorkerError,
)
from dspy_worker.serve import failures, front
from dspy_worker.testing import FakeLM


async def failure(answer: Exception | str) -> Exception:
    """Return what DSPy raises for an answer of the engine."""
    with dspy.context(lm=FakeLM([answer]).lm(), adapter=adapter.make("Chat")):
        try:
            await dspy.ChainOfThought("q -> a: int").acall(q="a secret question")
        except Exception as error:  # noqa: BLE001 - whatever DSPy makes of it
            return error
    pytest.fail("no error")


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ("garbage", LMAnswerUnusable, "did not answer in the form of: reasoning, a"),
        (lm15.AuthError("sk-1 is bad", status=401), LMRejected, "the worker's key (HTTP 401)"),
        (lm15.ContextLengthError("long", status=400), LMRejected, "too long for the model"),
        (lm15.UnsupportedModelError("no m", status=404), LMRejected, "does not know the model"),
        (lm15.InvalidRequestError("bad", status=400), LMRejected, "as invalid (HTTP 400)"),
        (lm15.RateLimitError("slow", status=429), LMUnavailable, "over its rate limit"),
        (lm15.ServerError("http://internal:1", status=500), LMUnavailable, "failed (HTTP 500)"),
        (lm15.TimeoutError("late"), LMUnavailable, "did not answer in time"),
        (lm15.TransportError("http://internal:1"), LMUnavailable, "cannot be reached"),
        (LMCredentialsMissing("the key is missing"), LMCredentialsMissing, "the key is missing"),
        (AttributeError("'NoneType': garbage"), LMError, "sent an answer that cannot be read"),
    ],
)  # fmt: skip
async def test_each_failure_has_its_kind_and_sentence(
    answer: Exception | str, kind: type[WorkerError], message: str
) -> None:
    found = failures.explain(await failure(answer))

    assert type(found) is kind
    assert message in str(found)
    assert all(word not in str(found) for word in ("sk-1", "internal:1", "secret", "garbage"))


async def test_the_servers_retry_after_is_passed_on() -> None:
    found = failures.explain(await failure(lm15.RateLimitError("slow", retry_after=9.0)))

    assert found.retry_after == 9.0


def test_the_text_of_a_users_error_stays_inside() -> None:
    found = failures.explain(ValueError("a secret question"))

    assert type(found) is ProgramRaised
    assert str(found) == "The program raised ValueError."


def test_what_a_program_wraps_is_still_found() -> None:
    wrapped = RuntimeError("my program")
    wrapped.__cause__ = LMCredentialsMissing("the key is missing")

    assert type(failures.explain(wrapped)) is LMCredentialsMissing


def test_the_first_error_of_a_group_is_told() -> None:
    """Programs ask side by side in an `asyncio.TaskGroup`."""
    group = ExceptionGroup("my program", [dspy.LMServerError("x", status=500), ValueError()])

    assert type(failures.explain(group)) is LMUnavailable


def test_the_log_has_places_and_no_texts() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("a secret question")

    found = front.trace(caught.value)

    assert found["error"] == "ValueError"
    assert "secret" not in str(found)
    assert "test_failures.py" in found["frames"][-1]
