"""What is kept of an object: the fields that somebody reads, and nobody's managedFields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dspy_operator.core import names

if TYPE_CHECKING:
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
        if m.get("subresource") != "status" and m.get("manager") != names.MANAGER
    ]
    if others:
        newest = max(others, key=lambda m: m.get("time", ""))
        live[WRITER] = newest["manager"]
    return live


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
