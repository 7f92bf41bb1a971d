"""The chart: what it renders and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import charts
from tests.charts import CHART, ROOT, arguments, helm, needs_helm, pod, render

pytestmark = needs_helm


def policy(name: str, *settings: str, values: Path | None = None) -> dict[str, Any]:
    found: dict[str, Any] = render(*settings, values=values)[f"NetworkPolicy/{name}"]["spec"]
    return found


def test_the_chart_is_sound() -> None:
    done = helm("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout


def test_a_rendered_crd_is_the_repositorys_with_labels() -> None:
    rendered = render()["CustomResourceDefinition/dspyapps.dspy-operator.io"]
    ours = yaml.safe_load((ROOT / "crds" / "dspyapps.yaml").read_text())

    assert rendered["spec"] == ours["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_crds_can_be_left_out_and_need_not_be_kept() -> None:
    name = "CustomResourceDefinition/dspyapps.dspy-operator.io"

    assert name not in render("crds.install=false")
    assert "helm.sh/resource-policy" not in str(render("crds.keep=false")[name]["metadata"])


def test_the_operator_runs_restricted_with_a_short_lived_token() -> None:
    spec, container = pod(), pod()["containers"][0]

    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    token = spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["expirationSeconds"] == 3600
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_a_new_operator_stands_by_before_an_old_one_goes() -> None:
    spec = render()["Deployment/dspy-operator"]["spec"]

    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "--lease-namespace=dspy-system" in arguments()
    assert "--lease-name=dspy-operator" in arguments()


def test_a_drain_takes_one_operator_and_is_never_held_up_by_a_broken_one() -> None:
    spec = render()["PodDisruptionBudget/dspy-operator"]["spec"]

    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["selector"] == render()["Deployment/dspy-operator"]["spec"]["selector"]
    assert "PodDisruptionBudget/dspy-operator" not in render("podDisruptionBudget.enabled=false")


def test_operators_spread_over_nodes() -> None:
    (constraint,) = pod()["topologySpreadConstraints"]

    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", "one node is a cluster too"
    selector = render()["Deployment/dspy-operator"]["spec"]["selector"]
    assert constraint["labelSelector"] == selector
    assert "topologySpreadConstraints" not in pod("topologySpreadConstraints=null")


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ((), "--operator-namespace=dspy-system"),
        ((), "--dashboard-labels=grafana_dashboard=1"),
        ((), "--runbooks=docs/runbooks"),
        (("observeOnly=true",), "--observe-only"),
        (("namespaces={blue,green}",), "--namespaces=blue,green"),
        (("monitoring.namespaces={m,n}",), "--monitoring-namespaces=m,n"),
        (("monitoring.labels.b=2x", "monitoring.labels.a=1x"), "--monitor-labels=a=1x,b=2x"),
        (("worker.image=w:1",), "--worker-image=w:1"),
        (("extraArgs={--log-format=text}",), "--log-format=text"),
    ],
)
def test_values_become_arguments(settings: tuple[str, ...], argument: str) -> None:
    assert argument in arguments(*settings)


def test_lists_that_are_empty_and_switches_that_are_off_are_no_arguments() -> None:
    given = {argument.partition("=")[0] for argument in arguments()}

    unwanted = {"--observe-only", "--namespaces", "--monitoring-namespaces", "--monitor-labels"}
    assert not given & unwanted
    assert "--dashboard-labels" not in str(arguments("monitoring.dashboardLabels=null"))


def test_images_take_tag_and_digest() -> None:
    image = pod("image.tag=1.2.3", f"image.digest={charts.DIGEST}")["containers"][0]["image"]

    assert image == f"ghcr.io/dspy-operator/dspy-operator:1.2.3@{charts.DIGEST}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ghcr.io/a/b", "mirror.example.com/x/a/b"),
        ("localhost:5000/b", "mirror.example.com/x/b"),
        ("a/b", "mirror.example.com/x/a/b"),
    ],
)
def test_a_mirror_replaces_the_registry_of_both_images(name: str, expected: str) -> None:
    mirror = "imageRegistry=mirror.example.com/x/"
    settings = (mirror, f"image.repository={name}", "image.tag=v1", f"worker.image={name}:2")

    assert pod(*settings)["containers"][0]["image"] == f"{expected}:v1"
    assert f"--worker-image={expected}:2" in arguments(*settings)


def test_pods_take_more_than_the_chart_thought_of() -> None:
    settings = (
        "hostUsers=false",
        "priorityClassName=high",
        "extraVolumes[0].name=ca",
        "extraVolumeMounts[0].name=ca",
        "extraVolumeMounts[0].mountPath=/ca",
        "extraEnv[0].name=HTTPS_PROXY",
        "extraEnv[0].value=proxy:3128",
        "image.pullSecrets[0].name=key",
    )
    spec = pod(*settings)

    assert (spec["hostUsers"], spec["priorityClassName"]) == (False, "high")
    assert [v["name"] for v in spec["volumes"]] == ["api-access", "tmp", "ca"]
    assert spec["containers"][0]["volumeMounts"][-1] == {"name": "ca", "mountPath": "/ca"}
    assert spec["containers"][0]["env"] == [{"name": "HTTPS_PROXY", "value": "proxy:3128"}]
    assert spec["imagePullSecrets"] == [{"name": "key"}]
    assert "hostUsers" not in pod()


def test_a_large_number_from_a_file_stays_an_integer(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("burst: 2000000")
    spec = render(values=values)["Deployment/dspy-operator"]["spec"]["template"]["spec"]

    assert "--burst=2000000" in spec["containers"][0]["args"]


def test_common_labels_reach_every_object_and_never_the_selector() -> None:
    labels = ("commonLabels.team=blue", r"commonLabels.app\.kubernetes\.io/name=x")
    for settings in (labels, (*labels, "namespaces={a}")):
        for name, each in render(*settings).items():
            assert each["metadata"]["labels"]["team"] == "blue", name
    spec = render(*labels)["Deployment/dspy-operator"]["spec"]
    assert spec["selector"] == render()["Deployment/dspy-operator"]["spec"]["selector"]
    assert spec["template"]["metadata"]["labels"]["team"] == "blue"


@pytest.mark.parametrize(
    "name",
    [
        *("commonLabels", "podLabels", "podAnnotations", "resources", "nodeSelector", "extraArgs"),
        *("monitoring.labels", "monitoring.dashboardLabels", "monitoring.dashboards.labels"),
        *("monitoring.prometheusRule.labels", "topologySpreadConstraints", "extraObjects"),
    ],
)
def test_null_takes_a_value_out_and_breaks_nothing(name: str) -> None:
    on = ("monitoring.dashboards.enabled=true", "monitoring.prometheusRule.enabled=true")

    assert "Deployment/dspy-operator" in render(*on, f"{name}=null")


def test_further_objects_may_be_templates(tmp_path: Path) -> None:
    as_object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}-a"},
    }
    as_text = yaml.safe_dump(as_object).replace("-a", "-b")
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps({"extraObjects": [as_object, as_text]}))

    found = render(values=values)
    assert {"ConfigMap/dspy-operator-a", "ConfigMap/dspy-operator-b"} <= set(found)


def test_an_account_of_somebody_else_is_used_and_not_created() -> None:
    found = render("serviceAccount.create=false", "serviceAccount.name=theirs")

    assert not [name for name in found if name.startswith("ServiceAccount/")]
    assert pod("serviceAccount.create=false", "serviceAccount.name=theirs")[
        "serviceAccountName"
    ] == ("theirs")
    assert found["ClusterRoleBinding/dspy-operator"]["subjects"][0]["name"] == "theirs"


def test_the_vertical_autoscaler_watches_the_operators_container() -> None:
    found = render("verticalPodAutoscaler.enabled=true")["VerticalPodAutoscaler/dspy-operator"]

    assert found["spec"]["targetRef"]["name"] == "dspy-operator"
    (container,) = found["spec"]["resourcePolicy"]["containerPolicies"]
    assert container["containerName"] == pod()["containers"][0]["name"]


def test_the_network_policy_opens_what_the_operator_needs_and_nothing_else() -> None:
    spec = policy("dspy-operator")
    ports = [{p["port"] for p in rule["ports"]} for rule in spec["egress"]]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["podSelector"] == render()["Deployment/dspy-operator"]["spec"]["selector"]
    assert ports == [{53, 5353}, {443, 6443, 8443, 16443}, {9090}]
    assert [{p["port"] for p in rule["ports"]} for rule in spec["ingress"]] == [{8080}]
    assert "from" not in spec["ingress"][0]


def test_the_network_policy_narrows_with_what_is_known() -> None:
    settings = (
        "monitoring.namespaces={monitoring}",
        "namespaces={blue}",
        "networkPolicy.apiServerCidrs={10.0.0.1/32}",
    )
    spec = policy("dspy-operator", *settings)
    scrapers, tests = spec["ingress"][0]["from"]

    assert scrapers["namespaceSelector"]["matchExpressions"][0]["values"] == ["monitoring"]
    assert tests["podSelector"] == policy("dspy-operator-test")["podSelector"]
    assert spec["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    workers = spec["egress"][2]["to"][0]["namespaceSelector"]
    assert workers["matchExpressions"][0]["values"] == ["blue"]


def test_the_network_policies_can_be_left_out() -> None:
    found = render("networkPolicy.enabled=false")

    assert not [name for name in found if name.startswith("NetworkPolicy/")]


def test_the_helm_test_asks_the_service_and_is_no_endpoint_of_it() -> None:
    test, service = render()["Pod/dspy-operator-test"], render()["Service/dspy-operator-metrics"]
    (container,) = test["spec"]["containers"]

    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    url = "http://dspy-operator-metrics.dspy-system.svc:8080"
    assert container["args"][-1] == url
    compile(container["args"][0], "test", "exec")
    assert not service["spec"]["selector"].items() <= test["metadata"]["labels"].items()
    assert container["securityContext"] == pod()["containers"][0]["securityContext"]
    assert test["spec"]["securityContext"] == pod()["securityContext"]
    assert test["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("setting", ["tests.enabled=false", "metrics.service.enabled=false"])
def test_without_a_service_to_ask_there_is_no_helm_test(setting: str) -> None:
    assert "Pod/dspy-operator-test" not in render(setting)
    assert "NetworkPolicy/dspy-operator-test" not in render(setting)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("replicas=11", "maximum"),
        ("image.digest=abc", "pattern"),
        ("logFormat=xml", "value must be one of"),
        ("typo=1", "typo"),
        ("monitoring.typo=1", "typo"),
        ("extraArgs={oops}", "pattern"),
        ("commonLabels.a=not a label", "pattern"),
        ("podDisruptionBudget.maxUnavailable=0", "minimum"),
        ("resources.limits.cpus=1", "cpus"),
    ],
)
def test_a_wrong_value_is_refused(setting: str, complaint: str) -> None:
    assert complaint in charts.complaint(setting)
