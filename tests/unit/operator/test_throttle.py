"""When scale-up is held, and for how long."""

from dspy_operator.core.manifest import Key
from dspy_operator.reconcile.throttle import HOLD_SECONDS, Throttle
from dspy_worker.contract.state import WorkerState

APP = Key("team", "qa")


def reports(throttled: int, free: int) -> list[WorkerState]:
    told = [True] * throttled + [False] * free
    return [WorkerState(app="qa", config_digest="d", ready=True, throttled=each) for each in told]


def test_half_of_the_workers_hold_and_fewer_do_not() -> None:
    assert Throttle().hold(APP, reports(2, 2), held_before=False, now=0) == HOLD_SECONDS
    assert Throttle().hold(APP, reports(1, 2), held_before=False, now=0) == 0
    assert Throttle().hold(APP, [], held_before=False, now=0) == 0


def test_a_hold_outlasts_the_last_complaint_by_a_minute() -> None:
    throttle = Throttle()
    throttle.hold(APP, reports(1, 0), held_before=False, now=0)

    assert throttle.hold(APP, reports(0, 1), held_before=True, now=59) == 1
    assert throttle.hold(APP, reports(0, 1), held_before=True, now=60) == 0
    assert throttle.hold(APP, reports(0, 1), held_before=True, now=61) == 0, "no hold renews itself"


def test_a_restart_keeps_a_hold_until_the_workers_can_have_reported() -> None:
    restarted = Throttle()

    assert restarted.hold(APP, [], held_before=True, now=5) == HOLD_SECONDS
    assert restarted.hold(APP, [], held_before=True, now=5 + HOLD_SECONDS) == 0
