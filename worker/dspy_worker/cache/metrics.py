"""What the cache counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

LEVELS: Final = ("memory", "redis", "disk")
_LOOKUP_BUCKETS: Final = (
    0.000005, 0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.25,
)  # fmt: skip

_PLAIN: Final = (
    (
        "dspy_cache_stale_total",
        "Answers past their time that were given because there was no other.",
    ),
    ("dspy_cache_bypassed_total", "Requests that did not want a kept answer."),
    (
        "dspy_cache_warmed_total",
        "Answers of the store that the memory took when the worker started.",
    ),
)


class CacheMetrics:
    """Counters by level; each level's series are there from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the metrics."""

        def counter(name: str, text: str) -> dict[str, Counter]:
            made = Counter(name, text, ["level"], registry=registry)
            return {level: made.labels(level) for level in LEVELS}

        self.hits = counter("dspy_cache_hits_total", "Good answers that a level had.")
        self.misses = counter("dspy_cache_misses_total", "Look-ups of a level without one.")
        self.stores = counter("dspy_cache_stores_total", "Answers that a level took.")
        self.errors = counter("dspy_cache_errors_total", "Look-ups and writes that failed.")
        self.poisoned = counter(
            "dspy_cache_poisoned_total", "Entries that were unreadable and were removed."
        )
        self.evictions = counter("dspy_cache_evictions_total", "Answers that had to make room.")
        seconds = Histogram(
            "dspy_cache_lookup_seconds",
            "Seconds of one look-up of a level.",
            ["level"],
            buckets=_LOOKUP_BUCKETS,
            registry=registry,
        )
        self.seconds = {level: seconds.labels(level) for level in LEVELS}
        self.collapsed = Counter(
            "dspy_cache_collapsed_total",
            "Requests that got the answer to an equal one, of the same pod or of another.",
            ["where"],
            registry=registry,
        )
        self.in_pod, self.across = self.collapsed.labels("pod"), self.collapsed.labels("pods")
        self.stale, self.bypassed, self.warmed = (
            Counter(name, text, registry=registry) for name, text in _PLAIN
        )
        self._bytes = Gauge(
            "dspy_cache_bytes", "Bytes of answers in a level.", ["level"], registry=registry
        )
        self._entries = Gauge(
            "dspy_cache_entries", "Answers in a level.", ["level"], registry=registry
        )

    def watch(self, level: str, size: Callable[[], float], entries: Callable[[], float]) -> None:
        """Show the size of a level of this pod from now on."""
        self._bytes.labels(level).set_function(size)
        self._entries.labels(level).set_function(entries)
