"""What is kept of an object: the fields that somebody reads, and nobody's managedFields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dspy_operator.core import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_operator.core.manifest import Manifest

WRITER: Final = "lastWriter"
"""Key beside `metadata`: the last manager other than us, for the event DriftRepaired."""

_POD_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "deletionTimestamp",
)
_POD_STATUS = ("phase", "podIP", "conditions", "containerStatuses")


def trim(live: Manifest) -> Manifest:
    """Drop the bookkeeping of field managers, half of an object's size."""
    metadata = live["metadata"]
    managers = metadata.pop("managedFields", ())
    others = [
        m
        for m in managers
        if m.get("subresource") != "status" and m.get("manager") not in names.MANAGERS
    ]
    if others:
        newest = max(others, key=lambda m: m.get("time", ""))
        live[WRITER] = newest["manager"]
    return live


def wish(live: Manifest) -> Manifest:
    """Keep what an object is to be, of a kind whose status nobody here reads."""
    return {name: part for name, part in trim(live).items() if name != "status"}


def autoscaler(live: Manifest) -> Manifest:
    """Keep the conditions of an autoscaler's status: its figures move with every measurement."""
    live = trim(live)
    conditions = [
        {name: c[name] for name in ("type", "status", "reason") if name in c}
        for c in live.get("status", {}).get("conditions", ())
    ]
    return {**live, "status": {"conditions": conditions}}


def pod(live: Manifest) -> Manifest:
    """Keep what a verdict about a pod needs."""
    metadata, status = live["metadata"], live.get("status", {})
    template = metadata.get("annotations", {}).get(names.TEMPLATE, "")
    kept = {name: metadata[name] for name in _POD_METADATA if name in metadata}
    return {
        "kind": "Pod",
        "metadata": {**kept, "annotations": {names.TEMPLATE: template}},
        "status": {name: status[name] for name in _POD_STATUS if name in status},
    }


_BY_KIND: Final = {
    "Pod": pod,
    "DSPyApp": trim,
    "Deployment": trim,
    "HorizontalPodAutoscaler": autoscaler,
    "ScaledObject": autoscaler,
}


def of_kind(kind: str) -> Callable[[Manifest], Manifest]:
    """Return the projection of a kind."""
    return _BY_KIND.get(kind, wish)
