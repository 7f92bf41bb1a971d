"""What a worker has beside its program: connection to Redis, counted money, kept answers, store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.cache.shelf import NoShelf
from dspy_worker.contract import connections
from dspy_worker.edge import keys
from dspy_worker.edge.costs import Costs
from dspy_worker.edge.local_ledger import LocalLedger
from dspy_worker.store import wiring

# An app without cache and budgets neither loads nor needs what only they do.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from dspy_worker.cache.caretaker import Caretaker
    from dspy_worker.cache.shelf import Shelf
    from dspy_worker.contract.app import AppDocument
    from dspy_worker.edge.companion import Companion
    from dspy_worker.edge.ledger import Ledger
    from dspy_worker.edge.redis_link import RedisLink
    from dspy_worker.edge.telemetry import Metrics
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
    """

    costs: Costs
    redis: RedisLink | None
    ledger: Ledger | None
    store: Keeper | None
    shelf: Shelf
    caretaker: Caretaker | None

    def companions(self) -> tuple[Companion, ...]:
        """Return what has to be started, in this order: others use the connection to Redis."""
        found = (self.redis, self.ledger, self.store, self.caretaker)
        return tuple(part for part in found if part is not None)


def make(document: AppDocument, variant: str, metrics: Metrics, folders: Folders) -> Parts:
    """Return the parts that a document asks for.

    Args:
        document: The app.
        variant: Name of the prompts that answer.
        metrics: Where they count.
        folders: Where they keep what they keep.
    """
    redis = _redis(document, folders)
    costs = Costs(metrics.registry, document.name)
    ledger = _ledger(document, redis, folders)
    if ledger is not None:
        costs.show(document.budgets, ledger.sum)
    shelf, caretaker = _shelf(document, variant, metrics, redis, folders)
    return Parts(
        costs=costs,
        redis=redis,
        ledger=ledger,
        store=wiring.keeper(document, folders.connections, folders.data, metrics.registry),
        shelf=shelf,
        caretaker=caretaker,
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


def _shelf(
    document: AppDocument,
    variant: str,
    metrics: Metrics,
    redis: RedisLink | None,
    folders: Folders,
) -> tuple[Shelf, Caretaker | None]:
    """Return what keeps answers, and who looks after it."""
    if document.cache is None:
        return NoShelf(), None
    from dspy_worker.cache import build

    cache = build.build(document, variant, metrics.registry, link=redis, data=folders.data)
    return cache.keeper, cache.caretaker
