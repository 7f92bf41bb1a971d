"""What counts as a failure of a run."""

from typing import Any

import pytest

from faults.oracles import Run, difference, hid_last_word, judge, noise, state
from faults.plans import Kind, Plan, Point
from faults.trace import Line, Observation, Request, Target, Trace

PLAN = Plan("create", Kind.CRASH_AFTER, Point("create", "patch services a"))


def write(name: str = "a", *, status: int = 200, verb: str = "patch", **more: Any) -> Request:  # noqa: ANN401 - fields
    target = Target("services", "team", name)
    return Request(n=1, step="create", verb=verb, target=target, status=status, **more)


def app(generation: int, ready: str, version: int, kind: str = "MODIFIED") -> Observation:
    condition = {"type": "Ready", "status": ready, "observedGeneration": generation}
    status = {"observedGeneration": generation, "conditions": [condition]}
    metadata = {"name": "qa", "uid": "u", "resourceVersion": str(version)}
    return Observation(kind="DSPyApp", type=kind, live={"metadata": metadata, "status": status})


def child(version: int) -> Observation:
    owners = [{"uid": "u"}]
    metadata = {
        "name": "qa",
        "uid": "c",
        "resourceVersion": str(version),
        "ownerReferences": owners,
    }
    return Observation(kind="Service", type="ADDED", live={"metadata": metadata})


def run(*requests: Request, plan: Plan | None = PLAN, **more: Any) -> Run:  # noqa: ANN401 - fields
    fields = {"states": {}, "history": (), **more}
    return Run(plan=plan, trace=Trace(requests=list(requests)), **fields)


REFERENCE = run(write(), plan=None)


def findings(found: Run) -> list[str]:
    return list(judge(found, [REFERENCE]))


def test_the_reference_itself_survives() -> None:
    assert findings(REFERENCE) == []


def test_a_crash_may_cost_one_more_write_to_each_object_and_not_two() -> None:
    assert findings(run(write(), write())) == []
    assert findings(run(write(), write(), write())) == [
        "3 accepted writes (patch services a), at most 2 expected"
    ]


def test_what_one_of_several_references_does_is_usual() -> None:
    busy = run(write(), write(), plan=None)

    assert judge(run(write(), write(), write()), [REFERENCE, busy]) == ()


def test_refused_writes_are_patience_up_to_a_point() -> None:
    refused = write(status=409)

    assert findings(run(write(), *[refused] * 12)) == []
    assert findings(run(write(), *[refused] * 13)) == [
        "13 refused or lost writes (patch services a), at most 12 expected"
    ]


@pytest.mark.parametrize("preconditions", [(), ("uid",)])
def test_a_deletion_names_what_it_has_seen(preconditions: tuple[str, ...]) -> None:
    careless = write(verb="delete", preconditions=preconditions)
    careful = write(verb="delete", preconditions=("resourceVersion", "uid"))

    assert findings(run(careful)) == []
    assert findings(run(careless)) == ["delete services a without uid and resourceVersion"]


def test_an_observed_generation_never_goes_back() -> None:
    found = findings(run(history=(app(2, "True", 1), app(1, "True", 2))))

    assert found == [
        "status of qa went from generation 2 to 1",
        "Ready of qa went from generation 2 to 1",
    ]


def test_ready_stays_true_until_the_spec_changes() -> None:
    changed = (app(1, "True", 1), app(2, "False", 2), app(2, "True", 3))
    flapped = (app(1, "True", 1), app(1, "False", 2), app(1, "True", 3))

    assert findings(run(history=changed)) == []
    assert findings(run(history=flapped)) == [
        "qa was Ready at a generation and then was not, 1 times"
    ]


def test_children_of_a_deleted_app_are_made_once_at_most() -> None:
    gone = app(1, "True", 5, "DELETED")

    assert findings(run(history=(child(6), gone))) == []
    assert findings(run(history=(child(4), child(6), child(7), gone))) == [
        "Service qa was created 2 times for an app that was deleted"
    ]


@pytest.mark.parametrize(
    ("log", "is_bad"),
    [
        ('{"level": "warning", "event": "will try again"}', False),
        ('{"level": "error", "event": "Request attempt #1 failed; will retry: GET"}', False),
        ('{"level": "error", "event": "a part failed"}', True),
        ('{"level": "info", "exception": "Traceback (most recent call last)"}', True),
    ],
)
def test_errors_in_the_log_are_findings(log: str, is_bad: bool) -> None:  # noqa: FBT001 - a table
    assert bool(findings(run(log=log))) is is_bad


def test_an_end_of_its_own_a_late_step_and_unrest_are_findings() -> None:
    found = findings(
        run(exits=(1,), late={"create": "x is 1, wanted 2"}, restless="patch services a")
    )

    assert found == [
        "create: not the state of the undisturbed run: x is 1, wanted 2",
        "no quiet at the end: patch services a",
        "ended by itself with 1",
    ]


def test_references_that_differ_are_noise() -> None:
    one, other = (run(plan=None, states={"create": {"a": n}}) for n in (1, 2))

    assert noise([one, one]) == ()
    assert noise([one, other]) == ("create.a is 2, wanted 1",)


def objects(namespace: str, uid: str, owner: str, template: str) -> dict[tuple[str, str], Any]:
    metadata = {"namespace": namespace, "uid": uid, "resourceVersion": "1", "generation": 3}
    status = {
        "observedGeneration": 3,
        "configDigest": template,
        "address": f"http://qa.{namespace}.svc",
        "conditions": [{"type": "Ready", "lastTransitionTime": uid, "observedGeneration": 3}],
    }
    owned = {**metadata, "ownerReferences": [{"uid": owner}]}
    return {
        ("DSPyApp", "qa"): {"metadata": {**metadata, "name": "qa"}, "status": status},
        ("Service", "qa"): {"metadata": owned, "spec": {"clusterIP": uid, "ports": []}},
        ("ConfigMap", "kube-root-ca.crt"): {"metadata": metadata},
    }


def test_a_state_is_equal_in_two_runs_and_keeps_what_matters() -> None:
    one = state(objects("one", "u1", "u1", "aaaaaaaaaaaa"), "one")
    two = state(objects("two", "u2", "u2", "bbbbbbbbbbbb"), "two")

    assert one == two
    assert sorted(one) == ["DSPyApp qa", "Service qa"]
    assert one["DSPyApp qa"]["status"]["conditions"]["Ready"] == {"observedGeneration": True}


def test_a_child_of_nobody_and_an_old_status_are_another_state() -> None:
    good = state(objects("one", "u1", "u1", "aaaaaaaaaaaa"), "one")
    orphaned = state(objects("one", "u1", "dead", "aaaaaaaaaaaa"), "one")
    behind = objects("one", "u1", "u1", "aaaaaaaaaaaa")
    behind["DSPyApp", "qa"]["status"]["observedGeneration"] = 2

    assert "nobody" in difference(orphaned, good)
    assert "observedGeneration is false" in difference(state(behind, "one"), good)


def line(n: int, uid: str = "d") -> Line:
    return Line(
        n=n,
        step="create",
        stream="deployments",
        type="MODIFIED",
        name="qa",
        uid=uid,
        version=str(n),
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [([line(4)], True), ([line(4), line(9)], False), ([line(4), line(9, uid="other")], True)],
)
def test_a_hidden_line_was_the_last_word_or_not(lines: list[Line], *, expected: bool) -> None:
    hidden = Run(plan=PLAN, trace=Trace(lines=lines), states={}, history=(), hidden=lines[0])
    assert hid_last_word(hidden) is expected


def test_where_nothing_was_hidden_there_was_no_last_word() -> None:
    assert not hid_last_word(run(write()))
