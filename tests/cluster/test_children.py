"""Every child that an app can have, against a real API server with the real CRDs of others."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import definitions
from devcluster.layout import Layout
from devcluster.light import LightCluster
from devcluster.progress import Progress
from tests.cluster.operator_world import Operator, World, app, until

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(240)]

HPA = {"minReplicas": 2, "maxReplicas": 30, "cpuPercent": 70}
KEDA = {
    "type": "ScaledObject",
    "minReplicas": 0,
    "maxReplicas": 30,
    "inFlightRequests": 20,
    "prometheusAddress": "http://prometheus.monitoring.svc:9090",
}
EVERYTHING: dict[str, Any] = {
    "serving": {
        "replicas": 2,
        "maxUnavailable": "50%",
        "autoscaling": HPA,
        "cacheVolume": {"size": "1Gi", "accessMode": "ReadWriteMany"},
    },
    "network": {
        "service": {"type": "ClusterIP"},
        "ingress": {"host": "tickets.example.com", "tlsSecretName": "cert"},
        "httpRoute": {"parentRefs": [{"name": "gate"}], "hostnames": ["tickets.example.com"]},
        "policy": {"from": ["ingress"], "egress": [{"cidr": "10.0.0.0/8", "ports": [5432]}]},
    },
    "monitoring": {"serviceMonitor": {}, "rules": {}, "dashboard": {"labels": {"team": "nlp"}}},
}
OTHERS = "httproutes,servicemonitors,prometheusrules,scaledobjects"
NAMED = {
    "ConfigMap/tickets-dashboard",
    "HTTPRoute/tickets",
    "HorizontalPodAutoscaler/tickets",
    "Ingress/tickets",
    "NetworkPolicy/tickets",
    "PersistentVolumeClaim/tickets-cache",
    "PodDisruptionBudget/tickets",
    "PrometheusRule/tickets",
    "Service/tickets-metrics",
    "ServiceMonitor/tickets",
}


def crd(kind: str) -> Path:
    return definitions.find(Layout.of_checkout(), Progress(quiet=True), kind)


@pytest.fixture(scope="module")
def others(light_cluster: LightCluster) -> Iterator[None]:
    """Install the CRDs of the other projects while the operator runs."""
    files = [f"--filename={crd(kind)}" for kind in sorted(definitions.DEFINITIONS)]
    light_cluster.access.kubectl("apply", "--server-side", *files)
    light_cluster.access.kubectl("wait", "--for=condition=Established", "--timeout=60s", *files)
    yield
    light_cluster.access.kubectl("delete", "--wait=false", *files)


@pytest.fixture(scope="module")
def full(operator: Operator, others: None) -> Operator:
    """Return the operator once it has noticed the CRDs, which came after its start."""
    until(lambda: "ScaledObject" in served(operator), "the kinds to be noticed", 60)
    return operator


def served(operator: Operator) -> str:
    lines = [x for x in operator.log.read_text().splitlines() if "optional kinds" in x]
    return lines[-1] if lines else ""


def children(world: World) -> set[str]:
    """Return the names of everything that carries the app's label, by kind."""
    kinds = (
        "configmaps,services,deployments,persistentvolumeclaims,ingresses,networkpolicies,"
        f"poddisruptionbudgets,horizontalpodautoscalers,{OTHERS}"
    )
    selector = "--selector=dspy-operator.io/app=tickets"
    found = json.loads(world.kubectl("get", kinds, selector, "--output=json"))["items"]
    return {f"{x['kind']}/{x['metadata']['name']}" for x in found}


def replicas(world: World) -> int:
    found: int = world.get("deployment", "tickets")["spec"]["replicas"]
    return found


def has(world: World, kind: str) -> bool:
    return bool(world.names(kind))


def test_every_child_is_made_admitted_settled_and_pruned(world: World, full: Operator) -> None:
    world.serve(app(**EVERYTHING))
    until(lambda: children(world) >= NAMED, "all children")
    world.kubectl("diff", "--filename=-", stdin=json.dumps(app(**EVERYTHING)))
    world.wait_reason("FailedGetResourceMetric", kind="AutoscalingReady", seconds=60)

    start = world.marker()
    world.patch("ingress", "tickets", {"metadata": {"labels": {"x": "y"}}})
    world.patch("deployment", "tickets", {"metadata": {"labels": {"x": "y"}}})
    time.sleep(2)
    assert world.writes(start) == [], "what others add is theirs, and nothing is applied twice"

    world.apply(app())
    until(lambda: not children(world) & (NAMED - {"PodDisruptionBudget/tickets"}), "pruning")


def test_a_restart_with_all_kinds_writes_nothing(world: World, full: Operator) -> None:
    world.serve(app(**EVERYTHING))
    until(lambda: children(world) >= NAMED, "all children")
    world.wait_reason("FailedGetResourceMetric", kind="AutoscalingReady", seconds=60)
    start = world.marker()
    full.stop()
    full.start()
    world.patch("dspyapp", "tickets", {"metadata": {"labels": {"look": "again"}}})
    until(lambda: full.metric("dspy_operator_reconcile_total") > 1, "a look")

    assert world.writes(start) == []


def watch_replicas(world: World, change: dict[str, Any], until_true: Any, what: str) -> set[int]:  # noqa: ANN401 - a predicate
    """Change an app and return every number of replicas that was seen on the way."""
    seen: set[int] = set()
    world.apply(change)

    def look() -> bool:
        seen.add(replicas(world))
        return bool(until_true())

    until(look, what, 30)
    seen.add(replicas(world))
    return seen


def test_twenty_pods_are_handed_over_without_a_wrong_number(world: World, full: Operator) -> None:
    fixed = {"serving": {"replicas": 20}}
    by_hpa = {"serving": {"replicas": 20, "autoscaling": HPA}}
    by_keda = {"serving": {"replicas": 20, "autoscaling": KEDA}}
    world.apply(app(**fixed))
    until(lambda: has(world, "deployments") and replicas(world) == 20, "20 pods")

    def to(change: dict[str, Any], kind: str, other: str) -> set[int]:
        return watch_replicas(
            world, app(**change), lambda: has(world, kind) and not has(world, other), kind
        )

    seen = to(by_hpa, "horizontalpodautoscalers", "scaledobjects")
    seen |= to(by_keda, "scaledobjects", "horizontalpodautoscalers")
    seen |= to(by_hpa, "horizontalpodautoscalers", "scaledobjects")
    world.apply(app(serving={"replicas": 20}))
    until(lambda: not has(world, "horizontalpodautoscalers"), "the autoscaler to go")
    world.patch("dspyapp", "tickets", {"spec": {"serving": {"replicas": 21}}})
    until(lambda: replicas(world) == 21, "the spec to decide again")

    assert seen == {20}


def test_two_autoscalers_never_exist_together(world: World, full: Operator) -> None:
    """KEDA is played by this test: its finalizer and its own HorizontalPodAutoscaler."""
    world.apply(app(serving={"autoscaling": KEDA}))
    until(lambda: has(world, "scaledobjects"), "the ScaledObject")
    scaled = world.get("scaledobject", "tickets")
    world.patch("scaledobject", "tickets", {"metadata": {"finalizers": ["finalizer.keda.sh"]}})
    world.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": "keda-hpa-tickets",
                "labels": scaled["metadata"]["labels"],
                "ownerReferences": [
                    {
                        "apiVersion": "keda.sh/v1alpha1",
                        "kind": "ScaledObject",
                        "name": "tickets",
                        "uid": scaled["metadata"]["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"},
                "maxReplicas": 3,
            },
        }
    )
    world.apply(app(serving={"autoscaling": HPA}))
    until(lambda: "deletionTimestamp" in scaled_metadata(world), "the deletion to begin")
    world.patch("dspyapp", "tickets", {"metadata": {"labels": {"look": "again"}}})
    until(lambda: world.condition("AutoscalingReady").get("observedGeneration"), "a status")
    assert world.names("horizontalpodautoscalers") == [
        "horizontalpodautoscaler.autoscaling/keda-hpa-tickets"
    ]

    world.patch("scaledobject", "tickets", {"metadata": {"finalizers": None}})
    ours = ["horizontalpodautoscaler.autoscaling/tickets"]
    until(lambda: world.names("horizontalpodautoscalers") == ours, "ours, when both are gone", 60)


def scaled_metadata(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.get("scaledobject", "tickets")["metadata"]
    return found


def test_kubectl_scale_works_on_the_app(world: World, operator: Operator) -> None:
    world.serve(app())
    world.kubectl("scale", "dspyapp/tickets", "--replicas=5")
    until(lambda: replicas(world) == 5, "five pods")
    status = world.get("dspyapp", "tickets")["status"]
    assert status["selector"] == "dspy-operator.io/app=tickets"

    world.play_kubelet()
    shown = ["get", "dspyapp", "tickets", "--no-headers"]
    until(
        lambda: world.kubectl(*shown).split()[1:5] == ["True", "Serving", "5", "5"],
        "five pods in the columns; the app is Serving all the time",
    )


def test_an_autoscaler_that_cannot_measure_is_told(world: World, operator: Operator) -> None:
    world.serve(app(serving={"autoscaling": HPA}))

    found = world.wait_reason("FailedGetResourceMetric", kind="AutoscalingReady")
    assert found["status"] == "False"
    assert "kubectl describe" in found["message"]


def test_pod_metrics_without_their_api_are_told(world: World, operator: Operator) -> None:
    world.serve(app(serving={"autoscaling": {"maxReplicas": 3, "inFlightRequests": 10}}))

    found = world.wait_reason("NoMetricsAPI", kind="AutoscalingReady")
    assert "custom.metrics.k8s.io" in found["message"]
    assert not has(world, "horizontalpodautoscalers")


def test_a_kind_may_go_and_come_back(world: World, full: Operator) -> None:
    world.serve(app(monitoring={"rules": {}}))
    until(lambda: "PrometheusRule/tickets" in children(world), "the rule")
    file = f"--filename={crd('PrometheusRule')}"

    world.access.kubectl("delete", file)
    found = world.wait_reason("NotServed", kind="KindsMissing", seconds=60)
    assert "PrometheusRule" in found["message"]
    assert world.condition("Ready")["status"] == "True"

    world.access.kubectl("apply", "--server-side", file)
    world.access.kubectl("wait", "--for=condition=Established", file)
    until(lambda: has(world, "prometheusrules"), "the rule to come back", 60)
    until(lambda: not world.condition("KindsMissing"), "the condition to go")
