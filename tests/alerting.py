"""Alerts in tests: promtool, and the cases in tests/alerts in which each fires or stays quiet."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests import charts

if TYPE_CHECKING:
    from pathlib import Path

RUNBOOKS = charts.ROOT / "docs/runbooks"

Case = dict[str, Any]


def cases(name: str) -> dict[str, dict[str, Case]]:
    """Return the cases of a file by alert, each with `fires` and `quiet`."""
    text = (charts.ROOT / "tests/alerts" / name).read_text()
    found: dict[str, dict[str, Case]] = yaml.safe_load(text)
    return found


def promtool(*arguments: str | Path) -> str:
    """Run promtool; return what it complains of, or ""."""
    command = [str(charts.PROMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def complaint(rules: Path, name: str, case: Case) -> str:
    """Let promtool try a case; return its complaint, or "".

    A case with labels is one in which the alert fires with just these. The query asks ALERTS: there
    promtool compares labels and leaves annotations alone.
    """
    expected = []
    if "labels" in case:
        labels = {"alertname": name, "alertstate": "firing", **case["labels"]}
        inner = ", ".join(f'{k}="{v}"' for k, v in labels.items())
        expected = [{"labels": f"ALERTS{{{inner}}}", "value": 1}]
    query = {
        "expr": f'ALERTS{{alertname="{name}", alertstate="firing"}}',
        "eval_time": case["at"],
        "exp_samples": expected,
    }
    test = {"interval": "1m", "input_series": _samples(case), "promql_expr_test": [query]}
    content = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}
    path = rules.with_name("test.yaml")
    path.write_text(yaml.safe_dump(content))
    return promtool("test", "rules", path)


def _samples(case: Case) -> list[dict[str, str]]:
    """Return the series of a case; 0x60 without quotes would be a hexadecimal number to YAML."""
    assert all(isinstance(value, str) for value in case["series"].values())
    return [{"series": k, "values": v} for k, v in case["series"].items()]
