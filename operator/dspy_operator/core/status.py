"""The status of an app, and whether a new one is worth a write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dspy_operator import errors
from dspy_operator.core import conditions, names

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.conditions import Condition, Verdict
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.world import Rollout

COUNT_SECONDS: Final = 10.0
"""How long a status may show old numbers while pods come and go."""
STARTING_SECONDS: Final = 60.0
"""The same while only pods that do not answer come and go: most roll-outs are over by then."""

_COUNTS = ("replicas", "readyReplicas", "updatedReplicas", "wantedReplicas")
_UNFINISHED = frozenset(
    {
        conditions.SOURCE_MISSING,
        errors.ForbiddenError.reason,
        errors.RefusedError.reason,
        errors.NameTakenError.reason,
    }
)
"""Reasons beside which children may be missing that have never been there."""
_WORDS = {True: "True", False: "False", None: "Unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to do about a status: write now, or look again after some seconds, or nothing."""

    write: bool
    look_again_after: float | None = None


def render(
    live: Manifest, verdict: Verdict, app: App | None, rollout: Rollout | None, now: str
) -> Manifest:
    """Return the status that a DSPyApp should have.

    Args:
        live: The DSPyApp as it is; its times of transition are kept where nothing changed.
        verdict: What is to be said.
        app: The parsed app; None where the spec could not be read.
        rollout: The Deployment's numbers; None where there is none.
        now: The present moment as RFC 3339.
    """
    generation = live["metadata"]["generation"]
    status: Manifest = {
        "observedGeneration": generation,
        "conditions": [_condition(live, c, generation, now) for c in verdict.conditions],
        "replicas": rollout.replicas if rollout else 0,
        "readyReplicas": rollout.ready if rollout else 0,
        "updatedReplicas": rollout.updated if rollout else 0,
        "selector": names.pod_selector(live["metadata"]["name"]),
    }
    if app is not None:
        # While an autoscaler decides, the Deployment knows how many pods are wanted.
        decided = rollout if app.scaling is not None else None
        status["wantedReplicas"] = decided.wanted if decided else app.replicas
        status |= {"address": app.address, "image": app.image, "configDigest": app.digest}
    return status


def paused(live: Manifest, now: str) -> Manifest | None:
    """Return the old status with the condition Paused, or None where it stands there already."""
    status: Manifest = live.get("status", {})
    generation = live["metadata"]["generation"]
    wanted = conditions.paused(live["spec"].get("pausedUntil"))
    note = _condition(live, wanted, generation, now)
    present = status.get("conditions", [])
    others = [c for c in present if c["type"] != conditions.PAUSED]
    old = [c for c in present if c["type"] == conditions.PAUSED]
    if [c["message"] for c in old] == [note["message"]]:
        return None
    return {**status, "conditions": [*others, note]}


def change(old: Manifest, new: Manifest, *, settled: bool, outdated_seconds: float) -> Change:
    """Decide whether a status is worth a write.

    A change of numbers alone waits while pods come and go, so that an app which converges
    normally costs two writes: one at its start and one when all is in place.

    Args:
        old: The live status.
        new: The status that `render` returned.
        settled: Whether the new numbers are final.
        outdated_seconds: For how long the written numbers have differed from the real ones.
    """
    if _without_counts(old) != _without_counts(new):
        return Change(write=True)
    if same_counts(old, new):
        return Change(write=False)
    if settled:
        return Change(write=True)
    same_answer = old.get("readyReplicas") == new["readyReplicas"]
    wait = (STARTING_SECONDS if same_answer else COUNT_SECONDS) - outdated_seconds
    return Change(write=wait <= 0, look_again_after=wait if wait > 0 else None)


def reason(live: Manifest) -> str:
    """Return the reason of the worst condition that a DSPyApp shows; empty before the first."""
    shown = {c["type"]: c for c in live.get("status", {}).get("conditions", ())}
    for name in (conditions.STALLED, conditions.RECONCILING, conditions.READY):
        if name in shown:
            return str(shown[name]["reason"])
    return ""


def is_established(live: Manifest) -> bool:
    """Return whether this spec's children were there at the last look: a missing one is drift."""
    status = live.get("status", {})
    return (
        "configDigest" in status
        and status.get("observedGeneration") == live["metadata"]["generation"]
        and reason(live) not in _UNFINISHED
    )


def is_ready(live: Manifest) -> bool:
    """Return whether a status says that the app answers with its present program."""
    return any(
        c["type"] == conditions.READY and c["status"] == "True"
        for c in live.get("status", {}).get("conditions", ())
    )


def _condition(live: Manifest, new: Condition, generation: int, now: str) -> Manifest:
    word = _WORDS[new.status]
    old = next(
        (c for c in live.get("status", {}).get("conditions", ()) if c["type"] == new.type), None
    )
    since = old["lastTransitionTime"] if old is not None and old["status"] == word else now
    return {
        "type": new.type,
        "status": word,
        "reason": new.reason,
        "message": new.message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def same_counts(old: Manifest, new: Manifest) -> bool:
    """Return whether two statuses show the same numbers."""
    return all(old.get(name, 0) == new.get(name, 0) for name in _COUNTS)


def _without_counts(status: Manifest) -> dict[str, Any]:
    rest = {k: v for k, v in status.items() if k not in _COUNTS}
    by_type = {c["type"]: c for c in rest.pop("conditions", ())}
    return {**rest, "conditions": by_type}
