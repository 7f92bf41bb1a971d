"""Autoscaling, the throttled provider and drains in a real cluster with real metrics."""

import copy
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.access import Access
from devcluster.apps import Apps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TEXT = {"text": "I was charged twice for my subscription this month"}
REFUSE = {"kind": "status", "status": 429, "retry_after_seconds": 0}


@pytest.fixture(scope="module")
def here(operator_installed: Access) -> Iterator[Apps]:
    """One namespace with the practice LM and an app that an autoscaler may scale."""
    name = operator_installed.create_namespace("scaling")
    apps = Apps(cluster=operator_installed, namespace=name)
    apps.start_practice_lm()
    apps.apply(scaled())
    apps.wait_ready("tickets")
    yield apps
    operator_installed.delete_namespace(name)


def scaled() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "examples/tickets/app.yaml").read_text())
    app = copy.deepcopy(next(d for d in documents if d["kind"] == "DSPyApp"))
    autoscaling = {"minReplicas": 1, "maxReplicas": 3, "cpuPercent": 400}
    app["spec"]["serving"] = {"autoscaling": autoscaling}
    app["spec"]["models"][0]["maxRetries"] = 0
    return app


def set_faults(here: Apps, *faults: dict[str, Any]) -> None:
    with here.forward("practice-lm") as url:
        body = json.dumps({"faults": list(faults)}).encode()
        request = urllib.request.Request(f"{url}/control/faults", body, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status < 300


def policy(here: Apps) -> str:
    found = here.get("horizontalpodautoscaler", "tickets")
    return str(found["spec"]["behavior"]["scaleUp"]["selectPolicy"])


def test_the_autoscaler_works_with_the_clusters_own_metrics(here: Apps) -> None:
    found = here.wait("tickets", "AutoscalingReady", "True", "ScalingActive", seconds=180)

    assert "decides about the number of pods" in found["message"]
    assert "replicas" not in owned_fields(here), "the operator leaves the number to the autoscaler"


def owned_fields(here: Apps) -> dict[str, Any]:
    """Return the fields of the Deployment's spec that the operator's applies own."""
    arguments = ("get", "deployment", "tickets", "--output=json", "--show-managed-fields")
    managers = json.loads(here.kubectl(*arguments))["metadata"]["managedFields"]
    (ours,) = [m for m in managers if m["manager"] == "dspy-operator"]
    return {name.removeprefix("f:"): value for name, value in ours["fieldsV1"]["f:spec"].items()}


def test_scale_up_holds_while_the_provider_throttles(here: Apps) -> None:
    assert policy(here) == "Max"
    set_faults(here, REFUSE)
    here.start_load("tickets", TEXT, rate=5, seconds=30)
    found = here.wait("tickets", "ScaleUpHeld", "True", "ProviderThrottles", seconds=60)
    assert "more pods would not help" in found["message"]
    here.wait_until(lambda: policy(here) == "Disabled", "the autoscaler to be held")

    set_faults(here)
    here.finish_load()
    here.wait_until(lambda: policy(here) == "Max", "the hold to end", seconds=150)
    here.wait_until(lambda: not here.condition("tickets", "ScaleUpHeld"), "the condition to go")


def test_a_drain_may_take_the_only_pod(here: Apps) -> None:
    budget = here.get("poddisruptionbudget", "tickets")
    assert budget["spec"]["maxUnavailable"] == 1
    here.wait_ready("tickets")
    (pod,) = here.names("pods", "tickets")
    name = pod.removeprefix("pod/")
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": here.namespace},
    }
    path = f"/api/v1/namespaces/{here.namespace}/pods/{name}/eviction"
    here.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))

    here.wait_until(lambda: pod not in here.names("pods", "tickets"), "the pod to go", seconds=120)
    here.wait_ready("tickets")
