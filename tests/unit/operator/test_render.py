"""What the operator makes of an app, fact by fact."""

import copy
from typing import Any

import pytest

from dspy_operator.core import app as app_spec
from dspy_operator.core import match, names, render
from dspy_operator.core.manifest import Manifest
from dspy_operator.errors import SpecError
from dspy_worker import contract

LIVE: Manifest = {
    "apiVersion": "dspy-operator.io/v1alpha1",
    "kind": "DSPyApp",
    "metadata": {"name": "tickets", "namespace": "team", "uid": "u-1", "generation": 3},
    "spec": {
        "program": {"signature": {"inputs": [{"name": "text"}], "outputs": [{"name": "label"}]}},
        "models": [
            {
                "name": "main",
                "model": "m",
                "endpoint": "http://lm/v1",
                "keySecretRef": {"name": "lm-key", "key": "token"},
            }
        ],
        "serving": {"replicas": 2, "port": 8081, "drainSeconds": 75, "timeoutSeconds": 60},
    },
}
SOURCE = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}


def app(**spec: object) -> app_spec.App:
    live = copy.deepcopy(LIVE)
    live["spec"].update(spec)
    return app_spec.parse(live, default_image="worker:1")


def children(made: app_spec.App, source: str | None = "", **setting: Any) -> dict[str, Manifest]:  # noqa: ANN401 - a table
    around = render.Setting(token="t0ken", source_digest=source, **setting)
    found = render.children(made, around)
    return {f"{c['kind']}/{c['metadata']['name']}": c for c in found}


def deployment(source: str = "", **spec: object) -> Manifest:
    return children(app(**spec), source)["Deployment/tickets"]


def pod(**spec: object) -> dict[str, Any]:
    found: dict[str, Any] = deployment(**spec)["spec"]["template"]["spec"]
    return found


def container(**spec: object) -> dict[str, Any]:
    found: dict[str, Any] = pod(**spec)["containers"][0]
    return found


def test_an_app_has_six_children_and_the_deployment_comes_last() -> None:
    assert list(children(app())) == [
        "ServiceAccount/tickets",
        "ConfigMap/tickets-config",
        "ConfigMap/tickets-ops",
        "Service/tickets",
        "PodDisruptionBudget/tickets",
        "Deployment/tickets",
    ]


def test_every_child_is_owned_labeled_and_stamped() -> None:
    for child in children(app()).values():
        metadata = child["metadata"]
        assert metadata["ownerReferences"][0]["uid"] == "u-1"
        assert metadata["ownerReferences"][0]["controller"] is True
        assert metadata["ownerReferences"][0]["blockOwnerDeletion"] is False
        assert metadata["labels"][names.MANAGED_BY] == "dspy-operator"
        assert metadata["labels"][names.APP_LABEL] == "tickets"
        assert metadata["annotations"][names.APPLIED]


def test_rendering_twice_gives_the_same_bytes() -> None:
    assert children(app()) == children(app())


def test_without_the_users_files_there_is_no_deployment() -> None:
    assert "Deployment/tickets" not in children(app(program=SOURCE), None)


def test_pods_meet_the_restricted_standard_and_more() -> None:
    security = pod()["securityContext"]
    inner = container()["securityContext"]

    assert security["runAsNonRoot"] is True
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (65532,) * 3
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner["allowPrivilegeEscalation"] is False
    assert inner["capabilities"] == {"drop": ["ALL"]}
    assert inner["readOnlyRootFilesystem"] is True
    assert pod()["automountServiceAccountToken"] is False


def test_the_worker_gets_only_the_arguments_that_apply() -> None:
    ops = ["--ops-token-file", "/etc/dspy/ops/token"]
    keyless = [{"name": "main", "model": "m", "endpoint": "http://lm/v1"}]

    assert container()["args"] == [
        *("serve", "/etc/dspy/config/app.json", "--keys-dir", "/etc/dspy/keys"),
        *ops,
    ]
    assert container(models=keyless, program=SOURCE)["args"] == [
        *("serve", "/etc/dspy/config/app.json", "--source-dir", "/etc/dspy/source"),
        *ops,
    ]


def test_a_key_is_an_optional_file_and_never_an_environment_variable() -> None:
    volume = next(v for v in pod()["volumes"] if v["name"] == "key-main")

    assert volume["secret"]["optional"] is True
    assert volume["secret"]["items"] == [{"key": "token", "path": "key"}]
    assert any(m["mountPath"] == "/etc/dspy/keys/main" for m in container()["volumeMounts"])
    assert [e["name"] for e in container()["env"]] == ["HOME"]


def test_a_store_brings_its_url_a_disk_for_its_journal_and_the_options_for_both() -> None:
    spool = 256 << 20
    store = {"postgres": {"urlSecretRef": {"name": "db", "key": "u"}}, "spoolBytes": spool}

    volumes = {v["name"]: v for v in pod(store=store)["volumes"]}
    made = container(store=store)

    assert volumes["url-postgres"]["secret"] == {
        "secretName": "db",
        "optional": True,
        "defaultMode": 0o440,
        "items": [{"key": "u", "path": "url"}],
    }
    limit = volumes["data"]["emptyDir"]["sizeLimit"]
    assert int(limit.removesuffix("Mi")) << 20 > spool, "a full journal must not evict the pod"
    mounts = {m["name"]: m for m in made["volumeMounts"]}
    assert mounts["url-postgres"]["mountPath"] == "/etc/dspy/connections/postgres"
    assert mounts["data"] == {"name": "data", "mountPath": "/var/lib/dspy-worker"}
    arguments = " ".join(made["args"])
    assert "--connections-dir /etc/dspy/connections --data-dir /var/lib/dspy-worker" in arguments
    assert "--data-dir" not in " ".join(container()["args"])


def test_every_volume_is_mounted_and_only_tmp_can_be_written() -> None:
    spec = pod(program=SOURCE)
    mounts = spec["containers"][0]["volumeMounts"]

    assert [v["name"] for v in spec["volumes"]] == [m["name"] for m in mounts]
    assert [m["name"] for m in mounts if not m.get("readOnly")] == ["tmp"]
    assert spec["volumes"][0]["emptyDir"]["sizeLimit"]


def test_answers_on_disk_and_the_url_of_redis_are_mounted() -> None:
    spec = {
        "cache": {"diskBytes": 64 << 20},
        "redis": {"urlSecretRef": {"name": "shared", "key": "dsn"}},
    }
    volumes = {v["name"]: v for v in pod(**spec)["volumes"]}
    mounts = {m["name"]: m for m in container(**spec)["volumeMounts"]}

    assert volumes["data"]["emptyDir"] == {"sizeLimit": "64Mi"}
    assert mounts["data"] == {"name": "data", "mountPath": "/var/lib/dspy-worker"}
    assert volumes["url-redis"]["secret"]["secretName"] == "shared"
    assert volumes["url-redis"]["secret"]["items"] == [{"key": "dsn", "path": "url"}]
    assert mounts["url-redis"]["mountPath"] == "/etc/dspy/connections/redis"
    assert {"--connections-dir", "--data-dir"} <= set(container(**spec)["args"])
    assert {"data", "url-redis"}.isdisjoint(v["name"] for v in pod(cache={})["volumes"])


def test_probes_ask_the_ops_port() -> None:
    found = container()

    paths = {"startupProbe": "/startedz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in paths.items():
        assert found[probe]["httpGet"] == {"path": path, "port": "ops", "scheme": "HTTP"}
    assert {p["name"]: p["containerPort"] for p in found["ports"]} == {
        "http": 8081,
        "ops": contract.OPS_PORT,
    }


def test_a_rollout_never_has_fewer_pods_than_asked_and_waits_for_the_drain() -> None:
    assert deployment()["spec"]["strategy"]["rollingUpdate"] == {
        "maxUnavailable": 0,
        "maxSurge": 1,
    }
    assert pod()["terminationGracePeriodSeconds"] == 85


def test_the_service_leads_to_the_public_port_only() -> None:
    service = children(app())["Service/tickets"]

    assert service["spec"]["ports"] == [
        {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}
    ]
    assert service["spec"]["selector"] == {names.APP_LABEL: "tickets"}


def template_hash(**spec: object) -> str:
    found: str = render.workload.template_hash(deployment(**spec))
    return found


@pytest.mark.parametrize(
    ("spec", "rolls"),
    [
        pytest.param({"serving": {**LIVE["spec"]["serving"], "replicas": 9}}, False, id="replicas"),
        pytest.param({"network": {"service": {"port": 81}}}, False, id="service"),
        pytest.param({"paused": True}, False, id="paused"),
        pytest.param({"image": "other:1"}, True, id="image"),
        pytest.param({"serving": {**LIVE["spec"]["serving"], "concurrency": 9}}, True, id="worker"),
    ],
)
def test_only_what_the_pods_see_rolls_them(spec: dict[str, Any], *, rolls: bool) -> None:
    assert (template_hash(**spec) != template_hash()) is rolls


def test_the_users_files_roll_the_pods() -> None:
    one, other = (deployment(source=s, program=SOURCE) for s in ("a", "b"))

    assert render.workload.template_hash(one) != render.workload.template_hash(other)


def test_scheduling_wishes_reach_the_pod_and_absent_ones_are_absent() -> None:
    serving = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "high",
        "podAnnotations": {"team": "blue"},
        "env": [{"name": "HOME", "value": "/x"}, {"name": "EMPTY", "value": ""}],
    }
    found = deployment(serving=serving, imagePullSecrets=[{"name": "registry"}])
    spec = found["spec"]["template"]["spec"]

    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["priorityClassName"] == "high"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert found["spec"]["template"]["metadata"]["annotations"]["team"] == "blue"
    assert [e["value"] for e in spec["containers"][0]["env"]] == ["/x", ""]
    assert not {"nodeSelector", "tolerations", "priorityClassName"} & set(pod())


def test_fallbacks_that_lead_back_name_the_way() -> None:
    models = [
        {"name": name, "model": "m", "endpoint": "http://lm/v1", "fallback": fallback}
        for name, fallback in (("a", "b"), ("b", "a"))
    ]
    with pytest.raises(SpecError, match=r"spec\.models\[0\]\.fallback: .* circle: a -> b -> a"):
        app(models=models)


def test_an_unreadable_spec_names_the_field() -> None:
    outputs = [{"name": "a", "type": "Adress"}]
    with pytest.raises(SpecError, match=r"spec\.program\.signature\.outputs\[0\]") as caught:
        app(program={"signature": {"inputs": [{"name": "q"}], "outputs": outputs}})

    assert caught.value.reason == "InvalidSpec"
    assert caught.value.retry_after is None


def test_a_child_never_drifts_from_itself() -> None:
    for child in children(app(program=SOURCE), "x").values():
        assert not match.differs(child, copy.deepcopy(child))
