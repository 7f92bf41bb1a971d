"""Monitors, alerts and dashboards of the chart: found by Prometheus, tested by promtool, true."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import dspy_operator.edge.telemetry
from tests import alerting, charts
from tests.charts import CHART, ROOT, needs_helm, needs_promtool, render

ALERTS = yaml.safe_load((CHART / "files/alerts/operator.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in ALERTS for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]
CASES = alerting.cases("operator.yaml")
DASHBOARDS = sorted((CHART / "files/dashboards").glob("*.json"))
MONITORS = ("ServiceMonitor", "PodMonitor")
ON = {kind: f"monitoring.{kind[0].lower()}{kind[1:]}.enabled=true" for kind in MONITORS}
RULE = "monitoring.prometheusRule.enabled=true"


def exported() -> set[str]:
    """Return the names of all series that the operator exports."""
    registry = dspy_operator.edge.telemetry.Telemetry().registry
    families = list(registry.collect())
    names = {f.name for f in families if f.type == "gauge"}
    names |= {f"{f.name}_total" for f in families if f.type == "counter"}
    endings = ("bucket", "count", "sum")
    return names | {f"{f.name}_{e}" for f in families if f.type == "histogram" for e in endings}


def named(expression: str) -> set[str]:
    """Return the names of metrics in a PromQL expression; all of ours have such a beginning."""
    return set(re.findall(r"\b(?:dspy|process|python)_\w+", expression))


# Monitors


@needs_helm
@pytest.mark.parametrize("kind", MONITORS)
def test_a_monitor_reads_the_operators_port_and_carries_the_shared_labels(kind: str) -> None:
    own = f"{ON[kind].removesuffix('enabled=true')}labels.own=x"
    found = render(ON[kind], "monitoring.labels.release=kps", own)
    monitor = found[f"{kind}/dspy-operator"]
    (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    target = found["Service/dspy-operator-metrics"]["metadata"]["labels"]

    assert monitor["metadata"]["labels"]["release"] == "kps"
    assert monitor["metadata"]["labels"]["own"] == "x"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= target.items()
    assert endpoint["port"] == "metrics"
    assert endpoint["honorLabels"] is True, "the label namespace is the app's"


@needs_helm
def test_there_is_no_monitor_unless_asked_for() -> None:
    kinds = {each["kind"] for each in render().values()}

    assert not kinds & {*MONITORS, "PrometheusRule", "ConfigMap", "VerticalPodAutoscaler"}


@needs_helm
def test_two_monitors_or_one_without_its_service_are_refused() -> None:
    assert "enable one of them" in charts.complaint(*ON.values())
    without_service = (ON["ServiceMonitor"], "metrics.service.enabled=false")
    assert "needs metrics.service.enabled" in charts.complaint(*without_service)


@needs_helm
def test_the_notes_warn_of_monitors_that_nobody_reads() -> None:
    def notes(*settings: str) -> str:
        flags = [part for setting in settings for part in ("--set", setting)]
        dry_run = ("install", "x", str(CHART), "--dry-run=client", "--hide-secret", *flags)
        done = charts.helm(*dry_run)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.partition("NOTES:")[2].split())

    assert "kube-prometheus-stack as it comes reads only" in notes()
    assert "kube-prometheus-stack" not in notes("monitoring.labels.release=kps")


# Alerts


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_what_is_wrong_and_how_bad_it_is(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"DSPy[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert len(rule["annotations"]["summary"]) <= 80
    assert rule["annotations"]["summary"] != rule["annotations"]["description"]
    assert named(rule["expr"]), "an alert looks at a metric"
    assert named(rule["expr"]) <= exported()


@needs_helm
def test_a_rendered_alert_points_to_its_page() -> None:
    base = "monitoring.runbookBaseUrl=https://example.com/r/"
    route = "monitoring.prometheusRule.alertLabels.team=ml"
    found = render(RULE, base, route)["PrometheusRule/dspy-operator"]["spec"]["groups"]
    rules = [rule for group in found for rule in group["rules"]]

    assert [r["alert"] for r in rules] == NAMES
    for rule in rules:
        page = f"https://example.com/r/{rule['alert']}.md"
        assert rule["annotations"]["runbook_url"] == page
        assert rule["labels"]["team"] == "ml"


@needs_helm
def test_as_it_comes_an_alert_names_the_page_in_this_repository() -> None:
    found = render(RULE)["PrometheusRule/dspy-operator"]["spec"]["groups"]

    for rule in (rule for group in found for rule in group["rules"]):
        assert (ROOT / rule["annotations"]["runbook_url"]).is_file()


@needs_helm
def test_alerts_can_be_left_out_and_groups_added() -> None:
    prefix = "monitoring.prometheusRule"
    group = (f"{prefix}.extraGroups[0].name=mine", f"{prefix}.extraGroups[0].rules[0].alert=Mine")
    found = render(RULE, f"{prefix}.disabled={{DSPyOperatorPanics}}", *group)
    groups = found["PrometheusRule/dspy-operator"]["spec"]["groups"]

    assert "DSPyOperatorPanics" not in str(groups)
    assert groups[-1]["rules"] == [{"alert": "Mine"}]


@needs_helm
def test_operators_that_only_observe_are_not_missed_as_leaders() -> None:
    assert "DSPyOperatorNoLeader" in str(render(RULE)["PrometheusRule/dspy-operator"])
    observing = render(RULE, "observeOnly=true")["PrometheusRule/dspy-operator"]
    assert "DSPyOperatorNoLeader" not in str(observing)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert list(CASES) == NAMES
    assert all(set(case) == {"fires", "quiet"} for case in CASES.values())


@pytest.fixture(scope="module")
def rule_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the rendered rules as Prometheus gets them from its operator."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(render(RULE)["PrometheusRule/dspy-operator"]["spec"]))
    return path


@needs_helm
@needs_promtool
def test_promtool_reads_the_rules(rule_file: Path) -> None:
    assert alerting.promtool("check", "rules", rule_file) == ""


@needs_helm
@needs_promtool
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["fires", "quiet"])
def test_an_alert_fires_when_it_should_and_only_then(name: str, case: str, rule_file: Path) -> None:
    assert alerting.complaint(rule_file, name, CASES[name][case]) == ""


# Dashboards


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_a_dashboard_works_in_any_grafana(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    variables = {v["name"]: v for v in dashboard["templating"]["list"]}

    assert dashboard["uid"] == path.stem, "links keep working after an update"
    assert dashboard["editable"] is False, "the chart would overwrite changes"
    assert variables["datasource"]["type"] == "datasource"
    assert {"job", "instance"} <= set(variables)
    for name in set(variables) - {"datasource"}:
        assert variables[name]["query"]["query"].startswith("label_values(")
        assert variables[name]["refresh"] == 2, "new values show with the time range"
    sources = [p["datasource"] for p in panels(dashboard)]
    sources += [t["datasource"] for p in panels(dashboard) for t in p["targets"]]
    assert {s["uid"] for s in sources} == {"${datasource}"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_every_panel_says_what_it_shows(path: Path) -> None:
    found = list(panels(json.loads(path.read_text())))

    assert len(found) >= 10
    assert len({p["title"] for p in found}) == len(found)
    assert len({p["id"] for p in found}) == len(found)
    for panel in found:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, place["y"] + row) for x in columns for row in range(place["h"])}
        assert max(columns) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_a_dashboard_asks_only_for_what_the_operator_exports(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    queries = [v["query"] for v in dashboard["templating"]["list"] if v["name"] != "datasource"]
    asked = [*expressions(dashboard), *(query["query"] for query in queries)]

    for expression in asked:
        assert named(expression), expression
        assert named(expression) <= exported(), expression
    for expression in expressions(dashboard):
        assert 'job=~"$job", instance=~"$instance"' in expression
        assert "rate(" not in expression or "[$__rate_interval]" in expression


@needs_promtool
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_promtool_reads_every_query_of_a_dashboard(path: Path, tmp_path: Path) -> None:
    found = expressions(json.loads(path.read_text()))
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(found)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert alerting.promtool("check", "rules", file) == ""


@needs_helm
def test_dashboards_carry_the_labels_by_which_grafana_finds_them() -> None:
    prefix = "monitoring.dashboards"
    settings = (f"{prefix}.enabled=true", f"{prefix}.namespace=grafana", f"{prefix}.labels.a=x")
    found = render(*settings)["ConfigMap/dspy-operator-dashboards"]

    assert found["metadata"]["namespace"] == "grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["labels"]["a"] == "x"
    assert {name: json.loads(text) for name, text in found["data"].items()} == {
        path.name: json.loads(path.read_text()) for path in DASHBOARDS
    }
