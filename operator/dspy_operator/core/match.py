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
    from collections.abc import Iterator, Sequence

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
    if _is_within(desired, live):
        return False
    return next(differences(desired, live, field), None) is not None


def _is_within(desired: Any, live: Any) -> bool:  # noqa: ANN401 - JSON
    """Tell quickly that a value is there as it is; where this is False, it may still be there.

    Most objects are as they should be, and this finds it out at a fifth of the price.
    """
    if desired == live:
        return True
    if isinstance(desired, dict) and isinstance(live, dict):
        return all(name in live and _is_within(part, live[name]) for name, part in desired.items())
    if isinstance(desired, list) and isinstance(live, list) and len(desired) == len(live):
        return all(map(_is_within, desired, live))
    return False


def differences(desired: Any, live: Any, field: str = "", path: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    """Yield the path of each desired value that is missing or different in the live object.

    Args:
        desired: What we want, in whole or in part.
        live: The same part of the live object.
        field: Name of the field that holds both; it tells how lists and quantities compare.
        path: Where both are, such as `spec.replicas`.
    """
    if live is None and desired in _EMPTY:
        return
    if isinstance(desired, dict) and isinstance(live, dict):
        yield from _of_mapping(desired, live, field, path)
    elif isinstance(desired, list) and isinstance(live, list):
        yield from _of_list(desired, live, field, path)
    elif field in _QUANTITY_FIELDS:
        if not quantity.same(desired, live):
            yield path
    elif desired != live:
        yield path


def _of_mapping(
    desired: dict[str, Any], live: dict[str, Any], field: str, path: str
) -> Iterator[str]:
    for name, value in desired.items():
        at = f"{path}.{name}" if path else name
        if field not in _QUANTITIES:
            yield from differences(value, live.get(name), name, at)
        elif not quantity.same(value, live.get(name)):
            yield at


def _of_list(desired: list[Any], live: list[Any], field: str, path: str) -> Iterator[str]:
    keys = _PORT_KEYS if field == "ports" else _LIST_KEYS.get(field)
    if keys is not None:
        entries = {_entry_key(entry, keys): entry for entry in live}
        for entry in desired:
            key = _entry_key(entry, keys)
            name = ",".join(str(part) for part in key if part is not None)
            yield from differences(entry, entries.get(key), path=f"{path}[{name}]")
    elif len(desired) != len(live):
        yield path
    else:
        for number, pair in enumerate(zip(desired, live, strict=True)):
            yield from differences(*pair, path=f"{path}[{number}]")


def _entry_key(entry: dict[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in keys)
