"""Observations -> one verdict about an app, and its conditions.

    what is wrong, the first that applies                      Ready    also
    ---------------------------------------------------------------------------------------
    the spec cannot be read                  InvalidSpec        False   Stalled
    the ConfigMap with the source is missing SourceMissing      False   Reconciling
    no pod is wanted                         ScaledToZero       True     Reconciling: PodsEnding
    every wanted pod answers                 Serving            True
    it was rolled out, one pod answers       the pods' trouble  True    Reconciling
    trouble with pods (trouble.py)           its own reason     False   Reconciling or Stalled
    nothing is wrong yet                     PodsStarting       False   Reconciling

`Reconciling` and `Stalled` are present only while true, as kstatus wants it: then `kubectl wait`,
Helm, Flux and Argo CD read the object without knowing it. Messages hold no counter that moves by
itself: a message that changes is a write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_operator.core import trouble
from dspy_operator.core.options import HPA
from dspy_operator.core.trouble import Trouble

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.options import Scaling
    from dspy_operator.core.world import Rollout, World
    from dspy_operator.errors import OperatorError

READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
CREDENTIALS, PAUSED = "LMCredentialsReady", "Paused"
SOURCE_MISSING = "SourceMissing"
KINDS_MISSING, HELD, AUTOSCALING = "KindsMissing", "ScaleUpHeld", "AutoscalingReady"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition without its times; `status` is True, False or None for Unknown."""

    type: str
    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be said about an app.

    Attributes:
        conditions: All conditions that are to be present.
        trouble: What a person should hear of as an Event; None while all goes its normal way.
        settled: Whether nothing is under way, so that numbers in the status are final.
    """

    conditions: tuple[Condition, ...]
    trouble: Trouble | None
    settled: bool


def of_error(error: OperatorError) -> Verdict:
    """Judge an app that could not be read or whose objects were refused."""
    stalled = error.retry_after is None
    found = Trouble(reason=error.reason, message=trouble.short(str(error)), stalled=stalled)
    return _verdict(ready=False, found=found)


def of_world(app: App, world: World) -> Verdict:
    """Judge an app whose objects are in place."""
    more = (*_credentials(app, world), *_autoscaling(app, world), *_kinds_missing(world))
    if world.source_missing is not None:
        return _verdict(ready=False, found=_source_missing(world), more=more)
    if world.rollout is None:
        return _verdict(ready=False, found=_STARTING, more=more)
    return _of_rollout(app, world.rollout, world, more)


def paused(until: str | None) -> Condition:
    """Return the condition of an app that is frozen, until a moment or for ever."""
    end = "" if until is None else f" until {until}"
    message = f"spec.paused is true: nothing is written for this app{end}"
    return Condition(type=PAUSED, status=True, reason="PausedBySpec", message=message)


_STARTING = Trouble(
    reason="PodsStarting", message="Waiting for the pods to become ready.", expected=True
)


def _of_rollout(app: App, rollout: Rollout, world: World, more: tuple[Condition, ...]) -> Verdict:
    wanted = app.replicas if app.scaling is None else rollout.wanted
    if wanted == 0 and rollout.wanted == 0:
        return _scaled_to_zero(app, rollout, more)
    complete = rollout.completed and rollout.updated == rollout.replicas >= wanted > 0
    if complete and rollout.ready >= wanted == rollout.replicas:
        return _good("Serving", f"The app answers at {app.address}.", more)
    found = trouble.of_pods(world.pods, rollout) or _STARTING
    previous = sum(pod.ready for pod in world.pods if pod.template != rollout.template)
    if previous and not found.expected:
        found = found.with_note(_previous(previous))
    return _verdict(ready=_answers(rollout, world), found=found, more=more)


def _answers(rollout: Rollout, world: World) -> bool:
    """Tell whether the present program answers, also while only the number of pods changes.

    Until its controller has seen a Deployment, its status speaks of the template before. Whether
    that is the present one, memory tells; after a restart the pods do, for those of an old template
    are then still there. Pods alone would not do: they come by another stream, which may be so far
    ahead that all of them are new before the Deployment's status begins to speak of them.
    """
    if not rollout.rolled_out or rollout.ready == 0:
        return False
    if rollout.observed:
        return True
    if world.rolled_out_template:
        return world.rolled_out_template == rollout.template
    pods = world.pods
    return any(p.ready for p in pods) and all(p.template == rollout.template for p in pods)


def _scaled_to_zero(app: App, rollout: Rollout, more: tuple[Condition, ...]) -> Verdict:
    """Judge an app that shall have no pod; it is as it should be while its last ones end."""
    done = _good("ScaledToZero", _no_pod(app), more)
    if rollout.replicas == 0:
        return done
    ending = Condition(
        type=RECONCILING, status=True, reason="PodsEnding", message="The last pods are ending."
    )
    return Verdict(conditions=(*done.conditions, ending), trouble=None, settled=False)


def _no_pod(app: App) -> str:
    if app.scaling is None:
        return "No pod is wanted: spec.serving.replicas is 0."
    return "No pod is wanted at the moment: the autoscaler has scaled the app to zero."


def _previous(count: int) -> str:
    pods = (
        "1 pod of the previous version goes"
        if count == 1
        else (f"{count} pods of the previous version go")
    )
    return f"{pods} on answering."


def _source_missing(world: World) -> Trouble:
    found = Trouble(
        reason=SOURCE_MISSING,
        message=f"ConfigMap {world.source_missing} with the program's Python files does not exist.",
    )
    running = sum(pod.ready for pod in world.pods)
    return found.with_note("Pods that run go on answering.") if running else found


def _good(reason: str, message: str, more: tuple[Condition, ...]) -> Verdict:
    ready = Condition(type=READY, status=True, reason=reason, message=message)
    return Verdict(conditions=(ready, *more), trouble=None, settled=True)


def _verdict(*, ready: bool, found: Trouble, more: tuple[Condition, ...] = ()) -> Verdict:
    summary = (
        Condition(type=READY, status=True, reason="Serving", message="At least one pod answers.")
        if ready
        else Condition(type=READY, status=False, reason=found.reason, message=found.message)
    )
    what = STALLED if found.stalled else RECONCILING
    under_way = Condition(type=what, status=True, reason=found.reason, message=found.message)
    return Verdict(
        conditions=(summary, under_way, *more),
        trouble=None if found.expected else found,
        settled=found.stalled,
    )


def _credentials(app: App, world: World) -> tuple[Condition, ...]:
    """Tell whether the workers see their keys; absent where no model has one."""
    if not app.keyed_models:
        return ()
    reports = [pod.report for pod in world.pods if pod.report is not None]
    if not reports:
        return (_credential(None, "NotReported", "No worker has reported yet."),)
    missing = sorted({key for pod in world.pods for key in pod.missing_keys})
    if missing:
        return (_credential(False, "LMCredentialsMissing", trouble.keys_message(missing)),)  # noqa: FBT003 - a status
    return (_credential(True, "AllPresent", "The workers see every key."),)  # noqa: FBT003 - a status


def _credential(status: bool | None, reason: str, message: str) -> Condition:  # noqa: FBT001 - a status
    return Condition(type=CREDENTIALS, status=status, reason=reason, message=message)


def _autoscaling(app: App, world: World) -> tuple[Condition, ...]:
    """Tell whether the autoscaler can work; absent where the spec says the number of pods."""
    if app.scaling is None:
        return ()
    found = world.autoscaler
    if found is None:
        status, reason, message = _no_autoscaler(app.scaling)
    elif found.trouble:
        status, reason = False, found.trouble
        message = f"{found.kind} {app.name} cannot scale: kubectl describe tells more."
    elif not found.reported:
        status, reason = None, "NotReported"
        message = f"{found.kind} {app.name} has not said yet whether it can scale."
    else:
        status, reason = True, "ScalingActive"
        message = f"{found.kind} {app.name} decides about the number of pods."
    ready = Condition(type=AUTOSCALING, status=status, reason=reason, message=message)
    return (ready, _HELD) if world.held else (ready,)


_HELD = Condition(
    type=HELD,
    status=True,
    reason="ProviderThrottles",
    message="The LM provider throttles this app: more pods would not help, so none are added.",
)


def _no_autoscaler(scaling: Scaling) -> tuple[bool | None, str, str]:
    only_pods = scaling.cpu_percent is None and scaling.memory_percent is None
    if scaling.kind == HPA and only_pods:
        message = (
            "inFlightRequests and queuedRequests need an API that the cluster does not serve, "
            "custom.metrics.k8s.io; cpuPercent works without it, and so does a ScaledObject."
        )
        return False, "NoMetricsAPI", message
    return None, "NotReported", f"The {scaling.kind} does not exist yet."


def _kinds_missing(world: World) -> tuple[Condition, ...]:
    if not world.kinds_missing:
        return ()
    names = ", ".join(world.kinds_missing)
    message = f"The cluster does not serve {names}: install what brings it, or remove the field."
    return (Condition(type=KINDS_MISSING, status=True, reason="NotServed", message=message),)
