"""Alerts of an app, by promtool; and a page for each alert that this project has."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dspy_operator.core import app as app_spec
from dspy_operator.core import render
from dspy_operator.core.render import OPTIONAL_KINDS, Installation
from tests import alerting, charts
from tests.unit.operator import fakes

CASES = alerting.cases("app.yaml")
CHARTS = yaml.safe_load((charts.CHART / "files/alerts/operator.yaml").read_text())["groups"]


def app_rule() -> dict[str, Any]:
    """Return what an app with `spec.monitoring.rules` gives to Prometheus."""
    live = fakes.app(
        monitoring={"rules": {"errorPercent": 5, "latencySeconds": 10}},
        budgets=[{"name": "day", "limit": "5", "mode": "Shadow"}],
    )
    live["metadata"] |= {"namespace": "shop", "uid": "u-1", "generation": 1}
    app = app_spec.parse(live, default_image="worker:1")
    around = Installation(runbooks="docs/runbooks")
    setting = render.Setting(
        token="t", source_digest="", installation=around, served=OPTIONAL_KINDS
    )
    (rule,) = [c for c in render.children(app, setting) if c["kind"] == "PrometheusRule"]
    found: dict[str, Any] = rule["spec"]
    return found


RULES: list[dict[str, Any]] = app_rule()["groups"][0]["rules"]
APP_NAMES = [rule["alert"] for rule in RULES]
NAMES = APP_NAMES + [rule["alert"] for group in CHARTS for rule in group["rules"]]


@pytest.fixture(scope="module")
def rule_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(app_rule()))
    return path


def test_every_alert_of_an_app_has_its_cases() -> None:
    assert list(CASES) == APP_NAMES


@charts.needs_promtool
@pytest.mark.parametrize("name", APP_NAMES)
@pytest.mark.parametrize("case", ["fires", "quiet"])
def test_an_alert_of_an_app_fires_when_it_should_and_only_then(
    name: str, case: str, rule_file: Path
) -> None:
    assert alerting.complaint(rule_file, name, CASES[name][case]) == ""


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = {page.stem for page in alerting.RUNBOOKS.glob("*.md")} - {"README"}
    index = (alerting.RUNBOOKS / "README.md").read_text()

    assert pages == set(NAMES)
    for name in NAMES:
        page = (alerting.RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n")
        assert {"## What it means for users", "## Look", "## Do"} <= set(page.splitlines())
        assert f"({name}.md)" in index


def test_an_alert_of_an_app_points_to_its_page() -> None:
    for rule in RULES:
        assert (charts.ROOT / rule["annotations"]["runbook_url"]).is_file()


def test_pages_link_to_files_that_exist() -> None:
    for page in alerting.RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
