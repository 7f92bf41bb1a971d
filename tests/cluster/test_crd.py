"""Every rule of the CRD by the real API server: one manifest it takes and one it refuses.

The message is asserted because a person reads it: it has to say what is wrong and what is right.
"""

import copy
import json
from typing import Any

import pytest
import yaml

from devcluster.errors import DevclusterError
from devcluster.layout import find_repository
from devcluster.light import LightCluster

pytestmark = [pytest.mark.api_server, pytest.mark.timeout(120)]

Changes = dict[str, Any]
FIELD: Changes = {"name": "label"}
MODEL: Changes = {"name": "main", "model": "m", "endpoint": "http://lm:8080/v1"}
SIGNATURE: Changes = {"inputs": [{"name": "text"}], "outputs": [FIELD]}
PYTHON: Changes = {"entrypoint": "shop.main:build"}
SOURCE: Changes = {"configMapRef": {"name": "shop"}}
REACT: Changes = {"type": "ReAct", "tools": ["shop:find"]}


def app(spec: Changes, name: str = "qa") -> dict[str, Any]:
    """Return a small correct app with parts of its spec replaced; None takes a part out."""
    whole = {"program": {"signature": SIGNATURE}, "models": [MODEL], **copy.deepcopy(spec)}
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyApp",
        "metadata": {"name": name},
        "spec": {k: v for k, v in whole.items() if v is not None},
    }


def declared(**program: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"program": {"signature": SIGNATURE, **program}}


def outputs(**field: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"program": {"signature": {**SIGNATURE, "outputs": [{**FIELD, **field}]}}}


def model(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"models": [{**MODEL, **changes}]}


def models(first: str, **changes: Any) -> Changes:  # noqa: ANN401 - JSON
    """Return two models, `first` with these fields and one that is called spare."""
    return {"models": [{**MODEL, "name": first, **changes}, {**MODEL, "name": "spare"}]}


def serving(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"serving": changes}


def resources(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"serving": {"resources": changes}}


def service(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"network": {"service": changes}}


def scaling(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    """Return an app with an autoscaler; None takes a part out."""
    whole = {"maxReplicas": 5, "cpuPercent": 70, **changes}
    return serving(autoscaling={k: v for k, v in whole.items() if v is not None})


def keda(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    given = {"type": "ScaledObject", "prometheusAddress": "http://prometheus:9090"}
    return scaling(**{**given, "inFlightRequests": 20, "cpuPercent": None, **changes})


def volume(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return serving(cacheVolume={"size": "1Gi", **changes})


def store(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"store": {"postgres": {"urlSecretRef": {"name": "db"}}, **changes}}


def budget(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    """Return an app with a budget, a Redis and a second model; None takes a part out."""
    given = {"name": "day", "limit": "5", **changes}
    redis = {"urlSecretRef": {"name": "redis"}}
    return {**models("main"), "redis": redis, "budgets": [given]}


def price(**changes: Any) -> Changes:  # noqa: ANN401 - JSON
    return model(price={"inputPerMillion": "0.15", "outputPerMillion": "0.6", **changes})


def egress(**entry: Any) -> Changes:  # noqa: ANN401 - JSON
    return {"network": {"policy": {"egress": [entry]}}}


@pytest.fixture(scope="module")
def namespace(light_cluster: LightCluster) -> str:
    return light_cluster.access.create_namespace("crd")


def try_out(cluster: LightCluster, namespace: str, manifest: dict[str, Any]) -> str:
    """Return the object as the API server would store it."""
    return cluster.access.kubectl(
        f"--namespace={namespace}", "create", "--dry-run=server", "--output=json", "--filename=-",
        stdin=json.dumps(manifest),
    )  # fmt: skip


RULES = [
    pytest.param(declared(), {"program": {}}, "exactly one of signature", id="no program"),
    pytest.param({"program": {"python": PYTHON}}, declared(python=PYTHON),
                 "exactly one of signature", id="two programs"),
    pytest.param(declared(module={"type": "Predict"}),
                 {"program": {"python": PYTHON, "module": {"type": "Predict"}}},
                 "program.module works only with program.signature", id="module"),
    pytest.param(declared(demos=[{"text": "a", "label": "b"}]),
                 {"program": {"python": PYTHON, "demos": [{"a": 1}]}},
                 "program.demos works only with program.signature", id="demos"),
    pytest.param({"program": {"python": PYTHON, "source": SOURCE}}, declared(source=SOURCE),
                 "program.source is used only by", id="source"),
    pytest.param(declared(module=REACT, source=SOURCE),
                 declared(module={"type": "Predict"}, source=SOURCE),
                 "program.source is used only by", id="source of tools"),
    pytest.param(outputs(name="why"),
                 {"program": {"signature": {**SIGNATURE, "outputs": [{"name": "reasoning"}]},
                              "module": {"type": "ChainOfThought"}}},
                 "'reasoning' is taken", id="reasoning"),
    pytest.param(outputs(name="other"), outputs(name="text"),
                 "in signature.inputs or in signature.outputs", id="a name on both sides"),
    pytest.param(declared(module=REACT), declared(module={"type": "ReAct"}),
                 "ReAct needs at least one entry", id="ReAct without tools"),
    pytest.param(declared(module={"type": "ChainOfThought"}),
                 declared(module={"type": "ChainOfThought", "tools": ["a:b"]}),
                 "the other types take none", id="tools without ReAct"),
    pytest.param(declared(module={**REACT, "maxIterations": 3}),
                 declared(module={"maxIterations": 3}),
                 "module.maxIterations works only", id="iterations"),
    pytest.param(model(endpoint="https://lm.example.com/v1"), model(endpoint="lm.example.com/v1"),
                 "must be an http or https URL", id="endpoint without scheme"),
    pytest.param(model(), model(endpoint="ftp://lm/v1"), "must be an http or https URL",
                 id="endpoint of another scheme"),
    pytest.param(models("main", fallback="spare"), models("main", fallback="other"),
                 "fallback must be the name of another entry", id="unknown fallback"),
    pytest.param(models("main", fallback="spare"), models("main", fallback="main"),
                 "a model cannot be its own fallback", id="own fallback"),
    pytest.param(budget(), {**budget(), "redis": None}, "need spec.redis", id="without Redis"),
    pytest.param({**budget(mode="Shadow"), "redis": None}, {**budget(), "redis": None},
                 "need spec.redis", id="shadow without Redis"),
    pytest.param(budget(softPercent=80, cheaperModel="spare"),
                 budget(softPercent=80, cheaperModel="other"),
                 "cheaperModel must be the name of an entry", id="unknown cheaper model"),
    pytest.param(budget(softPercent=80, cheaperModel="spare"),
                 budget(softPercent=80, cheaperModel="main"),
                 "cheaperModel must not be the first entry", id="cheaper is the first"),
    pytest.param(budget(softPercent=1, cheaperModel="spare"), budget(softPercent=1),
                 "go together: set both or none", id="soft limit alone"),
    pytest.param(budget(limit="0.01"), budget(limit="0.00"), "limit must be more than 0",
                 id="a budget of nothing"),
    pytest.param(serving(port=8443), serving(port=9090), "serving.port 9090 is taken", id="port"),
    pytest.param(serving(drainSeconds=90, timeoutSeconds=90),
                 serving(drainSeconds=30, timeoutSeconds=90),
                 "drainSeconds must be at least serving.timeoutSeconds", id="drain"),
    pytest.param(serving(timeoutSeconds=75), serving(timeoutSeconds=76),
                 "drainSeconds must be at least", id="timeout above the default drain"),
    pytest.param(resources(requests={"cpu": "100m"}, limits={"cpu": 1}),
                 resources(requests={"cpu": 2}, limits={"cpu": "1500m"}),
                 "requests must not be above", id="requests"),
    pytest.param(serving(env=[{"name": "HOME", "value": "/x"}]),
                 serving(env=[{"name": "DSPY_WORKER_X", "value": "1"}]),
                 "belong to the worker", id="reserved variable"),
    pytest.param({"paused": True, "pausedUntil": "2030-01-31T18:00:00Z"},
                 {"pausedUntil": "2030-01-31T18:00:00Z"},
                 "pausedUntil works only with paused: true", id="an end of no pause"),
    pytest.param(scaling(minReplicas=5), scaling(minReplicas=6),
                 "minReplicas must not be above", id="fewest above most"),
    pytest.param(keda(minReplicas=0), scaling(minReplicas=0),
                 "minReplicas 0 needs autoscaling.type ScaledObject", id="zero without KEDA"),
    pytest.param(scaling(memoryPercent=80), scaling(cpuPercent=None),
                 "autoscaling needs at least one target", id="no target"),
    pytest.param(keda(minReplicas=0),
                 keda(minReplicas=0, cpuPercent=70, inFlightRequests=None, prometheusAddress=None),
                 "minReplicas 0 needs inFlightRequests", id="zero by CPU"),
    pytest.param(keda(), keda(prometheusAddress=None),
                 "set autoscaling.prometheusAddress", id="KEDA without Prometheus"),
    pytest.param(keda(), scaling(prometheusAddress="http://prometheus:9090"),
                 "prometheusAddress works only with", id="Prometheus without KEDA"),
    pytest.param(keda(prometheusAddress="https://prom.example.com"),
                 keda(prometheusAddress="prometheus:9090"),
                 "prometheusAddress must be an http or https URL", id="Prometheus address"),
    pytest.param(scaling(), serving(autoscaling={"maxReplicas": 5, "cpuPercent": 70},
                                    resources={"requests": {"memory": "1Gi"}}),
                 "cpuPercent is a share of resources.requests.cpu", id="CPU request"),
    pytest.param(scaling(cpuPercent=None, memoryPercent=80),
                 serving(autoscaling={"maxReplicas": 5, "memoryPercent": 80},
                         resources={"requests": {"cpu": "1"}}),
                 "memoryPercent is a share of resources.requests.memory", id="memory request"),
    pytest.param(serving(cacheVolume={"size": "1Gi", "accessMode": "ReadWriteMany"}, replicas=3),
                 serving(cacheVolume={"size": "1Gi"}, replicas=3),
                 "ReadWriteOnce ties all pods to one node", id="one node, three pods"),
    pytest.param(serving(maxUnavailable="25%"), serving(maxUnavailable=0),
                 "with 0 a drain would wait for ever", id="no pod may go"),
    pytest.param(serving(maxUnavailable=2), serving(maxUnavailable="0%"),
                 "with 0 a drain would wait for ever", id="no share may go"),
    pytest.param(serving(tolerations=[{"operator": "Exists"}]),
                 serving(tolerations=[{"effect": "NoSchedule"}]),
                 "a toleration without a key needs operator Exists", id="toleration"),
    pytest.param(egress(cidr="10.0.0.0/8"), egress(cidr="10.0.0.0/8", namespace="x"),
                 "exactly one of cidr and namespace", id="egress to two"),
    pytest.param(egress(namespace="redis", ports=[6379]), egress(ports=[6379]),
                 "exactly one of cidr and namespace", id="egress to nobody"),
    pytest.param(egress(cidr="fd00::/8"), egress(cidr="10.0.0.1"),
                 "policy.egress.cidr must be a network", id="egress to an address"),
    pytest.param(service(type="NodePort", nodePort=30080), service(nodePort=30080),
                 "nodePort works only with service.type NodePort", id="node port"),
    pytest.param({"cache": {"diskBytes": 0}}, {"cache": {"diskBytes": 1_048_575}},
                 "cache.diskBytes must be 0 (no disk) or at least", id="a disk of nothing"),
]  # fmt: skip

SHAPES = [
    pytest.param(outputs(type="list[Literal['a', 'b']]"), outputs(type="dict"),
                 "outputs[0].type", id="type"),
    pytest.param(outputs(name="a_1"), outputs(name="Label"), "outputs[0].name", id="field name"),
    pytest.param(declared(signature={**SIGNATURE, "types": [{"name": "Item", "fields": [FIELD]}]}),
                 declared(signature={**SIGNATURE, "types": [{"name": "item", "fields": [FIELD]}]}),
                 "types[0].name", id="type name"),
    pytest.param({"program": {"python": PYTHON}}, {"program": {"python": {"entrypoint": "shop"}}},
                 "python.entrypoint", id="entrypoint"),
    pytest.param(declared(module=REACT), declared(module={"type": "ReAct", "tools": ["x y"]}),
                 "module.tools[0]", id="tool"),
    pytest.param(model(name="big-one"), model(name="Big"), "models[0].name", id="model name"),
    pytest.param(model(temperature="0.7"), model(temperature="warm"), "temperature",
                 id="temperature"),
    pytest.param({"models": [{**MODEL, "name": f"m-{n}"} for n in range(8)]},
                 {"models": [{**MODEL, "name": f"m-{n}"} for n in range(9)]}, "spec.models",
                 id="nine models"),
    pytest.param(models("main"), {"models": [MODEL, MODEL]}, "spec.models[1]",
                 id="a model that stands twice"),
    pytest.param(model(breaker={"failurePercent": 100, "slowSeconds": 10}),
                 model(breaker={"failurePercent": 101}), "breaker.failurePercent", id="percent"),
    pytest.param(model(breaker={}), model(breaker={"openSeconds": 61}), "breaker.openSeconds",
                 id="open too long"),
    pytest.param(price(cachedInputPerMillion="0"), price(cachedInputPerMillion="1e-3"),
                 "price.cachedInputPerMillion", id="price"),
    pytest.param(price(), model(price={"inputPerMillion": "1"}), "price.outputPerMillion",
                 id="half a price"),
    pytest.param(budget(limit="999999.999999999"), budget(limit="1000000"), "budgets[0].limit",
                 id="a million"),
    pytest.param(budget(softPercent=99, cheaperModel="spare"),
                 budget(softPercent=100, cheaperModel="spare"), "softPercent", id="soft share"),
    pytest.param(budget(period="Month", per="Tenant", whenUnavailable="Deny"),
                 budget(period="Week"), "budgets[0].period", id="period"),
    pytest.param({**budget(), "budgets": [{"name": f"b{n}", "limit": "1"} for n in range(8)]},
                 {**budget(), "budgets": [{"name": f"b{n}", "limit": "1"} for n in range(9)]},
                 "spec.budgets", id="nine budgets"),
    pytest.param(budget(), {**budget(), "budgets": [{"name": "a", "limit": "1"}] * 2},
                 "spec.budgets[1]", id="a budget that stands twice"),
    pytest.param(model(), {"models": None}, "spec.models", id="no model"),
    pytest.param({"cache": {}}, {"cache": {"ttlSeconds": 0}}, "cache.ttlSeconds", id="no time"),
    pytest.param({"cache": {"staleSeconds": 0}}, {"cache": {"staleSeconds": -1}},
                 "cache.staleSeconds", id="stale before its time"),
    pytest.param({"cache": {"memoryBytes": 1_048_576}}, {"cache": {"memoryBytes": 1_000_000}},
                 "cache.memoryBytes", id="no memory"),
    pytest.param({"cache": {"scope": "App"}}, {"cache": {"scope": "Everybody"}}, "cache.scope",
                 id="scope"),
    pytest.param({"redis": {"urlSecretRef": {"name": "redis", "key": "url"}}}, {"redis": {}},
                 "redis.urlSecretRef", id="Redis without a URL"),
    pytest.param(resources(limits={"cpu": "1.5"}), resources(limits={"cpu": "much"}),
                 "limits.cpu", id="quantity"),
    pytest.param(serving(env=[{"name": "_A1", "value": ""}]),
                 serving(env=[{"name": "1A", "value": ""}]), "env[0].name", id="variable name"),
    pytest.param({"paused": True, "pausedUntil": "2030-01-31T18:00:00+01:00"},
                 {"paused": True, "pausedUntil": "tomorrow"}, "spec.pausedUntil", id="time"),
    pytest.param(serving(replicas=0), serving(replicas=-1), "replicas", id="replicas"),
    pytest.param(serving(priorityClassName="high"), serving(priorityClassName="{{ x }}"),
                 "priorityClassName", id="priority class"),
    pytest.param(model(keySecretRef={"name": "lm"}), model(keySecretRef={"name": "My Key"}),
                 "keySecretRef.name", id="Secret"),
    pytest.param(serving(nodeSelector={"disk": "fast"}), serving(nodeSelector={"disk": "a b"}),
                 "nodeSelector", id="node label"),
    pytest.param(scaling(), scaling(maxReplicas=None), "autoscaling.maxReplicas", id="no most"),
    pytest.param(keda(), scaling(type="VPA"), "autoscaling.type", id="autoscaler"),
    pytest.param(volume(size="1.5Gi"), volume(size="big"), "cacheVolume.size", id="size"),
    pytest.param({"network": {"ingress": {"host": "*.example.com"}}},
                 {"network": {"ingress": {"host": "http://example.com"}}},
                 "ingress.host", id="host"),
    pytest.param({"network": {"ingress": {"host": "a.b", "path": "/qa"}}},
                 {"network": {"ingress": {"host": "a.b", "path": "qa"}}},
                 "ingress.path", id="path"),
    pytest.param({"network": {"httpRoute": {"parentRefs": [{"name": "gate"}]}}},
                 {"network": {"httpRoute": {"parentRefs": []}}}, "parentRefs", id="no gateway"),
    pytest.param({"monitoring": {"rules": {"labels": {"release": "prom"}}}},
                 {"monitoring": {"rules": {"labels": {"release": "a b"}}}},
                 "rules.labels", id="label"),
    pytest.param(store(), {"store": {}}, "store.postgres", id="a store without a database"),
    pytest.param(store(), store(postgres={}), "postgres.urlSecretRef", id="a store without a URL"),
    pytest.param(store(), store(postgres={"urlSecretRef": {"name": "My DB"}}),
                 "urlSecretRef.name", id="Secret of a store"),
    pytest.param(store(retentionDays=0), store(retentionDays=-1), "retentionDays", id="days"),
    pytest.param(store(spoolBytes=1 << 40), store(spoolBytes=1000), "spoolBytes", id="spool"),
    pytest.param({"imagePullPolicy": "Always"}, {"imagePullPolicy": "Sometimes"},
                 "imagePullPolicy", id="pull policy"),
    pytest.param(serving(), {"typo": 1}, 'unknown field "spec.typo"', id="unknown field"),
]  # fmt: skip


@pytest.mark.parametrize(("accepted", "refused", "message"), [*RULES, *SHAPES])
def test_rule(
    light_cluster: LightCluster, namespace: str, accepted: Changes, refused: Changes, message: str
) -> None:
    try_out(light_cluster, namespace, app(accepted))

    with pytest.raises(DevclusterError) as caught:
        try_out(light_cluster, namespace, app(refused))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 53, "at most 52 characters"),
        ("1app", "must start with a letter"),
        ("my.app", "must start with a letter"),
    ],
)
def test_names(light_cluster: LightCluster, namespace: str, name: str, message: str) -> None:
    try_out(light_cluster, namespace, app({}, "a" * 52))

    with pytest.raises(DevclusterError) as caught:
        try_out(light_cluster, namespace, app({}, name))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "1Gi", "storageClassName": "fast"}, "storageClassName cannot change"),
        ({"size": "1Gi", "accessMode": "ReadWriteMany"}, "accessMode cannot change"),
    ],
)
def test_a_volume_may_grow_and_not_change(
    light_cluster: LightCluster, namespace: str, change: Changes, message: str
) -> None:
    name = message[:6].lower()
    claim = {"size": "1Gi", "storageClassName": "slow", "accessMode": "ReadWriteOnce"}
    made = {**app(serving(cacheVolume=claim), name)}
    made["metadata"]["namespace"] = namespace
    light_cluster.access.apply(made)

    made["spec"]["serving"]["cacheVolume"] = {**claim, "size": "2Gi"}
    light_cluster.access.apply(made)
    made["spec"]["serving"]["cacheVolume"] = {**claim, **change}
    with pytest.raises(DevclusterError) as caught:
        light_cluster.access.apply(made)
    assert message in str(caught.value)


def test_defaults_are_filled_in(light_cluster: LightCluster, namespace: str) -> None:
    redis = {"urlSecretRef": {"name": "redis"}}
    given = {**model(breaker={}), **store(), "cache": {}, "redis": redis}
    made = json.loads(try_out(light_cluster, namespace, app(given)))

    assert made["spec"]["serving"]["replicas"] == 1
    assert made["spec"]["models"][0]["breaker"] == {
        "failurePercent": 50,
        "minimumCalls": 10,
        "openSeconds": 5,
    }
    assert made["spec"]["store"] == {
        "postgres": {"urlSecretRef": {"name": "db", "key": "url"}},
        "retentionDays": 30,
        "spoolBytes": 268435456,
    }
    assert made["spec"]["cache"] == {
        "ttlSeconds": 3600,
        "staleSeconds": 86_400,
        "memoryBytes": 67_108_864,
        "diskBytes": 0,
        "scope": "Tenant",
    }
    assert made["spec"]["redis"] == {"urlSecretRef": {"name": "redis", "key": "url"}}
    assert made["spec"]["network"]["service"] == {"type": "ClusterIP", "port": 80}
    assert made["status"] == {"observedGeneration": -1}


def test_every_rule_of_the_crd_is_tried() -> None:
    """A rule that nobody has seen refuse something may as well not compile to what it says."""
    text = (find_repository() / "crds" / "dspyapps.yaml").read_text()
    found: list[str] = []

    def collect(node: object) -> None:
        if isinstance(node, dict):
            found.extend(r["message"] for r in node.get("x-kubernetes-validations", ()))
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    collect(yaml.safe_load(text))
    tried = [str(p.values[2]) for p in RULES] + [
        "at most 52 characters",
        "must start with a letter",
        "cannot change",
    ]
    assert [m for m in found if not any(t in m for t in tried)] == []


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_the_example_of_an_environment_is_admitted(
    light_cluster: LightCluster, environment: str
) -> None:
    folder = find_repository() / "examples" / "environments" / environment
    light_cluster.access.kubectl("apply", f"--filename={folder / 'namespace.yaml'}")
    made = light_cluster.access.kubectl(
        "apply", f"--kustomize={folder}", "--dry-run=server", "--output=name"
    )

    assert "dspyapp.dspy-operator.io/tickets" in made.split()
    light_cluster.access.delete_namespace(f"tickets-{environment}")
