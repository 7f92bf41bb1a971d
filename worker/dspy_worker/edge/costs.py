"""The metrics of money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from dspy_worker.contract.money import NANOS
from dspy_worker.core.forecast import Forecast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

    from dspy_worker.contract.budgets import Budget
    from dspy_worker.edge.ledger import Sum

COST = "dspy_cost_usd_total"
UNKNOWN = "dspy_cost_unknown_total"
LIMIT = "dspy_budget_limit_usd"
SPENT = "dspy_budget_spent_usd"
RESERVED = "dspy_budget_reserved_usd"
FORECAST = "dspy_budget_forecast_usd"
REFUSED = "dspy_budget_refused_total"
WOULD_REFUSE = "dspy_budget_would_refuse_total"
SOFT = "dspy_budget_soft_total"
OVERRUN = "dspy_budget_overrun_total"


class Costs:
    """What answers cost; no series for a tenant, for callers choose those names."""

    def __init__(self, registry: CollectorRegistry, app: str) -> None:
        """Create the metrics."""
        self._app = app
        self._cost = Counter(
            COST, "US dollars that answers of the LM cost.", ["app", "model"], registry=registry
        )
        self._unknown = Counter(
            UNKNOWN, "Answers of the LM whose price is unknown.", ["model"], registry=registry
        )
        self._overrun = Counter(
            OVERRUN, "Answers that cost more than was set aside.", ["model"], registry=registry
        )
        labels = ["app", "budget"]
        self._refused = Counter(
            REFUSED, "Attempts that a budget refused.", labels, registry=registry
        )
        self._would_refuse = Counter(
            WOULD_REFUSE, "Attempts that a Shadow budget would refuse.", labels, registry=registry
        )
        self._soft = Counter(
            SOFT,
            "Calls for which a budget's cheaper model was asked first, or would be.",
            labels,
            registry=registry,
        )
        self._gauges = {
            name: Gauge(name, text, labels, registry=registry)
            for name, text in (
                (LIMIT, "US dollars that a period may cost, for the app or for each tenant."),
                (SPENT, "US dollars spent in this period, as this pod knows it."),
                (RESERVED, "US dollars set aside for calls under way, as this pod knows it."),
                (FORECAST, "US dollars that this period will have cost at its end."),
            )
        }

    def show(self, budgets: Iterable[Budget], look: Callable[[Budget], Sum]) -> None:
        """Show budgets from now on."""
        for budget in budgets:
            view = _View(budget, look)
            for counter in (self._refused, self._would_refuse, self._soft):
                counter.labels(self._app, budget.name)
            self._gauge(LIMIT, budget).set(budget.limit / NANOS)
            self._gauge(SPENT, budget).set_function(view.spent)
            self._gauge(RESERVED, budget).set_function(view.reserved)
            self._gauge(FORECAST, budget).set_function(view.forecast)

    def answer(self, model: str, nanos: int | None) -> None:
        """Count one answer; None where nobody knows what it cost."""
        if nanos is None:
            self._unknown.labels(model).inc()
        else:
            self._cost.labels(self._app, model).inc(nanos / NANOS)

    def overrun(self, model: str) -> None:
        """Count one answer that cost more than was set aside."""
        self._overrun.labels(model).inc()

    def refused(self, budget: Budget) -> None:
        """Count one attempt that a budget refused."""
        self._refused.labels(self._app, budget.name).inc()

    def would_refuse(self, budget: Budget) -> None:
        """Count one attempt that a budget in the shadow would have refused."""
        self._would_refuse.labels(self._app, budget.name).inc()

    def soft(self, budget: Budget) -> None:
        """Count one call for which the cheaper model is wanted."""
        self._soft.labels(self._app, budget.name).inc()

    def _gauge(self, name: str, budget: Budget) -> Gauge:
        return self._gauges[name].labels(self._app, budget.name)


class _View:
    """One budget as it is scraped."""

    def __init__(self, budget: Budget, look: Callable[[Budget], Sum]) -> None:
        self._budget = budget
        self._look = look
        self._forecast = Forecast()

    def spent(self) -> float:
        return self._look(self._budget).spent / NANOS

    def reserved(self) -> float:
        return self._look(self._budget).reserved / NANOS

    def forecast(self) -> float:
        found = self._look(self._budget)
        self._forecast.note(found.span, found.now, found.spent)
        return self._forecast.at_end(found.span, found.now, found.spent) / NANOS
