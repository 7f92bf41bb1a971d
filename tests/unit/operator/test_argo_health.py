"""The health check for Argo CD against kstatus, on versions of apps that a real cluster had."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import kstatus

ROOT = Path(__file__).parents[3]
RECORDS = [
    json.loads(line)
    for line in (ROOT / "tests/records/dspyapps.jsonl").read_text(encoding="utf-8").splitlines()
]


def live(*conditions: tuple[str, str], observed: int = 2, **spec: object) -> dict[str, Any]:
    shown = [
        {"type": kind, "status": status, "reason": "Because", "message": "So."}
        for kind, status in conditions
    ]
    status = {"observedGeneration": observed, "conditions": shown}
    return {"metadata": {"generation": 2}, "spec": spec, "status": status}


@pytest.mark.parametrize("story", sorted({r["story"] for r in RECORDS}))
def test_argo_cd_says_what_kstatus_says_on_every_record(story: str) -> None:
    versions = [r["object"] for r in RECORDS if r["story"] == story]

    assert [kstatus.health(v)[0] for v in versions] == list(map(kstatus.expected_health, versions))


def test_the_records_show_every_verdict_of_both() -> None:
    """Else the comparison above would prove little."""
    versions = [r["object"] for r in RECORDS]
    pairs = {(kstatus.verdict(v), kstatus.health(v)[0]) for v in versions}

    assert pairs == {
        ("InProgress", "Progressing"),
        ("InProgress", "Suspended"),
        ("Current", "Healthy"),
        ("Failed", "Degraded"),
        ("Terminating", "Progressing"),
    }


@pytest.mark.parametrize(
    ("app", "health", "verdict"),
    [
        pytest.param(live(("Ready", "True")), "Healthy", "Current", id="ready"),
        pytest.param(live(("Ready", "False")), "Progressing", "InProgress",
                     id="neither reconciling nor stalled"),
        pytest.param(live(("Ready", "Unknown")), "Progressing", "InProgress", id="unknown"),
        pytest.param(live(("Ready", "True"), observed=1), "Progressing", "InProgress",
                     id="ready for an older spec"),
        pytest.param(live(("Stalled", "True"), ("Ready", "False"), observed=1), "Progressing",
                     "InProgress", id="stalled by an older spec"),
        pytest.param(live(("Stalled", "True"), ("Ready", "True")), "Degraded", "Failed",
                     id="stalled while older pods answer"),
        pytest.param(live(("Stalled", "True"), ("Reconciling", "True")), "Progressing",
                     "InProgress", id="reconciling comes before stalled"),
        pytest.param(live(("Reconciling", "False"), ("Stalled", "False"), ("Ready", "True")),
                     "Healthy", "Current", id="false is as good as absent"),
        pytest.param(live(("Ready", "True"), ("Paused", "True"), observed=1, paused=True),
                     "Suspended", "InProgress", id="paused"),
        pytest.param(live(("Ready", "True"), ("Paused", "True"), observed=1), "Progressing",
                     "InProgress", id="no longer paused, and not yet seen"),
        pytest.param(live(("Ready", "True"), observed=1, paused=True), "Progressing",
                     "InProgress", id="paused, and not yet seen"),
        pytest.param({**live(("Ready", "True")),
                      "metadata": {"generation": 2, "deletionTimestamp": "2026-01-01T12:00:00Z"}},
                     "Progressing", "Terminating", id="going"),
    ],
)  # fmt: skip
def test_argo_cd_and_kstatus_agree(app: dict[str, Any], health: str, verdict: str) -> None:
    assert (kstatus.health(app)[0], kstatus.verdict(app)) == (health, verdict)
    assert kstatus.expected_health(app) == health


def test_a_new_app_is_progressing_for_both_before_the_operator_sees_it() -> None:
    """Without a status kstatus would say Current; the CRD's default keeps it from that."""
    crd = yaml.safe_load((ROOT / "crds/dspyapps.yaml").read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    new = {"metadata": {"generation": 1}, "spec": {}, "status": schema["status"]["default"]}

    assert (kstatus.health(new)[0], kstatus.verdict(new)) == ("Progressing", "InProgress")
    assert kstatus.health({"metadata": {"generation": 1}, "spec": {}})[0] == "Progressing"


def test_the_message_tells_reason_and_sentence() -> None:
    assert kstatus.health(live(("Stalled", "True"), ("Ready", "False")))[1] == "Because: So."


def test_the_readme_shows_the_script_as_it_is() -> None:
    readme = (ROOT / "deploy/argocd/README.md").read_text(encoding="utf-8")
    block = readme.partition("```yaml\n")[2].partition("```")[0]
    shown = yaml.safe_load(block)["data"]

    key = "resource.customizations.health.dspy-operator.io_DSPyApp"
    assert shown == {key: kstatus.LUA.read_text(encoding="utf-8")}
