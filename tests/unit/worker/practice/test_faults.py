"""Plans of faults: what is refused, and which calls a fault hits."""

from __future__ import annotations

import pytest

from dspy_worker.practice import faults
from dspy_worker.practice.faults import Effect, Kind, Plan, PlanError


def plan(*rows: dict[str, object]) -> Plan:
    return Plan(faults.read_plan({"faults": list(rows)}))


def statuses(of: Plan, calls: int, text: str = "") -> list[int]:
    return [of.effect(text, stream=False).status for _ in range(calls)]


@pytest.mark.parametrize(
    ("found", "word"),
    [
        pytest.param([], "JSON object", id="a list is no plan"),
        pytest.param({"faults": {}}, "list", id="faults are a list"),
        pytest.param({"faults": [], "kind": "garbage"}, "alone", id="not both forms"),
        pytest.param({"faults": [3]}, "3", id="a fault is an object"),
        pytest.param({"kind": "earthquake"}, "earthquake", id="an unknown kind"),
        pytest.param({"kind": ["garbage"]}, "kind", id="a kind is a word"),
        pytest.param({"kind": "status"}, "'status'", id="a status needs its number"),
        pytest.param({"kind": "status", "status": 200}, "200", id="a good status is no fault"),
        pytest.param({"kind": "garbage", "ms": 5}, "'ms'", id="a word of another kind"),
        pytest.param({"kind": "garbage", "often": 5}, "'often'", id="an unknown word"),
        pytest.param({"kind": "garbage", "share": 1.5}, "share", id="a share above one"),
        pytest.param({"kind": "garbage", "times": 0}, "times", id="never is no fault"),
        pytest.param({"kind": "garbage", "times": True}, "times", id="a yes is no number"),
        pytest.param({"kind": "garbage", "match": 5}, "match", id="a match is a text"),
        pytest.param({"kind": "latency", "ms": "5"}, "ms", id="a text is no number"),
    ],
)
def test_a_bad_plan_is_refused_by_name(found: object, word: str) -> None:
    with pytest.raises(PlanError, match=word):
        faults.read_plan(found)


def test_one_fault_alone_is_a_plan() -> None:
    assert faults.read_plan({"kind": "garbage"}) == (faults.Fault(kind=Kind.GARBAGE),)


def test_a_fault_ends_after_its_times() -> None:
    assert statuses(plan({"kind": "status", "status": 503, "times": 2}), 4) == [503, 503, 0, 0]


def test_a_share_is_spread_evenly() -> None:
    found = statuses(plan({"kind": "status", "status": 429, "share": 0.25}), 8)

    assert found == [0, 0, 0, 429, 0, 0, 0, 429]


def test_a_share_of_nothing_never_hits() -> None:
    assert statuses(plan({"kind": "status", "status": 429, "share": 0}), 20) == [0] * 20


def test_a_fault_hits_only_prompts_that_match() -> None:
    found = plan({"kind": "status", "status": 500, "match": "zebra", "times": 1})

    assert statuses(found, 2, "a lion") == [0, 0]
    assert statuses(found, 2, "a zebra") == [500, 0]


def test_a_fault_of_streams_waits_for_a_stream() -> None:
    found = plan({"kind": "cut_stream", "after": 2, "times": 1})

    assert found.effect("", stream=False) == faults.NO_EFFECT
    assert found.effect("", stream=True).cut_after == 2


def test_faults_act_together() -> None:
    found = plan(
        {"kind": "latency", "ms": 100},
        {"kind": "latency", "ms": 200},
        {"kind": "status", "status": 429, "retry_after_seconds": 2},
    )

    assert found.effect("", stream=False) == Effect(
        kinds=frozenset({Kind.LATENCY, Kind.STATUS}),
        latency_seconds=pytest.approx(0.3),
        status=429,
        retry_after_seconds=2,
    )


def test_jitter_adds_up_to_its_size_and_repeats_between_runs() -> None:
    row = {"kind": "latency", "ms": 10, "jitter_ms": 20}
    one, two = plan(row), plan(row)
    first = [one.effect("", stream=False).latency_seconds for _ in range(20)]

    assert first == [two.effect("", stream=False).latency_seconds for _ in range(20)]
    assert all(0.01 <= seconds < 0.03 for seconds in first)
    assert len(set(first)) > 10


def test_a_plan_tells_its_hits() -> None:
    found = plan({"kind": "status", "status": 500, "times": 3})
    statuses(found, 2)

    row = found.dump()["faults"][0]

    assert (row["kind"], row["hits"], row["times"]) == ("status", 2, 3)
