"""Drift: does a live object still have every field that we want?

The comparison goes one way. Whatever the live object has beyond the desired one belongs to others
(defaults of the API server, a sidecar injector, an annotation of a person) and stays. A field that
we stopped wanting shows by the hash in the annotation `names.APPLIED`, which is a desired field.
Server-side apply then removes it, because the API server remembers that it was ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy_operator.core import quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUANTITIES = frozenset({"limits", "requests"})
_QUANTITY_FIELDS = frozenset({"sizeLimit"})

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists whose entries the API knows by keys; entries of others may stand between ours."""
_EMPTY: tuple[Any, ...] = ("", [], {})
"""Values that the API server drops from what it returns."""
_PORT_KEYS = ("containerPort", "port", "protocol")
"""Ports of containers and of Services; the key that an entry lacks counts as absent in both."""


def differs(desired: Any, live: Any, field: str = "") -> bool:  # noqa: ANN401 - JSON
    """Return whether a desired value is missing or different in the live object.

    Args:
        desired: What we want, in whole or in part.
        live: The same part of the live object.
        field: Name of the field that holds both; it tells how lists and quantities compare.
    """
    if live is None and desired in _EMPTY:
        return False
    if isinstance(desired, dict):
        return not isinstance(live, dict) or _mapping_differs(desired, live, field)
    if isinstance(desired, list):
        return not isinstance(live, list) or _list_differs(desired, live, field)
    if field in _QUANTITY_FIELDS:
        return not quantity.same(desired, live)
    return bool(desired != live)


def _mapping_differs(desired: dict[str, Any], live: dict[str, Any], field: str) -> bool:
    if field in _QUANTITIES:
        return any(not quantity.same(v, live.get(k)) for k, v in desired.items())
    return any(differs(value, live.get(name), name) for name, value in desired.items())


def _list_differs(desired: list[Any], live: list[Any], field: str) -> bool:
    keys = _PORT_KEYS if field == "ports" else _LIST_KEYS.get(field)
    if keys is None:
        return len(desired) != len(live) or any(
            differs(*pair) for pair in zip(desired, live, strict=True)
        )
    entries = {_entry_key(entry, keys): entry for entry in live}
    return any(differs(entry, entries.get(_entry_key(entry, keys))) for entry in desired)


def _entry_key(entry: dict[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in keys)
