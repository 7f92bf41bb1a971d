"""Observations -> conditions: pods as a kubelet reports them, and kstatus as others read us."""

import copy
import json
from collections.abc import Mapping

import pytest

from dspy_operator import errors
from dspy_operator.core import app as app_spec
from dspy_operator.core import conditions, names, status, world
from dspy_operator.core.conditions import Verdict
from dspy_operator.core.manifest import Manifest
from dspy_worker.contract.state import Credential, WorkerState
from tests import kstatus

NEW, OLD = "hash-new", "hash-old"
NOW = "2026-01-01T12:00:00Z"
LIVE: Manifest = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": "qa", "namespace": "team", "uid": "u", "generation": 2},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a"}]}},
        "models": [
            {"name": "main", "model": "m", "endpoint": "http://lm", "keySecretRef": {"name": "key"}}
        ],
        "serving": {"replicas": 2},
    },
    "status": {"observedGeneration": -1},
}
AVAILABLE, UPDATING = "NewReplicaSetAvailable", "ReplicaSetUpdated"


def app(replicas: int = 2) -> app_spec.App:
    live = copy.deepcopy(LIVE)
    live["spec"]["serving"]["replicas"] = replicas
    return app_spec.parse(live, default_image="worker:1")


def deployment(
    *, wanted: int = 2, ready: int = 0, progress: str = UPDATING, **status: object
) -> Manifest:
    return {
        "metadata": {"generation": 5},
        "spec": {
            "replicas": wanted,
            "template": {"metadata": {"annotations": {names.TEMPLATE: NEW}}},
        },
        "status": {
            "observedGeneration": 5,
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": ready,
            "conditions": [{"type": "Progressing", "status": "True", "reason": progress}],
            **status,
        },
    }


def pod(
    template: str = NEW,
    *,
    ready: bool = False,
    state: Manifest | None = None,
    last: Manifest | None = None,
    scheduled: Manifest | None = None,
) -> Manifest:
    found = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {
            "name": f"qa-{template}",
            "uid": f"pod-{template}",
            "annotations": {names.TEMPLATE: template},
        },
        "status": {
            "phase": "Running",
            "conditions": [*found, scheduled] if scheduled else found,
            "containerStatuses": [
                {"name": "worker", "state": state or {"running": {}}, "lastState": last or {}}
            ],
        },
    }


def waiting(reason: str, message: str = "") -> Manifest:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, reason: str = "Error", message: str = "") -> Manifest:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def judge(
    live: Manifest | None, *pods: Manifest, reports: Mapping[str, WorkerState] | None = None
) -> Verdict:
    replicas = 2 if live is None else live["spec"]["replicas"]
    observed = world.World(
        rollout=None if live is None else world.rollout(live),
        pods=world.pods(app(replicas), pods, reports or {}),
    )
    return conditions.of_world(app(replicas), observed)


def shown(verdict: Verdict) -> Manifest:
    return {**LIVE, "status": status.render(LIVE, verdict, app(), None, NOW)}


def condition(verdict: Verdict, kind: str = "Ready") -> conditions.Condition:
    return next(c for c in verdict.conditions if c.type == kind)


def report(*, present: bool = True, ready: bool = True, reason: str = "") -> WorkerState:
    return WorkerState(
        app="qa",
        config_digest="x",
        ready=ready,
        not_ready_reason=reason,
        not_ready_message=f"The sentence of {reason}." if reason else "",
        credentials=(Credential(model="main", present=present),),
    )


PULL = 'Back-off pulling image "a:1": ErrImagePull: failed to resolve "a:1": no such host'
FAILED = json.dumps({"reason": "ImportError", "message": "No module named 'shop'"})
TOO_BIG = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}


@pytest.mark.parametrize(
    ("live", "pods", "reason", "text", "verdict"),
    [
        pytest.param(None, [], "PodsStarting", "Waiting", "InProgress", id="no Deployment yet"),
        pytest.param(deployment(), [pod()], "PodsStarting", "Waiting", "InProgress", id="starting"),
        pytest.param(deployment(ready=2, progress=AVAILABLE), [pod(ready=True)], "Serving",
                     "http://qa.team.svc", "Current", id="all pods answer"),
        pytest.param(deployment(ready=2, progress=AVAILABLE, observedGeneration=4),
                     [pod(OLD, ready=True)], "PodsStarting", "", "InProgress",
                     id="the numbers speak of an older Deployment"),
        pytest.param(deployment(ready=2, progress=AVAILABLE, observedGeneration=4),
                     [pod(ready=True)], "Serving", "At least one", "InProgress",
                     id="only the number of pods was changed just now"),
        pytest.param(deployment(ready=1, progress=AVAILABLE), [pod()], "Serving",
                     "At least one", "InProgress", id="rolled out, a pod is lost"),
        pytest.param(deployment(ready=1), [pod()], "PodsStarting", "", "InProgress",
                     id="half of the first roll-out"),
        pytest.param(deployment(wanted=0, progress=AVAILABLE, replicas=0), [], "ScaledToZero",
                     "replicas is 0", "Current", id="no pod is wanted"),
        pytest.param(deployment(wanted=0, replicas=1), [pod(ready=True)], "ScaledToZero", "",
                     "InProgress", id="the last pod is going"),
        pytest.param(deployment(ready=2, progress=AVAILABLE, observedGeneration=4),
                     [pod(OLD, ready=True), pod(ready=True)], "PodsStarting", "", "InProgress",
                     id="a new pod is ready before the Deployment's status speaks of it"),
        pytest.param(deployment(), [pod(state=waiting("ImagePullBackOff", PULL))],
                     "ImagePullFailed", "no such host", "InProgress", id="image pull"),
        pytest.param(deployment(), [pod(state=waiting("ErrImageNeverPull", "not present"))],
                     "ImagePullFailed", "not present", "InProgress", id="image never pulled"),
        pytest.param(deployment(), [pod(state=waiting("InvalidImageName", "bad name"))],
                     "ImagePullFailed", "bad name", "Failed", id="impossible image name"),
        pytest.param(deployment(progress="ProgressDeadlineExceeded"),
                     [pod(state=waiting("ErrImagePull", PULL))], "ImagePullFailed",
                     "no such host", "Failed", id="image pull beyond the deadline"),
        pytest.param(deployment(), [pod(scheduled=TOO_BIG)], "Unschedulable",
                     "0/3 nodes", "InProgress", id="no node fits"),
        pytest.param(deployment(), [pod(last=terminated(78, message=FAILED))], "ProgramFailed",
                     "No module named 'shop'", "Failed", id="program failed, restarted"),
        pytest.param(deployment(), [pod(state=terminated(78, message="odd"))], "ProgramFailed",
                     "odd", "Failed", id="program failed without JSON"),
        pytest.param(deployment(), [pod(state=waiting("CrashLoopBackOff"),
                     last=terminated(137, "OOMKilled"))], "WorkerCrashing",
                     "exit code 137 (OOMKilled)", "InProgress", id="out of memory"),
        pytest.param(deployment(), [pod(last=terminated(1, message="Traceback"))],
                     "WorkerCrashing", "exit code 1: Traceback", "InProgress", id="crash"),
        pytest.param(deployment(), [pod(state=waiting("CreateContainerConfigError", "no such x"))],
                     "CreateContainerConfigError", "no such x", "InProgress", id="config error"),
        pytest.param(deployment(progress="ProgressDeadlineExceeded"), [pod()],
                     "ProgressDeadlineExceeded", "600 seconds", "Failed", id="too late"),
        pytest.param(deployment(conditions=[{"type": "ReplicaFailure", "status": "True",
                     "message": "exceeded quota: small"}]), [], "PodsRefused",
                     "exceeded quota", "InProgress", id="quota"),
        pytest.param(deployment(), [pod(OLD, ready=True), pod(last=terminated(78, message=FAILED))],
                     "ProgramFailed", "1 pod of the previous version goes on answering.", "Failed",
                     id="the previous version serves on"),
        pytest.param(deployment(), [pod(OLD, last=terminated(1)), pod()], "PodsStarting", "",
                     "InProgress", id="old pods say nothing about the new template"),
    ],
)  # fmt: skip
def test_verdict(
    live: Manifest | None, pods: list[Manifest], reason: str, text: str, verdict: str
) -> None:
    found = judge(live, *pods)

    assert condition(found).reason == reason
    assert text in condition(found).message
    assert kstatus.verdict(shown(found)) == verdict


@pytest.mark.parametrize(("rolled_out", "reason"), [(OLD, "PodsStarting"), (NEW, "Serving")])
def test_a_template_that_was_not_seen_rolled_out_does_not_answer_by_its_pods_alone(
    rolled_out: str, reason: str
) -> None:
    """The stream of pods may be ahead: all are new, and the Deployment's status still is old."""
    live = deployment(ready=2, progress=AVAILABLE, observedGeneration=4)
    observed = world.World(
        rollout=world.rollout(live),
        pods=world.pods(app(2), [pod(ready=True)], {}),
        rolled_out_template=rolled_out,
    )
    assert condition(conditions.of_world(app(2), observed)).reason == reason


def test_the_app_is_in_progress_before_the_first_look() -> None:
    assert kstatus.verdict(LIVE) == "InProgress"


def test_reconciling_and_stalled_are_present_only_while_true() -> None:
    good = judge(deployment(ready=2, progress=AVAILABLE), pod(ready=True))
    kinds = {c.type for c in good.conditions}

    assert kinds == {"Ready", "LMCredentialsReady"}


def test_the_text_of_a_failed_pull_is_the_same_between_attempt_and_back_off() -> None:
    plain = PULL.split("ErrImagePull: ")[1]
    one = judge(deployment(), pod(state=waiting("ErrImagePull", plain)))
    other = judge(deployment(), pod(state=waiting("ImagePullBackOff", PULL)))

    assert one == other


def test_a_missing_key_comes_before_the_program_is_blamed() -> None:
    found = judge(deployment(), pod(), reports={f"pod-{NEW}": report(present=False, ready=False)})

    assert condition(found).reason == "LMCredentialsMissing"
    assert "Secret key, entry api-key" in condition(found).message
    assert condition(found, "LMCredentialsReady").status is False


def test_credentials_are_unknown_until_a_worker_has_reported() -> None:
    assert condition(judge(deployment(), pod()), "LMCredentialsReady").status is None
    good = judge(deployment(), pod(), reports={f"pod-{NEW}": report()})
    assert condition(good, "LMCredentialsReady").status is True


def test_a_worker_may_name_its_own_reason() -> None:
    said = report(ready=False, reason="EndpointUnreachable")
    found = judge(deployment(), pod(), reports={f"pod-{NEW}": said})

    assert condition(found).reason == "EndpointUnreachable"
    assert condition(found).message == "The sentence of EndpointUnreachable."


@pytest.mark.parametrize(
    ("error", "reason", "verdict"),
    [
        (errors.SpecError("spec.program: no"), "InvalidSpec", "Failed"),
        (errors.NameTakenError("Service qa exists"), "NameTaken", "InProgress"),
        (errors.RefusedError("invalid", status=422), "ObjectRefused", "InProgress"),
    ],
)
def test_errors_become_conditions(error: errors.OperatorError, reason: str, verdict: str) -> None:
    found = conditions.of_error(error)

    assert condition(found).reason == reason
    assert condition(found).message == str(error)
    assert kstatus.verdict(shown(found)) == verdict


def test_a_refusal_of_any_length_fits_into_a_condition() -> None:
    found = conditions.of_error(errors.ForbiddenError("denied: " + "x" * 50_000))

    assert {len(c.message) for c in found.conditions} == {1024}


def test_deleted_and_ended_pods_are_not_looked_at() -> None:
    going = pod(last=terminated(78, message=FAILED))
    going["metadata"]["deletionTimestamp"] = NOW
    evicted = pod(last=terminated(78, message=FAILED))
    evicted["status"]["phase"] = "Failed"

    assert condition(judge(deployment(), going, evicted)).reason == "PodsStarting"


def statuses(ready: int, *, progress: str = UPDATING, before: Manifest) -> Manifest:
    live = deployment(ready=ready, progress=progress)
    verdict = judge(live, pod(ready=ready > 0))
    made = {**LIVE, "status": before}
    return status.render(made, verdict, app(), world.rollout(live), NOW)


def test_times_of_transition_stay_while_a_condition_keeps_its_status() -> None:
    old = statuses(0, before={})
    for each in old["conditions"]:
        each["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    new = statuses(2, progress=AVAILABLE, before=old)

    times = {c["type"]: c["lastTransitionTime"] for c in new["conditions"]}
    assert times == {"Ready": NOW, "LMCredentialsReady": "2020-01-01T00:00:00Z"}


def test_an_equal_status_is_not_written() -> None:
    old = statuses(0, before={})
    new = statuses(0, before=old)

    assert not status.change(old, new, settled=False, outdated_seconds=99).write


def test_numbers_alone_wait_until_they_are_final_or_ten_seconds_old() -> None:
    old = statuses(0, before={})
    new = {**copy.deepcopy(old), "readyReplicas": 1}

    early = status.change(old, new, settled=False, outdated_seconds=4)
    assert (early.write, early.look_again_after) == (False, 6)
    assert status.change(old, new, settled=False, outdated_seconds=10).write
    assert status.change(old, new, settled=True, outdated_seconds=0).write


def test_pods_that_exist_but_do_not_answer_are_news_after_a_minute() -> None:
    """They are what `/scale` tells; for ever 0 beside pods that hang would be a lie."""
    old = statuses(0, before={})
    new = {**copy.deepcopy(old), "replicas": 7, "updatedReplicas": 7}

    early = status.change(old, new, settled=False, outdated_seconds=20)
    assert (early.write, early.look_again_after) == (False, 40)
    assert status.change(old, new, settled=False, outdated_seconds=60).write


def test_pausing_keeps_the_old_status_and_is_said_once() -> None:
    live = {**LIVE, "status": statuses(0, before={})}
    paused = status.paused(live, NOW)

    assert paused is not None
    assert [c["type"] for c in paused["conditions"]][-1] == "Paused"
    assert status.paused({**LIVE, "status": paused}, NOW) is None
