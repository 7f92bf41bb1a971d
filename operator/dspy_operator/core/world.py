"""What was observed of one app, as frozen values made from raw objects of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from dspy_operator.core import manifest, names
from dspy_operator.core.render import workload
from dspy_worker import contract

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest
    from dspy_worker.contract.state import WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A Deployment's view of its pods.

    Attributes:
        observed: Whether its controller has seen the present spec.
        rolled_out: Whether the template that its controller knows was once rolled out completely.
        completed: Whether that is the present template.
        overdue: Whether that took longer than `progressDeadlineSeconds`.
        refusal: Why the API server refuses to create pods; empty while it does not.
    """

    wanted: int
    replicas: int
    ready: int
    updated: int
    observed: bool
    rolled_out: bool
    completed: bool
    overdue: bool
    refusal: str
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the worker of a pod ended last.

    Attributes:
        program_reason: What the worker itself wrote down as the reason; empty otherwise.
        message: Its sentence, or the last lines of its log.
    """

    exit_code: int
    reason: str
    program_reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of an app.

    Attributes:
        template: Hash of the pod template that made it.
        waiting: Reason of the container that waits, such as ImagePullBackOff, and its message.
        unschedulable: The scheduler's text; empty while there is no such trouble.
        ended: How the worker ended last; None while it never did.
        report: What the worker tells of itself; None before the first answer.
        missing_keys: The LM keys that the worker does not see, in words.
    """

    name: str
    template: str
    ready: bool
    waiting: tuple[str, str] | None = None
    unschedulable: str = ""
    ended: Ended | None = None
    report: WorkerState | None = None
    missing_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """What an autoscaler says of itself.

    Attributes:
        kind: HorizontalPodAutoscaler or ScaledObject.
        reported: Whether it has said anything yet.
        trouble: Why it cannot scale, in its own CamelCase word; empty while it can.
    """

    kind: str
    reported: bool
    trouble: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that a verdict about one app depends on.

    Attributes:
        rollout: The Deployment's view; None before there is one.
        pods: Pods that are not being deleted.
        source_missing: Name of the ConfigMap with Python files that is not there; else None.
        autoscaler: What the app's autoscaler says; None where there is none.
        held: Whether no pods are added because the LM provider throttles.
        kinds_missing: Kinds that the app asks for and the cluster does not serve.
        rolled_out_template: Hash of the pod template that was last seen rolled out completely;
            empty where none was since the operator started.
    """

    rollout: Rollout | None = None
    pods: tuple[Pod, ...] = ()
    source_missing: str | None = None
    autoscaler: Autoscaler | None = None
    held: bool = False
    kinds_missing: tuple[str, ...] = ()
    rolled_out_template: str = ""


def rollout(deployment: Manifest) -> Rollout:
    """Read a Deployment."""
    status = deployment.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    progress = conditions.get("Progressing", {})
    failure = conditions.get("ReplicaFailure", {})
    generation = deployment["metadata"].get("generation", 0)
    observed = status.get("observedGeneration", 0) >= generation
    rolled_out = progress.get("reason") == "NewReplicaSetAvailable"
    return Rollout(
        wanted=deployment["spec"].get("replicas", 1),
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        observed=observed,
        rolled_out=rolled_out,
        completed=observed and rolled_out,
        overdue=observed and progress.get("reason") == "ProgressDeadlineExceeded",
        refusal=failure.get("message", "") if failure.get("status") == "True" else "",
        template=workload.template_hash(deployment),
    )


_ACTIVE = {"HorizontalPodAutoscaler": "ScalingActive", "ScaledObject": "Ready"}
_ON_PURPOSE = "ScalingDisabled"
"""A Deployment with 0 replicas is left alone; that is a state, not a trouble."""


def autoscaler(live: Manifest) -> Autoscaler:
    """Read an autoscaler."""
    conditions = {c["type"]: c for c in live.get("status", {}).get("conditions", ())}
    active = conditions.get(_ACTIVE[live["kind"]])
    reason = "" if active is None else active.get("reason", "Unknown")
    fails = active is not None and active["status"] == "False" and reason != _ON_PURPOSE
    return Autoscaler(
        kind=live["kind"], reported=active is not None, trouble=reason if fails else ""
    )


def pods(
    app: App, manifests: Iterable[Manifest], reports: Mapping[str, WorkerState]
) -> tuple[Pod, ...]:
    """Read the pods that are not being deleted, in the order of their names.

    Args:
        app: The app that they belong to.
        manifests: Pods as the API server returns them.
        reports: The workers' reports by the uid of their pod.
    """
    found = (
        _pod(app, m, reports.get(m["metadata"]["uid"]))
        for m in manifests
        if "deletionTimestamp" not in m["metadata"] and not _is_over(m)
    )
    return tuple(sorted(found, key=lambda pod: pod.name))


def _is_over(pod: Manifest) -> bool:
    """Tell a pod that was evicted or ended; the ReplicaSet has made another."""
    return pod.get("status", {}).get("phase") in {"Failed", "Succeeded"}


def _pod(app: App, pod: Manifest, report: WorkerState | None) -> Pod:
    status = pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    container = _worker(status)
    waiting = container.get("state", {}).get("waiting")
    return Pod(
        name=pod["metadata"]["name"],
        template=manifest.annotation(pod, names.TEMPLATE),
        ready=conditions.get("Ready", {}).get("status") == "True",
        waiting=(waiting.get("reason", ""), waiting.get("message", "")) if waiting else None,
        unschedulable=(
            scheduled.get("message", "no node fits") if scheduled.get("status") == "False" else ""
        ),
        ended=_ended(container),
        report=report,
        missing_keys=_missing_keys(app, report),
    )


def _missing_keys(app: App, report: WorkerState | None) -> tuple[str, ...]:
    unseen = {c.model for c in report.credentials if not c.present} if report else set()
    return tuple(
        f"model {m.name} (Secret {m.key_secret}, entry {m.key_entry})"
        for m in app.keyed_models
        if m.name in unseen
    )


def _worker(status: Manifest) -> dict[str, Any]:
    statuses: list[dict[str, Any]] = status.get("containerStatuses", [])
    return next((c for c in statuses if c.get("name") == workload.CONTAINER), {})


def _ended(container: dict[str, Any]) -> Ended | None:
    """Read the last end; the state before the present one counts while a restart is under way."""
    last = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
        "terminated"
    )
    if not last:
        return None
    code, message = last.get("exitCode", 0), last.get("message", "").strip()
    reason = ""
    if code == contract.EXIT_PROGRAM_FAILED:
        reason, message = _program_failure(message)
    return Ended(
        exit_code=code,
        reason=last.get("reason", ""),
        program_reason=reason,
        message=message,
    )


def _program_failure(text: str) -> tuple[str, str]:
    """Read the worker's own words; a truncated or foreign text is shown as it is."""
    try:
        said = orjson.loads(text)
        return str(said["reason"]), str(said["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "ProgramFailed", text or "the worker left no message"
