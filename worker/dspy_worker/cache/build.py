"""Puts the cache of one worker together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from dspy_worker.cache.caretaker import Caretaker
from dspy_worker.cache.disk import Disk
from dspy_worker.cache.keeper import Keeper, Levels
from dspy_worker.cache.memory import Memory
from dspy_worker.cache.metrics import CacheMetrics
from dspy_worker.cache.shared import Shared
from dspy_worker.contract.cache import CachePolicy
from dspy_worker.core.cachekey import KeyMaker
from dspy_worker.core.generation import Generations
from dspy_worker.core.shelflife import ShelfLife

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.edge.redis_link import RedisLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A shelf, and who looks after it."""

    keeper: Keeper
    caretaker: Caretaker


def build(
    document: AppDocument,
    variant: str,
    registry: CollectorRegistry,
    *,
    link: RedisLink | None,
    data: Path | None,
) -> Cache:
    """Return the cache of an app.

    Args:
        document: The app.
        variant: Which prompts answer.
        registry: Where is counted.
        link: The connection to Redis, where there is one.
        data: Folder for what outlives the process.
    """
    policy = document.cache or CachePolicy()
    life = ShelfLife(ttl_seconds=policy.ttl_seconds, stale_seconds=policy.stale_seconds)
    metrics, generations = CacheMetrics(registry), Generations()
    app = f"{document.namespace}/{document.name}"
    levels = Levels(
        memory=Memory(policy.memory_bytes, life.stale_seconds, time.monotonic),
        shared=Shared(link, app, life, metrics) if link else None,
        disk=Disk(data, policy.disk_bytes, life, metrics) if policy.disk_bytes else None,
    )
    maker = KeyMaker(document, variant=variant, dspy_version=metadata.version("dspy"))
    keeper = Keeper(maker, levels, life, generations, metrics)
    return Cache(keeper=keeper, caretaker=Caretaker(keeper, levels, generations, metrics))
