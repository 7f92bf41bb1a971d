"""When a provider counts as throttling."""

from dspy import lm15

from dspy_worker.core.throttle import Throttle
from dspy_worker.edge import telemetry


def after(calls: str) -> tuple[Throttle, float]:
    """Return the state after ten calls a second, of which those written x were refused."""
    throttle = Throttle()
    for number, call in enumerate(calls):
        throttle.note(refused=call == "x", now=number / 10)
    return throttle, len(calls) / 10


def test_one_refusal_among_many_calls_is_no_throttling() -> None:
    throttle, now = after("." * 20 + "x" + "." * 20)

    assert not throttle.is_throttled(now)


def test_a_fifth_of_the_calls_is() -> None:
    throttle, now = after("...x" * 10)

    assert throttle.is_throttled(now)


def test_it_passes_with_time_and_with_better_calls() -> None:
    throttle, now = after("x")
    assert throttle.is_throttled(now)
    assert not throttle.is_throttled(now + 30)

    for number in range(20):
        throttle.note(refused=False, now=now + number)
    assert not throttle.is_throttled(now + 20)


def test_the_outcome_that_counts_is_the_code_of_dspys_error() -> None:
    assert lm15.RateLimitError("slow down").code == telemetry.REFUSED
    metrics = telemetry.Metrics("qa")
    metrics.lm_attempt("main", telemetry.REFUSED, 0.1)

    assert metrics.is_throttled()
    assert b'dspy_lm_throttled{app="qa"} 1.0' in metrics.render()
