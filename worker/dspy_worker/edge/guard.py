"""Circuit and retry budget of one model, shared by its engines: with a clock, dice and a lock."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from dspy_worker.core.breaker import Breaker, State
from dspy_worker.core.retrybudget import RetryBudget
from dspy_worker.errors import LMCircuitOpen

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_worker.contract.app import Model
    from dspy_worker.core.breaker import Permit
    from dspy_worker.edge.telemetry import Metrics


class Guard:
    """Decides whether a model may be asked, and asked again."""

    def __init__(
        self, model: Model, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with a closed circuit and a full budget."""
        self._name = model.name
        self._metrics = metrics
        self._clock = clock
        self._budget = RetryBudget()
        self._breaker = Breaker(model.breaker)
        self._lock = threading.Lock()
        metrics.lm_circuit(model.name, self.is_open)

    def enter(self, *, first: bool) -> Permit:
        """Return leave for one attempt; it has to be ended with `settle` or `withdraw`.

        Args:
            first: Whether it repeats no other attempt.

        Raises:
            LMCircuitOpen: The model must not be asked at present.
        """
        with self._lock:
            permit = self._breaker.admit(self._clock())
            if permit is None:
                raise LMCircuitOpen(
                    f"The language model {self._name!r} has failed too often; it gets no calls "
                    "for a while.",
                    retry_after=max(1.0, self._breaker.wait(self._clock())),
                )
            if first:
                self._budget.earn()
            return permit

    def settle(self, permit: Permit, *, failed: bool, seconds: float) -> None:
        """Take note of an attempt that told something about the endpoint."""
        with self._lock:
            opened = self._breaker.settle(
                permit,
                failed=failed,
                seconds=seconds,
                now=self._clock(),
                jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
            )
        if opened:
            self._metrics.lm_circuit_opened(self._name)

    def withdraw(self, permit: Permit) -> None:
        """Take back the leave for an attempt that told nothing."""
        with self._lock:
            self._breaker.withdraw(permit)

    def may_repeat(self) -> bool:
        """Take a retry from the budget; return whether there was one, and a circuit for it."""
        with self._lock:
            if self._breaker.wait(self._clock()):
                return False
            allowed = self._budget.spend()
        if not allowed:
            self._metrics.lm_retry_refused(self._name)
        return allowed

    def is_open(self) -> bool:
        """Return whether the circuit is open or half-open."""
        with self._lock:
            return self._breaker.state(self._clock()) is not State.CLOSED
