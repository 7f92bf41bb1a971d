"""The worker's metrics: their names, and nothing that depends on a request's content."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from dspy_worker.core.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

REQUESTS = "dspy_requests_total"
REQUEST_DURATION = "dspy_request_duration_seconds"
REQUEST_OVERHEAD = "dspy_request_overhead_seconds"
ERRORS = "dspy_errors_total"
IN_FLIGHT = "dspy_in_flight"
QUEUE_DEPTH = "dspy_queue_depth"
ACTIVE_CONNECTIONS = "dspy_active_connections"
TOKEN_USAGE = "dspy_token_usage_total"  # noqa: S105 - a metric's name, not a password
LM_CALLS = "dspy_lm_calls_total"
LM_DURATION = "dspy_lm_duration_seconds"
LM_RETRIES = "dspy_lm_retries_total"
LM_REASKS = "dspy_lm_reasks_total"
LM_CIRCUIT_OPEN = "dspy_lm_circuit_open"
LM_CIRCUIT_OPENED = "dspy_lm_circuit_opened_total"
LM_RETRIES_REFUSED = "dspy_lm_retries_refused_total"
LM_THROTTLED = "dspy_lm_throttled"
DEGRADED = "dspy_degraded_total"
BUILD_INFO = "dspy_worker_info"

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

REFUSED = "rate_limit"
"""Outcome of an LM call that the provider answered with 429; the code of DSPy's RateLimitError."""
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Metrics:
    """All metrics of one worker, in a registry of their own."""

    def __init__(self, app: str) -> None:
        """Create the metrics; every series of requests carries the app's name."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._app = app
        # prometheus_client checks and looks up labels anew at each use; ours are a small set.
        self._series = functools.cache(_series)
        self._requests = Counter(
            REQUESTS, "Requests by route and status.", ["app", "route", "code"], registry=registry
        )
        self._duration = Histogram(
            REQUEST_DURATION,
            "Seconds from a request's arrival to its answer, waiting included.",
            ["app", "route"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._overhead = Histogram(
            REQUEST_OVERHEAD,
            "Seconds of a prediction minus waiting for a slot and for the language model.",
            ["app"],
            buckets=_OVERHEAD_BUCKETS,
            registry=registry,
        ).labels(app)
        self._errors = Counter(
            ERRORS, "Failed requests and batch items by reason.", ["reason"], registry=registry
        )
        self._degraded = Counter(
            DEGRADED,
            "Predictions whose answer was worse than usual, by reason.",
            ["app", "reason"],
            registry=registry,
        )
        self._init_lm(registry)
        self._init_circuits(registry)
        self._init_gauges(registry)

    def _init_lm(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            TOKEN_USAGE,
            "Tokens that the language model counted.",
            ["app", "model", "direction"],
            registry=registry,
        )
        self._lm_calls = Counter(
            LM_CALLS, "Attempts to ask the LM, by outcome.", ["model", "outcome"], registry=registry
        )
        self._lm_duration = Histogram(
            LM_DURATION,
            "Seconds of one attempt to ask the language model.",
            ["model"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._lm_retries = Counter(
            LM_RETRIES, "Attempts that repeated a failed one.", ["model"], registry=registry
        )
        self._lm_reasks = Counter(
            LM_REASKS, "Prompts asked again, the answer was unusable.", registry=registry
        )
        self._throttle = Throttle()
        Gauge(
            LM_THROTTLED,
            "1 while the language model's provider refuses a fifth of the calls or more.",
            ["app"],
            registry=registry,
        ).labels(self._app).set_function(self.is_throttled)

    def _init_circuits(self, registry: CollectorRegistry) -> None:
        self._circuits = Gauge(
            LM_CIRCUIT_OPEN,
            "1 while a model that failed too often gets no calls, or only probes.",
            ["model"],
            registry=registry,
        )
        self._circuits_opened = Counter(
            LM_CIRCUIT_OPENED, "Openings of a model's circuit.", ["model"], registry=registry
        )
        self._retries_refused = Counter(
            LM_RETRIES_REFUSED,
            "Failed attempts that were not repeated because the retry budget was empty.",
            ["model"],
            registry=registry,
        )

    def _init_gauges(self, registry: CollectorRegistry) -> None:
        self.in_flight = Gauge(IN_FLIGHT, "Predictions that hold a slot.", registry=registry)
        self.queue_depth = Gauge(
            QUEUE_DEPTH, "Predictions that wait for a slot.", registry=registry
        )
        self.connections = Gauge(
            ACTIVE_CONNECTIONS, "Open connections to the public port.", registry=registry
        )
        self._info = Gauge(
            BUILD_INFO, "Version of the worker.", ["app", "version", "digest"], registry=registry
        )

    def describe(self, version: str, digest: str) -> None:
        """Tell which worker serves which document."""
        self._info.labels(self._app, version, digest[:12]).set(1)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._series(self._requests, self._app, route, status).inc()
        self._series(self._duration, self._app, route).observe(seconds)

    def overhead(self, seconds: float) -> None:
        """Count the worker's own share of one prediction's time."""
        self._overhead.observe(seconds)

    def error(self, reason: str) -> None:
        """Count one failed request or batch item."""
        self._errors.labels(reason).inc()

    def lm_attempt(self, model: str, outcome: str, seconds: float) -> None:
        """Count one attempt to ask the language model; `outcome` is "ok" or an error's kind."""
        self._series(self._lm_calls, model, outcome).inc()
        self._series(self._lm_duration, model).observe(seconds)
        self._throttle.note(refused=outcome == REFUSED, now=time.monotonic())

    def is_throttled(self) -> bool:
        """Return whether the language model's provider throttles this worker at present."""
        return self._throttle.is_throttled(time.monotonic())

    def lm_tokens(self, model: str, tokens_in: int, tokens_out: int) -> None:
        """Count the tokens of one answer."""
        self._series(self._tokens, self._app, model, "input").inc(tokens_in)
        self._series(self._tokens, self._app, model, "output").inc(tokens_out)

    def lm_retry(self, model: str) -> None:
        """Count one repeated attempt."""
        self._lm_retries.labels(model).inc()

    def lm_retry_refused(self, model: str) -> None:
        """Count one failed attempt that the retry budget did not let repeat."""
        self._retries_refused.labels(model).inc()

    def lm_circuit(self, model: str, is_open: Callable[[], bool]) -> None:
        """Show a model's circuit from now on."""
        self._circuits.labels(model).set_function(is_open)
        self._circuits_opened.labels(model)
        self._retries_refused.labels(model)

    def lm_circuit_opened(self, model: str) -> None:
        """Count one opening of a model's circuit."""
        self._circuits_opened.labels(model).inc()

    def degraded(self, reason: str) -> None:
        """Count one prediction whose answer is worse than usual."""
        self._degraded.labels(self._app, reason).inc()

    def lm_reask(self) -> None:
        """Count one prompt that was asked again because its answer could not be read."""
        self._lm_reasks.inc()

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _series(metric: Any, *labels: object) -> Any:  # noqa: ANN401 - a counter or a histogram
    return metric.labels(*labels)
