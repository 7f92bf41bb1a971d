"""What is kept of predictions and feedback, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.contract import connections

if TYPE_CHECKING:
    from dspy_worker.contract import reader
    from dspy_worker.contract.connections import Connection

LEAST_SPOOL_BYTES = 1 << 20
_SLACK_BYTES = 16 << 20
"""What files take beyond what is written to them; a pod above its limit would be evicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePolicy:
    """The prediction store of an app.

    Attributes:
        postgres: The database; outside of a cluster SQLite does its work.
        retention_days: After how many days predictions are deleted; 0 keeps them for ever.
        spool_bytes: How much waits on disk while the database is away.
    """

    postgres: Connection
    retention_days: int = 30
    spool_bytes: int = 268_435_456

    def data_bytes(self) -> int:
        """Return how much room the journal needs on disk."""
        return self.spool_bytes + self.spool_bytes // 16 + _SLACK_BYTES


def read(node: reader.Node) -> StorePolicy:
    """Return the store that `spec.store` describes.

    Raises:
        DocumentError: The message names the field's path and what would be right.
    """
    return StorePolicy(
        postgres=connections.read(node.node("postgres"), connections.POSTGRES),
        retention_days=node.number("retentionDays", 30, least=0),
        spool_bytes=node.number("spoolBytes", 268_435_456, least=LEAST_SPOOL_BYTES),
    )
