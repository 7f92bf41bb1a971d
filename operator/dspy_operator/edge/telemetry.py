"""Our own metrics and logs. The shapes follow controller-runtime, so known dashboards map 1:1."""

from __future__ import annotations

import contextlib
import logging
import sys
from importlib import metadata
from typing import Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """All metrics of one operator, in a registry of their own, so that tests can have several."""

    def __init__(self) -> None:
        """Create every metric once."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._create_queue_metrics()
        self._create_edge_metrics()
        self.app_ready = self._gauge(
            "app_ready", "1 where the condition Ready is True, else 0.", ("namespace", "name")
        )
        self.leader = self._gauge("leader", "1 while this process holds the lease, else 0.")
        self.pending_changes = self._gauge(
            "pending_changes",
            "Changes that an operator which only observes would make.",
            ("namespace", "name"),
        )
        info = self._gauge("build_info", "Always 1; the labels tell the build.", ("version",))
        info.labels(metadata.version("dspy-operator")).set(1)

    def _create_queue_metrics(self) -> None:
        self.reconciles = self._counter(
            "reconcile_total", "Reconciliations by result.", ("kind", "result")
        )
        self.reconcile_seconds = Histogram(
            "dspy_operator_reconcile_time_seconds",
            "Duration of one reconciliation.",
            ("kind",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queue_depth = self._gauge("workqueue_depth", "Keys that wait for a worker.")
        self.queue_adds = self._counter("workqueue_adds_total", "Keys added to the queue.")
        self.queue_retries = self._counter("workqueue_retries_total", "Keys added after an error.")
        self.queue_longest = self._gauge(
            "workqueue_longest_running_processor_seconds", "Age of the oldest running key."
        )
        self.errors = self._counter("errors_total", "Failed reconciliations.", ("reason",))

    def _create_edge_metrics(self) -> None:
        self.requests = self._counter(
            "api_requests_total",
            "Requests to the API server; code 0 means no answer.",
            ("verb", "resource", "code"),
        )
        self.watch_restarts = self._counter(
            "watch_restarts_total", "Watch streams that ended and were opened anew.", ("kind",)
        )
        self.drift_repaired = self._counter(
            "drift_repaired_total", "Children that somebody else had changed.", ("kind",)
        )
        self.polls = self._counter("worker_polls_total", "Looks at a worker's report.", ("result",))
        self.loop_lag = self._gauge("event_loop_lag_seconds", "Lateness of the last 1 s timer.")

    def remove_app(self, namespace: str, name: str) -> None:
        """Drop the series of an app that is gone."""
        with contextlib.suppress(KeyError):
            self.app_ready.remove(namespace, name)
        with contextlib.suppress(KeyError):
            self.pending_changes.remove(namespace, name)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"dspy_operator_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"dspy_operator_{name}", text, labels, registry=self.registry)


def configure_logs(log_format: str, level: int = logging.INFO) -> None:
    """Send structlog's and the standard library's records (kopf's) to stderr in one format.

    Args:
        log_format: "json" for machines, "text" for people.
        level: Least level that is shown.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(log_format),
            ],
        )
    )
    handler.addFilter(_OncePerOutage())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)


def _renderer(log_format: str) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(sort_keys=True)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


class _OncePerOutage(logging.Filter):
    """kopf logs each of its endless retries as an error; the first of an outage is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep first attempts and whatever is no retry."""
        text = record.getMessage()
        return not text.startswith("Request attempt #") or text.startswith("Request attempt #1 ")
