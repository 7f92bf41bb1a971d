"""Clears answers by hand: in Redis and in the file on disk; running pods follow by themselves."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from dspy_worker.cache.diskfile import DiskFile, DiskTrouble
from dspy_worker.cache.metrics import CacheMetrics
from dspy_worker.cache.shared import Shared
from dspy_worker.core import cachekey, generation
from dspy_worker.core.shelflife import ShelfLife
from dspy_worker.edge import clock
from dspy_worker.edge.redis_link import RedisAway, RedisLink
from dspy_worker.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.edge.keys import Key

_BYTES = 1 << 40
"""A limit that does not matter to somebody who only removes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to clear: answers of a variant, of a tenant, or of both; empty for all."""

    variant: str = ""
    tenant: str = ""

    @property
    def tag(self) -> str:
        """The tenant's tag, as keys have it."""
        return cachekey.tenant_tag(self.tenant) if self.tenant else ""


def clear(document: AppDocument, wish: Wish, url: Key, data: Path | None) -> Iterator[str]:
    """Clear answers of an app; yield what was done in words.

    Args:
        document: The app.
        wish: Which of them.
        url: Where the URL of Redis comes from.
        data: The worker's data folder.

    Raises:
        LoadError: They could not be cleared.
    """
    if wish.tenant and document.cache and document.cache.scope == "App":
        raise LoadError("spec.cache.scope is App: its answers belong to no tenant")
    if document.redis is not None and url.read() is not None:
        yield f"redis: {asyncio.run(_in_redis(document, wish, url))} answers removed"
    file = DiskFile(data, _BYTES) if data else None
    if file is not None and file.path.exists():
        yield f"disk: {_on_disk(file, wish)} answers removed"


async def _in_redis(document: AppDocument, wish: Wish, url: Key) -> int:
    link = RedisLink(url)
    await link.start()
    life = ShelfLife(ttl_seconds=0, stale_seconds=0)
    app = f"{document.namespace}/{document.name}"
    shared = Shared(link, app, life, CacheMetrics(CollectorRegistry()))
    name = generation.field(wish.variant, wish.tag)
    try:
        before = (await shared.marks()).get(name, "")
        await shared.remind({name: _mark(before)})
        return await shared.remove(wish.variant, wish.tag)
    except RedisAway:
        raise LoadError(f"Redis: {link.trouble() or 'it does not answer.'}") from None
    finally:
        await link.stop()


def _on_disk(file: DiskFile, wish: Wish) -> int:
    try:
        file.open()
        before = file.marks().get(generation.field(wish.variant, wish.tag), "")
        removed = file.clear(wish.variant, wish.tag, _mark(before))
        file.close()
    except DiskTrouble as error:
        raise LoadError(f"disk: {error}") from error
    return removed


def _mark(before: str) -> str:
    return generation.mark(clock.unix_ms(), secrets.token_hex(4), before)
