"""What Prometheus gets: where to scrape, and when to call somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy_operator.core import names
from dspy_operator.core.render import config, network, workload
from dspy_worker import contract

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.options import Rules, ServiceMonitor
    from dspy_operator.core.render.setting import Setting

_OVERLOAD_PERCENT = 5


def service_monitor(app: App, wanted: ServiceMonitor, setting: Setting) -> Manifest:
    """Render the ServiceMonitor of the ops ports."""
    labels = {**setting.installation.monitor_labels, **wanted.labels}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": config.metadata(app, app.name, "monitoring", labels=labels),
        "spec": {
            "jobLabel": names.APP_LABEL,
            "selector": {"matchLabels": names.labels(app.name, network.METRICS)},
            "endpoints": [
                {
                    "port": workload.OPS,
                    "path": contract.METRICS_PATH,
                    "interval": f"{wanted.interval_seconds}s",
                }
            ],
        },
    }


def prometheus_rule(app: App, wanted: Rules, setting: Setting) -> Manifest:
    """Render the app's alerts; each names a runbook."""
    labels = {**setting.installation.monitor_labels, **wanted.labels}
    alerts = [
        *([_down(app)] if _always_has_pods(app) else []),
        _errors(app, wanted),
        _slow(app, wanted),
        _overloaded(app),
        _throttled(app),
        _circuit_open(app),
        _store_down(app),
        _predictions_lost(app),
        *([_budget_soft(app), _budget_spent(app)] if app.program.budgets else []),
    ]
    group = {
        "name": f"dspyapp/{app.namespace}/{app.name}",
        "rules": [_finished(alert, app, setting) for alert in alerts],
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": config.metadata(app, app.name, "alerts", labels=labels),
        "spec": {"groups": [group]},
    }


def pods_of(app: App) -> str:
    """Return the selector of series that carry a pod's name and not the app's."""
    return f'namespace="{app.namespace}",pod=~"{app.name}-[a-z0-9]+-[a-z0-9]+"'


def _always_has_pods(app: App) -> bool:
    return (app.replicas if app.scaling is None else app.scaling.least) > 0


def _finished(alert: dict[str, Any], app: App, setting: Setting) -> dict[str, Any]:
    """Add what all alerts have."""
    labels = {**alert["labels"], "dspy_app": app.name, "namespace": app.namespace}
    annotations = dict(alert["annotations"])
    if setting.installation.runbooks:
        annotations["runbook_url"] = f"{setting.installation.runbooks}/{alert['alert']}.md"
    return {**alert, "labels": labels, "annotations": annotations}


def _of(app: App, more: str = "") -> str:
    return f'{{namespace="{app.namespace}",app="{app.name}"{more}}}'


def _alert(
    name: str, expr: str, *, minutes: int, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expr,
        "for": f"{minutes}m",
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _down(app: App) -> dict[str, Any]:
    return _alert(
        "DSPyAppDown",
        f"absent(dspy_worker_info{_of(app)})",
        minutes=5,
        severity="critical",
        summary=f"No worker of {app.namespace}/{app.name} can be scraped",
        description="For five minutes Prometheus has seen no worker of this app.",
    )


def _share(app: App, codes: str) -> str:
    """Return the expression of the share of requests with some codes, in percent."""
    some = f"sum(rate(dspy_requests_total{_of(app, codes)}[5m]))"
    return f"100 * {some} / sum(rate(dspy_requests_total{_of(app)}[5m]))"


def _errors(app: App, wanted: Rules) -> dict[str, Any]:
    codes = ',code=~"5.."'
    return _alert(
        "DSPyAppErrors",
        f"{_share(app, codes)} > {wanted.error_percent}",
        minutes=10,
        severity="critical",
        summary=f'{app.namespace}/{app.name} fails {{{{ $value | printf "%.1f" }}}} % of requests',
        description=f"More than {wanted.error_percent} % of the requests of the last five minutes "
        "ended in a 5xx answer, for ten minutes.",
    )


def _slow(app: App, wanted: Rules) -> dict[str, Any]:
    rate = f"rate(dspy_request_duration_seconds_bucket{_of(app)}[5m])"
    return _alert(
        "DSPyAppSlow",
        f"histogram_quantile(0.95, sum by (le) ({rate})) > {wanted.latency_seconds}",
        minutes=10,
        severity="warning",
        summary=f"{app.namespace}/{app.name} answers slowly",
        description="The 95th percentile of the time to answer has been above "
        f"{wanted.latency_seconds} s for ten minutes.",
    )


def _overloaded(app: App) -> dict[str, Any]:
    codes = ',code="429"'
    return _alert(
        "DSPyAppOverloaded",
        f"{_share(app, codes)} > {_OVERLOAD_PERCENT}",
        minutes=10,
        severity="warning",
        summary=f"{app.namespace}/{app.name} turns requests away",
        description=f"More than {_OVERLOAD_PERCENT} % of the requests were answered with 429 for "
        "ten minutes: the queues of the pods are full.",
    )


def _throttled(app: App) -> dict[str, Any]:
    return _alert(
        "DSPyAppThrottled",
        f"max(dspy_lm_throttled{_of(app)}) > 0",
        minutes=10,
        severity="warning",
        summary=f"The LM provider throttles {app.namespace}/{app.name}",
        description="The provider has refused calls with 429 for ten minutes; more pods would not "
        "help.",
    )


def _circuit_open(app: App) -> dict[str, Any]:
    # Each probe that fails opens the circuit again; one without traffic is not probed and is no
    # trouble to anybody.
    opened = f"increase(dspy_lm_circuit_opened_total{{{pods_of(app)}}}[5m])"
    return _alert(
        "DSPyAppCircuitOpen",
        f"sum by (model) ({opened}) > 0",
        minutes=10,
        severity="warning",
        summary=f"The LM {{{{ $labels.model }}}} of {app.namespace}/{app.name} fails",
        description="For ten minutes its circuit has opened again and again: a fallback answers in "
        "its place, or requests end in a 503.",
    )


def _store_down(app: App) -> dict[str, Any]:
    return _alert(
        "DSPyAppStoreDown",
        f"min(dspy_store_up{{{pods_of(app)}}}) == 0",
        minutes=10,
        severity="warning",
        summary=f"Predictions of {app.namespace}/{app.name} do not reach their database",
        description="For ten minutes a pod at least could not use it. Predictions wait on the "
        "disks of the pods, and are lost with a pod that is deleted.",
    )


def _predictions_lost(app: App) -> dict[str, Any]:
    return _alert(
        "DSPyAppPredictionsLost",
        f"sum by (reason) (increase(dspy_store_lost_total{{{pods_of(app)}}}[10m])) > 0",
        minutes=1,
        severity="critical",
        summary=f"Predictions of {app.namespace}/{app.name} were answered and not kept",
        description="Reason {{ $labels.reason }}; full: PostgreSQL was away for longer than "
        "spec.store.spoolBytes lasts.",
    )


def _budget(app: App, metric: str) -> str:
    """Return the expression of what has lately been counted for each budget."""
    return f"sum by (budget) (increase({metric}{_of(app)}[5m])) > 0"


def _budget_soft(app: App) -> dict[str, Any]:
    return _alert(
        "DSPyAppBudgetSoft",
        _budget(app, "dspy_budget_soft_total"),
        minutes=5,
        severity="warning",
        summary=f"{app.namespace}/{app.name} saves: budget {{{{ $labels.budget }}}}",
        description="The budget is spent beyond its softPercent; for five minutes a cheaper model "
        "has answered, or would have in the mode Enforce.",
    )


def _budget_spent(app: App) -> dict[str, Any]:
    return _alert(
        "DSPyAppBudgetExhausted",
        _budget(app, "dspy_budget_refused_total"),
        minutes=5,
        severity="critical",
        summary=f"The budget {{{{ $labels.budget }}}} of {app.namespace}/{app.name} is spent",
        description="For five minutes calls have not fitted into the budget: requests end in a "
        "429, or a cheaper model answers.",
    )
