"""Manifests as plain dictionaries: their type, their canonical form and their hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

Manifest: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one namespaced object of a kind that the context knows."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names one object in the cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys and without spaces: equal values have equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of the canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def key_of(manifest: Manifest) -> Key:
    """Return the namespace and name of a manifest."""
    metadata = manifest["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def ref_of(manifest: Manifest) -> Ref:
    """Return kind, namespace and name of a manifest."""
    key = key_of(manifest)
    return Ref(manifest["kind"], key.namespace, key.name)


def annotation(manifest: Manifest, name: str) -> str:
    """Return an annotation's value, empty where it is absent."""
    value: str = manifest["metadata"].get("annotations", {}).get(name, "")
    return value
