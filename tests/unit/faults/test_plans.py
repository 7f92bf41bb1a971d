"""Which faults follow from what was recorded, and which are left out."""

from collections.abc import Iterable

from faults.plans import Kind, Plan, Point, derive
from faults.trace import Line, Request, Target, Trace

STEP = "create"


def write(n: int, name: str, *, answered: int, step: str = STEP, status: int = 200) -> Request:
    return Request(
        n=n,
        step=step,
        verb="patch",
        target=Target("services", "team", name),
        digest=f"{name}{step}",
        answered=answered,
        status=status,
        version=str(n),
    )


def line(n: int, kind: str, name: str = "a", *, version: int, step: str = STEP) -> Line:
    return Line(
        n=n, step=step, stream="services", type=kind, name=name, uid="u", version=str(version)
    )


def plans(
    requests: Iterable[Request] = (),
    lines: Iterable[Line] = (),
    steps: tuple[str, ...] = (STEP,),
    scenarios: tuple[str, ...] = ("s",),
) -> tuple[Plan, ...]:
    traces = {
        name: Trace(requests=sorted(requests, key=lambda r: r.n), lines=list(lines))
        for name in scenarios
    }
    return derive(traces, dict.fromkeys(scenarios, steps))


def points(found: Iterable[Plan], kind: Kind) -> list[str]:
    return [str(plan.at) for plan in found if plan.kind is kind]


def test_each_accepted_write_is_lost_in_each_way() -> None:
    found = plans([write(1, "a", answered=2)])

    assert [p.kind for p in found if p.at == Point(STEP, "patch services a")] == [
        Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.LOST_REPLY, Kind.TIMEOUT, Kind.RACE,
        Kind.CONFLICT, Kind.THROTTLE, Kind.ERROR, Kind.FORBIDDEN,
    ]  # fmt: skip


def test_each_step_has_an_outage_and_a_journey_into_the_past() -> None:
    assert [str(plan) for plan in plans(steps=("one", "two"))] == [
        "s/outage one: start",
        "s/stale one: start",
        "s/outage two: start",
        "s/stale two: start",
    ]


def test_a_write_that_was_refused_is_no_place_for_a_fault() -> None:
    assert points(plans([write(1, "a", answered=2, status=409)]), Kind.CRASH_AFTER) == []


def test_a_crash_before_a_write_is_left_out_where_a_crash_after_the_last_one_is_the_same() -> None:
    one_by_one = [write(1, "a", answered=2), write(3, "b", answered=4)]
    at_once = [write(1, "a", answered=3), write(2, "b", answered=4)]

    assert points(plans(one_by_one), Kind.CRASH_BEFORE) == ["create: patch services a"]
    assert len(points(plans(at_once), Kind.CRASH_BEFORE)) == 2


def test_steps_that_only_prepare_have_no_faults() -> None:
    found = plans([write(1, "a", answered=2, step="prepare")], [line(3, "ADDED", version=9)])

    assert all(plan.at.step == STEP for plan in found)


def test_the_same_content_is_lost_in_one_scenario_only() -> None:
    found = plans([write(1, "a", answered=2)], scenarios=("first", "second"))

    assert {p.scenario for p in found if p.kind is Kind.LOST_REPLY} == {"first"}


def test_writes_to_one_object_in_one_step_are_told_apart() -> None:
    first, second = write(1, "a", answered=2), write(3, "a", answered=4)
    other = Request(**{**{f: getattr(second, f) for f in second.__slots__}, "digest": "other"})

    assert points(plans([first, other]), Kind.CRASH_AFTER) == [
        "create: patch services a",
        "create: patch services a #2",
    ]


def test_a_line_is_hidden_only_where_a_later_one_corrects_it() -> None:
    alone = [line(1, "MODIFIED", version=5)]
    corrected = [*alone, line(2, "MODIFIED", version=6)]

    assert points(plans(lines=alone), Kind.HIDE) == []
    assert points(plans(lines=corrected), Kind.HIDE) == ["create: services MODIFIED a"]


def test_a_line_is_not_hidden_where_our_reaction_to_it_brought_the_correction() -> None:
    lines = [line(1, "DELETED", version=5), line(4, "ADDED", version=2)]

    assert points(plans([write(2, "a", answered=3)], lines), Kind.HIDE) == []


def test_a_line_that_our_own_answer_has_told_is_not_hidden() -> None:
    lines = [line(3, "ADDED", version=1), line(4, "MODIFIED", version=6)]

    assert points(plans([write(1, "a", answered=2)], lines), Kind.HIDE) == []


def test_a_stream_ends_once_for_each_type_of_line() -> None:
    lines = [line(1, "ADDED", version=5), line(2, "ADDED", "b", version=6)]
    lines += [line(3, "DELETED", version=7), line(4, "BOOKMARK", "", version=8)]
    found = plans(lines=lines)

    assert points(found, Kind.GONE) == ["create: services ADDED a", "create: services DELETED a"]
    assert points(found, Kind.SILENT) == ["create: services ADDED a"]


def test_the_order_is_that_of_scenarios_steps_and_kinds() -> None:
    requests = [write(1, "b", answered=3), write(2, "a", answered=4)]
    swapped = [write(1, "a", answered=3), write(2, "b", answered=4)]

    assert plans(requests) == plans(swapped)
