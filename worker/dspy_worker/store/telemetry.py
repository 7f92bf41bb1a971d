"""The store's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

WRITTEN = "dspy_store_written_total"
WRITE_DURATION = "dspy_store_write_seconds"
BATCH_SIZE = "dspy_store_batch_size"
SPOOL_BYTES = "dspy_store_spool_bytes"
LOST = "dspy_store_lost_total"
UP = "dspy_store_up"
READS = "dspy_store_reads_total"
READ_DURATION = "dspy_store_read_seconds"

FULL, REFUSED, BROKEN, UNWRITABLE, STOPPED = "full", "refused", "broken", "unwritable", "stopped"
"""Why something was lost: no room on disk and in memory; the database takes it never; a line that
does not fit its checksum; no form could be found for it; it was in memory when the worker ended."""
REASONS = (FULL, REFUSED, BROKEN, UNWRITABLE, STOPPED)


class StoreMetrics:
    """Counts what the store of one worker does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the metrics."""
        self._written = Counter(
            WRITTEN, "Rows committed to the database, by kind.", ["kind"], registry=registry
        )
        self.duration = Histogram(
            WRITE_DURATION, "Seconds in which one batch was committed.", registry=registry
        )
        self.batch = Histogram(
            BATCH_SIZE,
            "Predictions and feedback of one batch.",
            buckets=(1, 5, 10, 50, 100, 200, 500),
            registry=registry,
        )
        self._spool = Gauge(
            SPOOL_BYTES, "Bytes in the journal that no database has yet.", registry=registry
        )
        self._lost = Counter(
            LOST, "Notes that were given up, by reason.", ["reason"], registry=registry
        )
        self._up = Gauge(UP, "1 while the database of predictions can be used.", registry=registry)
        self._reads = Counter(
            READS, "Questions to the store, by what answered.", ["source"], registry=registry
        )
        self._read_duration = Histogram(
            READ_DURATION, "Seconds of one question that the database answered.", registry=registry
        )
        for reason in REASONS:
            self._lost.labels(reason)
        for kind in ("prediction", "feedback"):
            self._written.labels(kind)

    def watch(self, spool: Callable[[], int], up: Callable[[], bool]) -> None:
        """Show how much waits, and whether the database is there, from now on."""
        self._spool.set_function(spool)
        self._up.set_function(up)

    def written(self, predictions: int, feedback: int) -> None:
        """Count committed rows."""
        self._written.labels("prediction").inc(predictions)
        self._written.labels("feedback").inc(feedback)

    def lost(self, reason: str, number: int = 1) -> None:
        """Count what was given up."""
        self._lost.labels(reason).inc(number)

    def read(self, seconds: float | None) -> None:
        """Count a question; None where the answer was kept."""
        self._reads.labels("cache" if seconds is None else "database").inc()
        if seconds is not None:
            self._read_duration.observe(seconds)
