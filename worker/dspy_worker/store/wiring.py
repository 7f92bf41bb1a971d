"""Puts the store of one worker together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_worker.store import source
from dspy_worker.store.backlog import Backlog
from dspy_worker.store.journal import Journal
from dspy_worker.store.keeper import Keeper, Retention
from dspy_worker.store.telemetry import StoreMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from dspy_worker.contract.app import AppDocument

JOURNAL = "journal"


def keeper(
    document: AppDocument,
    connections_dir: Path | None,
    data: Path | None,
    registry: CollectorRegistry,
) -> Keeper | None:
    """Return the store that a document asks for; None where it asks for none.

    Args:
        document: The app.
        connections_dir: Holds postgres/url; None outside of a pod.
        data: The worker's folder; None for a program that is only looked at.
        registry: Where its metrics go.
    """
    policy = document.store
    if policy is None or data is None:
        return None
    return Keeper(
        Journal(data / JOURNAL, policy.spool_bytes),
        Backlog(),
        source.find(connections_dir, data),
        StoreMetrics(registry),
        Retention(app=f"{document.namespace}/{document.name}", days=policy.retention_days),
    )
