"""How long and how much of a program's answers is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from dspy_worker.contract import reader

ScopeType: TypeAlias = Literal["Tenant", "App"]

LEAST_BYTES = 1_048_576
"""With less, a level's own needs would leave no room for answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """What is kept of a program's answers; sizes in bytes, times in seconds.

    Attributes:
        ttl_seconds: How long an answer is good.
        stale_seconds: How long after that it is still better than none; 0 for never.
        memory_bytes: Most memory of a pod.
        disk_bytes: Most room on a pod's disk; 0 for no disk.
        scope: Whether tenants share answers.
    """

    ttl_seconds: int = 3600
    stale_seconds: int = 86_400
    memory_bytes: int = 67_108_864
    disk_bytes: int = 0
    scope: ScopeType = "Tenant"


def read(node: reader.Node) -> CachePolicy:
    """Return the policy that an object describes.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    default = CachePolicy()
    return CachePolicy(
        ttl_seconds=node.number("ttlSeconds", default.ttl_seconds),
        stale_seconds=node.number("staleSeconds", default.stale_seconds, least=0),
        memory_bytes=node.number("memoryBytes", default.memory_bytes, least=LEAST_BYTES),
        disk_bytes=_disk_bytes(node, default.disk_bytes),
        scope=cast("ScopeType", node.choice("scope", ("Tenant", "App"), default=default.scope)),
    )


def _disk_bytes(node: reader.Node, default: int) -> int:
    wanted = node.number("diskBytes", default, least=0)
    if 0 < wanted < LEAST_BYTES:
        raise node.error(f"expected 0 or at least {LEAST_BYTES}, got {wanted}", "diskBytes")
    return wanted
