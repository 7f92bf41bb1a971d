"""The queue: each key once, one run at a time, failures back off; all by a clock of our own."""

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.core.manifest import Key
from dspy_operator.edge.telemetry import Telemetry
from dspy_operator.errors import ForbiddenError, OperatorError, SpecError, UnavailableError
from dspy_operator.reconcile.queue import Queue, Schedule

A, B = Key("team", "a"), Key("team", "b")


def schedule() -> Schedule:
    return Schedule(jitter=lambda: 1.0)


def failures(made: Schedule, key: Key, count: int, *, limit: float = 300) -> list[float]:
    """Fail a key again and again, each time when it is due; return the waits."""
    waits, now = [], 0.0
    made.add(key, now)
    for _ in range(count):
        assert made.take(now) == key
        waits.append(made.fail(key, now, first=0.5, limit=limit))
        now += waits[-1]
    return waits


def test_a_key_that_is_added_twice_runs_once() -> None:
    made = schedule()
    made.add(A, 0)
    made.add(A, 0)

    assert (made.take(0), made.take(0)) == (A, None)


def test_a_running_key_is_not_given_out_again_but_looked_at_after() -> None:
    made = schedule()
    made.add(A, 0)
    made.take(0)
    made.add(A, 1)

    assert made.take(1) is None
    made.succeed(A, 2)
    assert made.take(2.3) == A


def test_a_minor_matter_goes_last_while_there_is_other_work() -> None:
    made = schedule()
    made.add(A, 0, minor=True)
    made.add(B, 1)

    assert made.is_busy(1)
    assert (made.take(1), made.take(1)) == (B, A)
    assert made.next_due() is None


def test_a_minor_matter_does_not_wait_where_nothing_else_is_due() -> None:
    made = schedule()
    made.add(A, 0, minor=True)

    assert not made.is_busy(0)
    assert (made.next_due(), made.take(0)) == (0, A)


def test_a_minor_matter_does_not_wait_for_ever() -> None:
    made = schedule()
    made.add(A, 0, minor=True)
    made.add(B, 0)

    assert made.take(15) == B
    made.succeed(B, 15)
    made.add(B, 15.5)
    assert made.take(16) == A


def test_a_minor_matter_that_becomes_urgent_is_urgent() -> None:
    made = schedule()
    made.add(A, 0, minor=True)
    made.add(A, 1)
    made.add(B, 2)

    assert (made.take(2), made.take(2), made.take(60)) == (A, B, None)


def test_a_look_that_is_planned_does_not_hold_up_a_minor_matter() -> None:
    made = schedule()
    made.add(A, 10)
    made.add(A, 0, minor=True)

    assert made.take(0) == A
    made.succeed(A, 0)
    assert made.take(100) is None, "the planned look was this one"


@pytest.mark.parametrize("minor", [True, False])
def test_news_during_a_run_keep_their_weight(*, minor: bool) -> None:
    made = schedule()
    made.add(A, 0)
    made.take(0)
    made.add(A, 1, minor=minor)
    made.add(A, 1, minor=True)
    made.succeed(A, 2)

    assert made.is_busy(3) is not minor
    assert made.take(3) == A


def test_a_key_that_is_due_later_comes_sooner_when_asked() -> None:
    made = schedule()
    made.add(A, 60)
    made.add(A, 1)

    assert made.take(0.5) is None
    assert made.take(1) == A
    made.succeed(A, 1)
    assert made.take(100) is None


def test_waits_double_up_to_the_limit() -> None:
    assert failures(schedule(), A, 5) == [0.5, 1, 2, 4, 8]
    assert failures(schedule(), A, 20)[-1] == 300
    assert failures(schedule(), A, 20, limit=5)[-1] == 5


def test_success_forgets_the_failures() -> None:
    made = schedule()
    failures(made, A, 5)
    assert made.take(1000) == A
    made.succeed(A, 1000)

    made.add(A, 1000)
    made.take(1000)
    assert made.fail(A, 1000, first=0.5, limit=300) == 0.5


def test_news_do_not_defeat_the_back_off_of_a_run_that_failed() -> None:
    made = schedule()
    made.add(A, 0)
    made.take(0)
    made.add(A, 0)
    made.fail(A, 0, first=0.5, limit=300)

    assert made.take(0.4) is None
    assert made.take(0.5) == A


def test_news_that_a_failed_run_has_missed_do_not_wait_for_the_whole_back_off() -> None:
    made = schedule()
    failures(made, A, 12)
    assert made.take(10_000) == A
    made.add(A, 10_000)

    assert made.fail(A, 10_000, first=30, limit=300) == 0.5


def test_a_look_again_is_a_key_that_is_due_later() -> None:
    made = schedule()
    made.add(A, 0)
    made.take(0)
    made.succeed(A, 0, look_again_after=10)

    assert made.next_due() == 10
    assert made.depth(9) == 0
    assert made.depth(10) == 1


def test_the_oldest_run_tells_its_age() -> None:
    made = schedule()
    made.add(A, 0)
    made.add(B, 3)
    made.take(0)
    made.take(3)

    assert (made.longest(5), made.running()) == (5, 2)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 50)), max_size=30))
def test_every_added_key_is_given_out_exactly_once(adds: list[tuple[Key, int]]) -> None:
    made = schedule()
    for key, at in adds:
        made.add(key, at)

    taken = []
    while (key := made.take(100)) is not None:
        taken.append(key)
        made.succeed(key, 100)
    assert sorted(taken) == sorted({key for key, _ in adds})
    assert made.next_due() is None


async def run(results: Iterable[float | OperatorError | None]) -> tuple[list[Key], Telemetry]:
    """Let one worker take A until the given results are used up."""
    left, seen, telemetry = list(results), [], Telemetry()
    done = asyncio.Event()

    async def work(key: Key) -> float | None:
        seen.append(key)
        result = left.pop(0)
        if not left:
            done.set()
        if isinstance(result, Exception):
            raise result
        return result

    queue = Queue(work, telemetry)
    queue.add(A)
    worker = asyncio.create_task(queue.run_worker())
    await asyncio.sleep(0.01)
    assert seen == [], "nothing runs before everything is known"
    queue.open()
    async with asyncio.timeout(1.8):
        await done.wait()
        await asyncio.sleep(0.05)
    await queue.stop(1)
    worker.cancel()
    return seen, telemetry


def count(telemetry: Telemetry, name: str, **labels: str) -> float:
    return telemetry.registry.get_sample_value(f"dspy_operator_{name}", labels) or 0


async def test_an_error_that_may_pass_is_tried_again() -> None:
    seen, telemetry = await run([UnavailableError("away", retry_after=0.01), None])

    assert seen == [A, A]
    assert count(telemetry, "errors_total", reason="APIUnavailable") == 1
    assert count(telemetry, "reconcile_total", kind="DSPyApp", result="success") == 1


async def test_an_error_that_only_the_author_can_mend_is_not_tried_again() -> None:
    seen, telemetry = await run([SpecError("no")])

    assert seen == [A]
    assert count(telemetry, "workqueue_retries_total") == 0


async def test_a_surprise_in_one_app_does_not_end_the_worker() -> None:
    error = ZeroDivisionError()
    seen, telemetry = await run([error, None])  # type: ignore[list-item]

    assert seen == [A, A]
    assert count(telemetry, "reconcile_total", kind="DSPyApp", result="panic") == 1


@pytest.mark.parametrize(
    ("error", "limit"), [(UnavailableError("x"), 5), (ForbiddenError("x"), 15)]
)
def test_what_passes_by_itself_is_never_waited_for_long(error: OperatorError, limit: float) -> None:
    assert error.retry_limit == limit


async def test_keys_that_hang_by_turns_do_not_keep_the_first_look_from_being_done() -> None:
    """An app whose admission webhook is dead runs into its time-out again and again."""
    seen: list[Key] = []
    asked = asyncio.Event()

    async def work(key: Key) -> None:
        seen.append(key)
        if len(seen) > 3:
            asked.set()
            await asyncio.sleep(30)
        await asyncio.sleep(0.02 if key == A else 0.03)
        raise UnavailableError("time-out", retry_after=0.001)

    queue = Queue(work, Telemetry())
    workers = [asyncio.create_task(queue.run_worker()) for _ in range(2)]
    queue.add(A)
    queue.add(B)
    assert not queue.drained.is_set()
    queue.open()
    async with asyncio.timeout(1.5):
        await asked.wait()

    assert queue.drained.is_set()
    for worker in workers:
        worker.cancel()


def test_a_queue_without_keys_is_ready_when_it_opens() -> None:
    async def work(_: Key) -> None:
        """Do nothing."""

    queue = Queue(work, Telemetry())
    assert not queue.drained.is_set()
    queue.open()
    assert queue.drained.is_set()


def test_events_of_one_change_cost_one_look() -> None:
    schedule = Schedule(lambda: 1.0)
    schedule.add(A, 0.0)
    assert schedule.take(0.0) == A
    schedule.add(A, 0.0)
    schedule.succeed(A, 1.0)
    schedule.add(A, 1.01)
    schedule.add(A, 1.02)

    assert schedule.take(1.2) is None
    assert schedule.take(1.25) == A
    schedule.succeed(A, 1.3)
    assert schedule.take(9.0) is None
