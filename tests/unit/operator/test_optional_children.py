"""The children that an app may go without: when they are rendered, and what they say."""

import ipaddress
import itertools
import json
from typing import Any

import pytest
from promql_parser import parse

from dspy_operator.core import app as app_spec
from dspy_operator.core import names, render
from dspy_operator.core.manifest import Manifest, Ref, ref_of
from dspy_operator.core.render import OPTIONAL_KINDS, Installation, scaling
from dspy_worker.edge import telemetry
from dspy_worker.store.telemetry import StoreMetrics
from tests.unit.operator import fakes

Spec = dict[str, Any]
HPA: Spec = {"maxReplicas": 9, "minReplicas": 2, "cpuPercent": 70}
KEDA: Spec = {
    "type": "ScaledObject",
    "maxReplicas": 9,
    "minReplicas": 0,
    "inFlightRequests": 20,
    "prometheusAddress": "http://prometheus.monitoring.svc:9090",
}
AROUND = Installation(
    namespace="dspy-system",
    monitoring=("monitoring",),
    monitor_labels={"release": "prometheus"},
    dashboard_labels={"grafana_dashboard": "1"},
    runbooks="https://runbooks.example.com",
)


def app(*, serving: Spec | None = None, **spec: object) -> app_spec.App:
    live = fakes.app(serving=serving or {}, **spec)
    live["metadata"] |= {"uid": "u-1", "generation": 1}
    return app_spec.parse(live, default_image="worker:1")


def children(made: app_spec.App, **setting: Any) -> dict[str, Manifest]:  # noqa: ANN401 - a table
    given = {"token": "t", "source_digest": "", "installation": AROUND, "served": OPTIONAL_KINDS}
    found = render.children(made, render.Setting(**{**given, **setting}))
    return {f"{c['kind']}/{c['metadata']['name']}": c for c in found}


def scaled(autoscaling: Spec, **setting: Any) -> dict[str, Manifest]:  # noqa: ANN401 - a table
    return children(app(serving={"autoscaling": autoscaling}), **setting)


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        ({}, set()),
        ({"serving": {"autoscaling": HPA}}, {"HorizontalPodAutoscaler/qa"}),
        ({"serving": {"autoscaling": KEDA}}, {"ScaledObject/qa"}),
        ({"serving": {"cacheVolume": {"size": "1Gi"}}}, {"PersistentVolumeClaim/qa-cache"}),
        ({"network": {"policy": {}}}, {"NetworkPolicy/qa"}),
        ({"network": {"ingress": {"host": "qa.example.com"}}}, {"Ingress/qa"}),
        ({"network": {"httpRoute": {"parentRefs": [{"name": "gate"}]}}}, {"HTTPRoute/qa"}),
        ({"monitoring": {"serviceMonitor": {}}}, {"Service/qa-metrics", "ServiceMonitor/qa"}),
        ({"monitoring": {"rules": {}}}, {"PrometheusRule/qa"}),
        ({"monitoring": {"dashboard": {}}}, {"ConfigMap/qa-dashboard"}),
    ],
)
def test_each_field_makes_its_children_and_no_others(spec: Spec, made: set[str]) -> None:
    assert set(children(app(**spec))) - set(children(app())) == made


def test_a_kind_that_is_not_served_is_left_out_and_named() -> None:
    wanted = app(
        serving={"autoscaling": KEDA},
        network={"httpRoute": {"parentRefs": [{"name": "gate"}]}},
        monitoring={"serviceMonitor": {}, "rules": {}},
    )
    bare = render.Setting(token="t", source_digest="", served=frozenset({"HTTPRoute"}))

    assert "ScaledObject/qa" not in children(wanted, served=bare.served)
    assert "HTTPRoute/qa" in children(wanted, served=bare.served)
    assert render.missing_kinds(render.refs(wanted), bare.served) == (
        "PrometheusRule",
        "ScaledObject",
        "ServiceMonitor",
    )
    assert Ref("ScaledObject", fakes.NAMESPACE, "qa") in render.refs(wanted)


@pytest.mark.parametrize(
    "spec",
    [
        {"serving": {"autoscaling": KEDA, "cacheVolume": {"size": "1Gi"}}},
        {"serving": {"autoscaling": HPA}, "network": {"policy": {}}},
        {"network": {"ingress": {"host": "q.io"}, "httpRoute": {"parentRefs": [{"name": "g"}]}}},
        {"monitoring": {"serviceMonitor": {}, "rules": {}, "dashboard": {}}},
    ],
)
def test_what_belongs_to_an_app_is_what_can_be_rendered_for_it(spec: Spec) -> None:
    wanted = app(**spec)
    everything = render.Setting(
        token="t", source_digest="", served=OPTIONAL_KINDS, pod_metrics=True
    )

    rendered = {ref_of(child) for child in render.children(wanted, everything)}

    assert render.refs(wanted) == rendered


def test_replicas_are_sent_only_while_the_spec_decides() -> None:
    fixed = children(app(serving={"replicas": 4}))["Deployment/qa"]
    leaving = children(app(serving={"replicas": 4}), old_scaler=True)["Deployment/qa"]
    by_hpa = scaled(HPA)["Deployment/qa"]

    assert fixed["spec"]["replicas"] == 4
    assert fixed["metadata"]["annotations"][names.SCALED_BY] == "Spec"
    for other in (leaving, by_hpa):
        assert "replicas" not in other["spec"]
        assert other["metadata"]["annotations"][names.SCALED_BY] == "Autoscaler"


@pytest.mark.parametrize(
    ("autoscaling", "live", "old"),
    [
        (None, [], False),
        (None, ["HorizontalPodAutoscaler/qa"], True),
        (None, ["ScaledObject/qa"], True),
        (None, ["HorizontalPodAutoscaler/keda-hpa-qa"], True),
        (HPA, ["HorizontalPodAutoscaler/qa"], False),
        (HPA, ["ScaledObject/qa", "HorizontalPodAutoscaler/keda-hpa-qa"], True),
        (HPA, ["HorizontalPodAutoscaler/keda-hpa-qa"], True),
        (KEDA, ["HorizontalPodAutoscaler/qa"], True),
        (KEDA, ["ScaledObject/qa", "HorizontalPodAutoscaler/keda-hpa-qa"], False),
    ],
)
def test_an_old_autoscaler_is_told_from_the_wanted_one(
    autoscaling: Spec | None, live: list[str], *, old: bool
) -> None:
    made = app(serving={"autoscaling": autoscaling} if autoscaling else {})
    refs = [Ref(kind, fakes.NAMESPACE, name) for kind, name in (x.split("/") for x in live)]

    assert scaling.has_old_scaler(made, refs) is old


def test_no_autoscaler_is_rendered_while_the_old_one_is_there() -> None:
    for wanted in (HPA, KEDA):
        made = scaled(wanted, old_scaler=True)
        assert not {"HorizontalPodAutoscaler/qa", "ScaledObject/qa"} & set(made)


def test_an_hpa_asks_only_for_metrics_that_the_cluster_has() -> None:
    both: Spec = {**HPA, "inFlightRequests": 30}

    def metrics(*, pod_metrics: bool) -> list[str]:
        found = scaled(both, pod_metrics=pod_metrics)["HorizontalPodAutoscaler/qa"]
        return [m["type"] for m in found["spec"]["metrics"]]

    assert metrics(pod_metrics=False) == ["Resource"]
    assert metrics(pod_metrics=True) == ["Resource", "Pods"]
    only_pods: Spec = {"maxReplicas": 3, "inFlightRequests": 30}
    assert "HorizontalPodAutoscaler/qa" not in scaled(only_pods, pod_metrics=False)


@pytest.mark.parametrize(
    ("wanted", "kind"), [(HPA, "HorizontalPodAutoscaler/qa"), (KEDA, "ScaledObject/qa")]
)
def test_scale_up_holds_while_the_provider_throttles(wanted: Spec, kind: str) -> None:
    assert not scaling.is_held(scaled(wanted)[kind])
    assert scaling.is_held(scaled(wanted, throttled=True)[kind])
    assert not scaling.is_held(scaled({**wanted, "whileThrottled": "Scale"}, throttled=True)[kind])


def test_a_scaled_object_keeps_its_pods_while_prometheus_is_away() -> None:
    spec = scaled(KEDA)["ScaledObject/qa"]["spec"]

    assert spec["fallback"]["behavior"] == "currentReplicas"
    assert spec["advanced"]["restoreToOriginalReplicaCount"] is False
    (trigger,) = spec["triggers"]
    assert parse(trigger["metadata"]["query"])
    assert telemetry.IN_FLIGHT in trigger["metadata"]["query"]


def test_a_budget_never_blocks_a_drain() -> None:
    for replicas, wish in itertools.product((0, 1, 5), (1, 3, "25%")):
        made = app(serving={"replicas": replicas, "maxUnavailable": wish})
        spec = children(made)["PodDisruptionBudget/qa"]["spec"]
        assert spec["maxUnavailable"] == wish
        assert "minAvailable" not in spec
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_volume_of_one_node_is_never_wanted_by_two_pods_at_once() -> None:
    def rolling(mode: str) -> Manifest:
        made = children(app(serving={"cacheVolume": {"size": "1Gi", "accessMode": mode}}))
        found: Manifest = made["Deployment/qa"]["spec"]["strategy"]["rollingUpdate"]
        return found

    assert rolling("ReadWriteOnce") == {"maxUnavailable": 1, "maxSurge": 0}
    assert rolling("ReadWriteMany") == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_cache_volume_is_where_caches_go() -> None:
    made = children(app(serving={"cacheVolume": {"size": "1Gi"}}))
    pod = made["Deployment/qa"]["spec"]["template"]["spec"]

    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "qa-cache"}} in pod["volumes"]
    variables = {v["name"]: v["value"] for v in pod["containers"][0]["env"]}
    assert variables["XDG_CACHE_HOME"] == "/var/cache/dspy-worker"


# A NetworkPolicy is tested by asking it: may this peer reach that one?


def allows(rules: list[Manifest], key: str, peer: Spec, port: int | str, protocol: str) -> bool:
    """Evaluate NetworkPolicy rules as the API describes them, for what we render."""
    return any(
        _port_matches(rule, port, protocol) and _peer_matches(rule.get(key), peer) for rule in rules
    )


def _port_matches(rule: Manifest, port: int | str, protocol: str) -> bool:
    ports = rule.get("ports")
    return ports is None or {"port": port, "protocol": protocol} in ports


def _peer_matches(peers: list[Manifest] | None, peer: Spec) -> bool:
    return peers is None or any(_one_matches(candidate, peer) for candidate in peers)


def _one_matches(candidate: Manifest, peer: Spec) -> bool:
    if "ipBlock" in candidate:
        return "ip" in peer and _in_block(candidate["ipBlock"], peer["ip"])
    if "namespace" not in peer:
        return False
    wanted = candidate.get("namespaceSelector", {}).get("matchLabels", {})
    namespace = wanted.get("kubernetes.io/metadata.name", fakes.NAMESPACE)
    labels = candidate.get("podSelector", {}).get("matchLabels", {})
    return bool(namespace == peer["namespace"] and labels.items() <= peer.get("labels", {}).items())


def _in_block(block: Manifest, ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    holes = block.get("except", [])
    return address in ipaddress.ip_network(block["cidr"]) and not any(
        address in ipaddress.ip_network(hole) for hole in holes
    )


def policy(endpoint: str = "https://lm.example.com/v1", **wish: object) -> Manifest:
    model = {"name": "main", "model": "m", "endpoint": endpoint}
    made = children(app(models=[model], network={"policy": wish}))
    found: Manifest = made["NetworkPolicy/qa"]["spec"]
    return found


OPERATOR = {"namespace": "dspy-system", "labels": {"app.kubernetes.io/name": "dspy-operator"}}


@pytest.mark.parametrize(
    ("peer", "port", "allowed"),
    [
        ({"namespace": fakes.NAMESPACE}, "http", True),
        ({"namespace": "ingress"}, "http", True),
        ({"namespace": "other"}, "http", False),
        ({"ip": "203.0.113.7"}, "http", False),
        (OPERATOR, "ops", True),
        (OPERATOR, "http", False),
        ({"namespace": "dspy-system"}, "ops", False),
        ({"namespace": "monitoring"}, "ops", True),
        ({"namespace": fakes.NAMESPACE}, "ops", False),
    ],
)
def test_who_may_reach_the_pods(peer: Spec, port: str, *, allowed: bool) -> None:
    spec = policy(**{"from": ["ingress"]})

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert allows(spec["ingress"], "from", peer, port, "TCP") is allowed


@pytest.mark.parametrize(
    ("endpoint", "peer", "port", "allowed"),
    [
        ("https://lm.example.com/v1", {"ip": "203.0.113.7"}, 443, True),
        ("https://lm.example.com/v1", {"ip": "2001:db8::7"}, 443, True),
        ("https://lm.example.com/v1", {"ip": "203.0.113.7"}, 80, False),
        ("https://lm.example.com:8443/v1", {"ip": "203.0.113.7"}, 8443, True),
        ("https://lm.example.com/v1", {"ip": "169.254.169.254"}, 443, False),
        ("http://169.254.169.254/v1", {"ip": "169.254.169.254"}, 80, True),
        ("http://10.0.0.8:8000/v1", {"ip": "10.0.0.8"}, 8000, True),
        ("http://10.0.0.8:8000/v1", {"ip": "10.0.0.9"}, 8000, False),
        ("http://[2001:db8::1]/v1", {"ip": "2001:db8::1"}, 80, True),
        ("http://lm/v1", {"namespace": fakes.NAMESPACE}, 8080, True),
        ("http://lm/v1", {"namespace": "models"}, 8080, False),
        ("http://lm.models.svc:80/v1", {"namespace": "models"}, 8080, True),
        ("http://lm.models.svc.cluster.local/v1", {"namespace": "models"}, 8080, True),
        ("http://lm.models.svc:80/v1", {"ip": "203.0.113.7"}, 80, False),
        ("http://lm.models/v1", {"namespace": "models"}, 8080, True),
        ("http://example.com/v1", {"ip": "203.0.113.7"}, 80, True),
    ],
)
def test_what_the_pods_may_reach(endpoint: str, peer: Spec, port: int, *, allowed: bool) -> None:
    assert allows(policy(endpoint)["egress"], "to", peer, port, "TCP") is allowed


def test_dns_is_allowed_and_what_the_app_names() -> None:
    rules = policy(
        egress=[{"cidr": "10.1.0.0/16", "ports": [5432]}, {"namespace": "redis"}],
    )["egress"]

    assert allows(rules, "to", {"ip": "10.96.0.10"}, 53, "UDP")
    assert allows(rules, "to", {"ip": "10.1.2.3"}, 5432, "TCP")
    assert not allows(rules, "to", {"ip": "10.1.2.3"}, 5433, "TCP")
    assert not allows(rules, "to", {"ip": "10.2.2.3"}, 5432, "TCP")
    assert allows(rules, "to", {"namespace": "redis"}, 6379, "TCP")


def test_a_policy_without_observers_leaves_the_ops_port_closed() -> None:
    made = children(app(network={"policy": {}}), installation=Installation())
    rules = made["NetworkPolicy/qa"]["spec"]["ingress"]

    assert not allows(rules, "from", OPERATOR, "ops", "TCP")


def test_routes_lead_to_the_service() -> None:
    made = children(
        app(
            network={
                "service": {"port": 81},
                "ingress": {"host": "qa.example.com", "tlsSecretName": "cert", "path": "/qa"},
                "httpRoute": {
                    "parentRefs": [{"name": "gate", "namespace": "edge"}],
                    "hostnames": ["qa.example.com"],
                },
            }
        )
    )
    ingress, route = made["Ingress/qa"]["spec"], made["HTTPRoute/qa"]["spec"]

    assert ingress["tls"] == [{"hosts": ["qa.example.com"], "secretName": "cert"}]
    (path,) = ingress["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "qa", "port": {"name": "http"}}
    assert path["path"] == "/qa"
    assert route["parentRefs"] == [{"name": "gate", "namespace": "edge"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "qa", "port": 81}]


def test_a_service_monitor_selects_the_metrics_service_and_carries_the_installations_labels() -> (
    None
):
    made = children(app(monitoring={"serviceMonitor": {"labels": {"team": "nlp"}}}))
    monitor, service = made["ServiceMonitor/qa"], made["Service/qa-metrics"]

    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert not selector.items() <= made["Service/qa"]["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["name"] == monitor["spec"]["endpoints"][0]["port"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["metadata"]["labels"]["team"] == "nlp"
    assert monitor["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER


def test_extra_labels_never_replace_ours() -> None:
    stolen = {names.MANAGED_BY: "me", names.APP_LABEL: "other"}
    made = children(app(monitoring={"rules": {"labels": stolen}}))["PrometheusRule/qa"]

    assert made["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER
    assert made["metadata"]["labels"][names.APP_LABEL] == "qa"


def exported() -> set[str]:
    """Return the names of all series that a worker exports."""
    text = telemetry.Metrics("qa")
    text.describe("1", "d")
    text.request("/v1/predict", 200, 0.1)
    text.lm_attempt("main", "ok", 0.1)
    text.lm_tokens("main", 1, 1)
    text.lm_circuit("main", lambda: False)
    text.degraded("fallback")
    StoreMetrics(text.registry)
    lines = text.render().decode().splitlines()
    return {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}


def metrics_of(expression: str) -> set[str]:
    """Return the names of the metrics in a PromQL expression; it must parse."""
    assert parse(expression)
    return {word for word in _words(expression) if word.startswith("dspy_")}


def _words(expression: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()


def alerts(**serving: object) -> list[Manifest]:
    made = children(app(serving=serving, monitoring={"rules": {"errorPercent": 7}}))
    found: list[Manifest] = made["PrometheusRule/qa"]["spec"]["groups"][0]["rules"]
    return found


def test_alerts_parse_name_real_metrics_and_lead_to_a_runbook() -> None:
    for alert in alerts():
        assert metrics_of(alert["expr"]) <= exported()
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"]
        url = alert["annotations"]["runbook_url"]
        assert url == f"https://runbooks.example.com/{alert['alert']}.md"


def test_an_app_that_may_have_no_pods_is_not_called_down() -> None:
    assert "DSPyAppDown" in {a["alert"] for a in alerts()}
    assert "DSPyAppDown" not in {a["alert"] for a in alerts(replicas=0)}
    assert "DSPyAppDown" not in {a["alert"] for a in alerts(autoscaling=KEDA)}


def test_the_dashboard_is_complete_and_asks_for_real_metrics() -> None:
    made = children(app(monitoring={"dashboard": {}}))["ConfigMap/qa-dashboard"]
    (text,) = made["data"].values()
    dashboard = json.loads(text)

    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len({p["id"] for p in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            assert metrics_of(expression) <= exported()
