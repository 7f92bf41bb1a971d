"""A Grafana dashboard of one app, as a ConfigMap that Grafana's sidecar picks up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from dspy_operator.core import manifest, names
from dspy_operator.core.render import config, monitoring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.render.setting import Setting

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA: Final = 39
_WIDTH, _HEIGHT = 12, 8
_COLUMNS: Final = 2


def config_map(app: App, labels: Mapping[str, str], setting: Setting) -> Manifest:
    """Render the ConfigMap; its one file is the dashboard's JSON."""
    more = {**setting.installation.dashboard_labels, **labels}
    name = names.dashboard(app.name)
    text = orjson.dumps(_dashboard(app), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": config.metadata(app, name, "dashboard", labels=more),
        "data": {f"dspyapp-{app.namespace}-{app.name}.json": text},
    }


def _dashboard(app: App) -> dict[str, Any]:
    return {
        "uid": manifest.digest(["dashboard", app.namespace, app.name])[:24],
        "title": f"DSPyApp {app.namespace}/{app.name}",
        "tags": ["dspy"],
        "editable": False,
        "refresh": "30s",
        "schemaVersion": _SCHEMA,
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_placed(panel, number) for number, panel in enumerate(_panels(app))],
    }


def _placed(panel: dict[str, Any], number: int) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    place = {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    return {"id": number + 1, "gridPos": place, **panel}


def _panels(app: App) -> list[dict[str, Any]]:
    here = f'namespace="{app.namespace}",app="{app.name}"'
    pods = monitoring.pods_of(app)
    took = f"sum by (le) (rate(dspy_request_duration_seconds_bucket{{{here}}}[$__rate_interval]))"
    asked = f"sum by (le) (rate(dspy_lm_duration_seconds_bucket{{{pods}}}[$__rate_interval]))"
    return [
        _panel(
            "Requests",
            "Answered requests by code.",
            "reqps",
            {"{{code}}": _rate("code", "dspy_requests_total", here)},
        ),
        _panel(
            "Time to answer", "From arrival to answer, waiting included.", "s", _quantiles(took)
        ),
        _panel(
            "Work in the pods",
            "Requests that hold a slot, and requests that wait for one.",
            "short",
            {
                "in flight": f"sum(dspy_in_flight{{{pods}}})",
                "waiting": f"sum(dspy_queue_depth{{{pods}}})",
            },
        ),
        _panel(
            "Workers",
            "Pods that can be scraped, by version of the worker.",
            "short",
            {"{{version}}": f"count by (version) (dspy_worker_info{{{here}}})"},
        ),
        _panel(
            "LM calls",
            "Attempts to ask the LM by outcome.",
            "reqps",
            {"{{outcome}}": _rate("outcome", "dspy_lm_calls_total", pods)},
        ),
        _panel("Time of an LM call", "One attempt.", "s", _quantiles(asked)),
        _panel(
            "Tokens",
            "Tokens that the LM counted, per second.",
            "short",
            {"{{model}} {{direction}}": _rate("model, direction", "dspy_token_usage_total", here)},
        ),
        *_trouble(here, pods),
    ]


def _trouble(here: str, pods: str) -> list[dict[str, Any]]:
    return [
        _panel(
            "Throttled workers",
            "Workers whose last calls the LM provider refused with 429.",
            "short",
            {"throttled": f"sum(dspy_lm_throttled{{{here}}})"},
        ),
        _panel(
            "Open circuits",
            "Workers that give a model no calls, or only probes, because it failed too often.",
            "short",
            {"{{model}}": f"sum by (model) (dspy_lm_circuit_open{{{pods}}})"},
        ),
        _panel(
            "Degraded answers",
            "Answers that are worse than usual, by reason.",
            "reqps",
            {"{{reason}}": _rate("reason", "dspy_degraded_total", here)},
        ),
    ]


def _rate(by: str, metric: str, selector: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def _quantiles(buckets: str) -> dict[str, str]:
    return {f"p{int(q * 100)}": f"histogram_quantile({q}, {buckets})" for q in (0.5, 0.95, 0.99)}


def _panel(title: str, description: str, unit: str, queries: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _SOURCE, "expr": expr, "legendFormat": name}
            for n, (name, expr) in enumerate(queries.items())
        ],
    }
