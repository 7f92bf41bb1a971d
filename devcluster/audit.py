"""The API server's audit log: who wrote what, exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One write request that the API server answered.

    Attributes:
        user: Who asked; the common name of a certificate or a service account.
        verb: create, update, patch, delete or deletecollection.
        resource: Plural name, such as `configmaps`.
        subresource: Such as `status`, or "".
        namespace: Namespace, or "" for cluster-wide objects.
        name: Name of the object; "" where the server had to choose or many were meant.
        code: HTTP status of the answer.
    """

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int


def parse(line: str) -> AuditEvent:
    """Turn one line of the log into a value."""
    raw: dict[str, Any] = json.loads(line)
    target = raw.get("objectRef", {})
    return AuditEvent(
        user=raw.get("user", {}).get("username", ""),
        verb=raw["verb"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
    )


def marker(log: Path) -> int:
    """Return the current end of the log, in bytes."""
    return log.stat().st_size if log.exists() else 0


def read(log: Path, since: int = 0) -> list[AuditEvent]:
    """Return what was written after a marker. A line that is not complete yet is left out."""
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(since)
        text = stream.read().decode()
    complete, _, _ = text.rpartition("\n")
    return [parse(line) for line in complete.splitlines()]
