"""What a worker has beside its program: connection to Redis, counted money, kept answers, store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.cache.shelf import NoShelf
from dspy_worker.contract import connections
from dspy_worker.core.search import Query
from dspy_worker.edge import keys
from dspy_worker.edge.costs import Costs
from dspy_worker.edge.local_ledger import LocalLedger
from dspy_worker.store import wiring

# An app without cache and budgets neither loads nor needs what only they do.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from dspy_worker.cache.build import Cache
    from dspy_worker.cache.caretaker import Caretaker
    from dspy_worker.cache.shelf import Shelf
    from dspy_worker.cache.warming import Warmer
    from dspy_worker.contract.app import AppDocument
    from dspy_worker.edge.companion import Companion
    from dspy_worker.edge.ledger import Ledger
    from dspy_worker.edge.redis_link import RedisLink
    from dspy_worker.edge.telemetry import Metrics
    from dspy_worker.serve.predict import Label
    from dspy_worker.serve.runtime import Folders
    from dspy_worker.store.keeper import Keeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is there is not None, but for the shelf: one without a cache keeps nothing.

    Attributes:
        costs: Counts what answers cost.
        redis: The connection that cache and ledger share.
        ledger: Where budgets are kept.
        store: Where predictions are kept.
        shelf: Where answers are kept.
        caretaker: Who looks after the shelf.
        warmer: Who fills the shelf from the store at the start.
    """

    costs: Costs
    redis: RedisLink | None
    ledger: Ledger | None
    store: Keeper | None
    shelf: Shelf
    caretaker: Caretaker | None
    warmer: Warmer | None

    def companions(self) -> tuple[Companion, ...]:
        """Return what has to be started, in this order, and stopped in the opposite one.

        Others use the connection to Redis, the warmer reads the store, and the caretaker learns
        what was cleared by hand before answers of the store are remembered.
        """
        found = (self.redis, self.ledger, self.store, self.caretaker, self.warmer)
        return tuple(part for part in found if part is not None)


def make(document: AppDocument, label: Label, metrics: Metrics, folders: Folders) -> Parts:
    """Return the parts that a document asks for.

    Args:
        document: The app.
        label: What predictions are noted under.
        metrics: Where they count.
        folders: Where they keep what they keep.
    """
    redis = _redis(document, folders)
    costs = Costs(metrics.registry, document.name)
    ledger = _ledger(document, redis, folders)
    if ledger is not None:
        costs.show(document.budgets, ledger.sum)
    store = wiring.keeper(document, folders.connections, folders.data, metrics.registry)
    cache = _cache(document, label.variant, metrics, redis, folders)
    return Parts(
        costs=costs,
        redis=redis,
        ledger=ledger,
        store=store,
        shelf=cache.keeper if cache else NoShelf(),
        caretaker=cache.caretaker if cache else None,
        warmer=_warmer(document, label, cache, store, folders),
    )


def _redis(document: AppDocument, folders: Folders) -> RedisLink | None:
    """Return the connection to Redis; outside of a cluster the same document works without it."""
    url = keys.find_url(connections.REDIS, folders.connections)
    is_used = document.cache is not None or bool(document.budgets)
    is_known = folders.connections is not None or url.read() is not None
    if document.redis is None or not is_used or not is_known:
        return None
    from dspy_worker.edge.redis_link import RedisLink

    return RedisLink(url)


def _ledger(document: AppDocument, redis: RedisLink | None, folders: Folders) -> Ledger | None:
    """Return the ledger that pods share; without Redis one of this process."""
    app = f"{document.namespace}/{document.name}"
    if not document.budgets:
        return None
    if redis is None:
        return LocalLedger(app, folders.data)
    from dspy_worker.edge.redis_ledger import RedisLedger

    return RedisLedger(app, document.budgets, redis)


def _cache(
    document: AppDocument,
    variant: str,
    metrics: Metrics,
    redis: RedisLink | None,
    folders: Folders,
) -> Cache | None:
    """Return what keeps answers, with who looks after it."""
    if document.cache is None:
        return None
    from dspy_worker.cache import build

    return build.build(document, variant, metrics.registry, link=redis, data=folders.data)


def _warmer(
    document: AppDocument,
    label: Label,
    cache: Cache | None,
    store: Keeper | None,
    folders: Folders,
) -> Warmer | None:
    """Return who fills the shelf, where both are there and the variant tells which code answers."""
    if document.cache is None or cache is None or store is None:
        return None
    if not _knows_code(document, folders):
        return None
    from dspy_worker.cache.warming import Warmer

    ours = Query(app=label.app, variant=label.variant)
    return Warmer(cache.keeper, store.database, ours, document.cache.ttl_seconds)


def _knows_code(document: AppDocument, folders: Folders) -> bool:
    """Return whether the variant covers the program's code: an image may bring other code."""
    wants = document.program.entrypoint or document.program.module.tools
    return not wants or (folders.source is not None and any(folders.source.glob("*.py")))
