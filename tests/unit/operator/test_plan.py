"""Desired and live children -> writes."""

import copy
from typing import Any

from dspy_operator.core import plan
from dspy_operator.core.manifest import Manifest, Ref, ref_of

UID = "app-uid"


def child(name: str, stamp: str = "s1", owner: str = UID, **spec: Any) -> Manifest:  # noqa: ANN401 - JSON
    return {
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": name,
            "ownerReferences": [{"uid": owner, "controller": True}],
            "annotations": {"dspy-operator.io/applied": stamp},
        },
        "spec": spec,
    }


def decide(
    desired: list[Manifest], live: list[Manifest], keep: frozenset[Ref] = frozenset()
) -> plan.Plan:
    return plan.plan(desired, {ref_of(c): c for c in live}, keep=keep, uid=UID)


def test_equal_children_cost_nothing() -> None:
    both = [child("a", port=1), child("b")]

    assert decide(both, copy.deepcopy(both)) == plan.Plan(applies=(), deletes=())


def test_a_missing_child_is_applied_and_is_no_repair_by_itself() -> None:
    (step,) = decide([child("a")], []).applies

    assert (step.live, step.repair) == (None, False)


def test_a_changed_wish_is_no_repair_and_a_changed_child_is() -> None:
    (wish,) = decide([child("a", "s2", port=2)], [child("a", "s1", port=1)]).applies
    (drift,) = decide([child("a", "s1", port=1)], [child("a", "s1", port=9)]).applies

    assert (wish.repair, drift.repair) == (False, True)


def test_a_field_that_is_no_longer_wanted_shows_by_the_stamp() -> None:
    (step,) = decide([child("a", "s2")], [child("a", "s1", port=1)]).applies

    assert "port" not in step.desired["spec"]


def test_an_unwanted_child_of_ours_goes_and_that_of_others_stays() -> None:
    ours, kept, foreign = child("a"), child("b"), child("c", owner="somebody")
    found = decide([], [ours, kept, foreign], keep=frozenset({ref_of(kept)}))

    assert found.deletes == (ours,)
