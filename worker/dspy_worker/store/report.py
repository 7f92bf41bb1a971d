"""What a person wants to know of a store, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspy_worker.core.search import Query

if TYPE_CHECKING:
    from dspy_worker.store.database import Counts, Database
    from dspy_worker.store.reads import KeptLibrary, ReadStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The numbers.

    Attributes:
        version: Number of the last migration.
        connections: Connections that workers have to the database.
        stored: How many rows there are.
        reads: What reads of this process have cost.
    """

    version: int
    connections: int
    stored: Counts
    reads: ReadStatistics

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "version": self.version,
            "connections": self.connections,
            "predictions": self.stored.predictions,
            "feedback": self.stored.feedback,
            "cacheSize": self.reads.kept,
            "cacheHitRate": round(self.reads.hit_rate, 4),
            "meanQueryMilliseconds": round(self.reads.mean_milliseconds, 3),
        }


async def make(database: Database, library: KeptLibrary, app: str) -> Report:
    """Return the report on the rows of an app, or on all with an empty name.

    Raises:
        StoreError: The database cannot be asked.
    """
    await library.search(Query(app=app))  # so that there is a time of a query to tell
    return Report(
        version=await database.version(),
        connections=await database.connections(),
        stored=await database.counts(app),
        reads=library.statistics(),
    )
