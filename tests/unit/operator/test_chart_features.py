"""What charts of well-made operators have: 34 features, looked for in files and rendered objects.

The list is what a survey of 17 charts of Kubernetes projects found in at least one of them; the
best had 29. Each probe looks at the thing itself and not at a word. What is missing is missing on
purpose: CRDs in `crds/` exclude templated ones, helm-unittest would say again what pytest says, and
a signing key is named once there is a signed release.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.charts import CHART, VALUES, needs_helm, pod, render

HA = next(path for path in VALUES if path.stem == "ha-values")
ON = (
    "verticalPodAutoscaler.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboards.enabled=true",
)


def metadata() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return found


def kinds(*settings: str, values: Path | None = None) -> set[str]:
    return {each["kind"] for each in render(*settings, values=values).values()}


def container() -> dict[str, Any]:
    found: dict[str, Any] = pod()["containers"][0]
    return found


def schema_is_strict() -> bool:
    schema = json.loads((CHART / "values.schema.json").read_text())
    return schema["additionalProperties"] is False


def has_test_hook() -> bool:
    hooks = [d["metadata"].get("annotations", {}) for d in render().values()]
    return any(hook.get("helm.sh/hook") == "test" for hook in hooks)


def crd() -> dict[str, Any] | None:
    name = "CustomResourceDefinition/dspyapps.dspy-operator.io"
    return render().get(name)


def alerts_have_runbooks() -> bool:
    groups = render(*ON)["PrometheusRule/dspy-operator"]["spec"]["groups"]
    return all(r["annotations"]["runbook_url"] for group in groups for r in group["rules"])


def has_digest() -> bool:
    return "@sha256:" in str(render(values=HA)["Deployment/dspy-operator"])


def has_user_roles() -> bool:
    labels = render()["ClusterRole/dspy-operator-view"]["metadata"]["labels"]
    return labels["rbac.authorization.k8s.io/aggregate-to-view"] == "true"


def objects_can_be_added() -> bool:
    object_ = "extraObjects[0]"
    settings = (f"{object_}.kind=ConfigMap", f"{object_}.metadata.name=mine")
    return "ConfigMap/mine" in render(*settings)


def annotated(word: str) -> bool:
    return any(word in name for name in metadata()["annotations"])


FEATURES: dict[str, Callable[[], bool]] = {
    "values.schema.json": schema_is_strict,
    "NOTES.txt": lambda: (CHART / "templates/NOTES.txt").stat().st_size > 0,
    "README helm-docs (.gotmpl)": (CHART / "README.md.gotmpl").exists,
    "helm-unittest": lambda: any(CHART.glob("tests/*_test.yaml")),
    "ci/*-values": lambda: len(VALUES) > 1,
    "helm test hook": has_test_hook,
    "CRDs in crds/": lambda: any(CHART.glob("crds/*.yaml")),
    "CRDs templated": lambda: crd() is not None,
    "crds.install": lambda: "CustomResourceDefinition" not in kinds("crds.install=false"),
    "resource-policy keep": lambda: "helm.sh/resource-policy" in str((crd() or {})["metadata"]),
    "PodDisruptionBudget": lambda: "PodDisruptionBudget" in kinds(),
    "topology spread": lambda: "topologySpreadConstraints" in pod(),
    "priorityClassName": lambda: "priorityClassName" in pod("priorityClassName=x"),
    "seccompProfile": lambda: "seccompProfile" in pod()["securityContext"],
    "readOnlyRootFilesystem": lambda: container()["securityContext"]["readOnlyRootFilesystem"],
    "NetworkPolicy": lambda: "NetworkPolicy" in kinds(),
    "ServiceMonitor": lambda: "ServiceMonitor" in kinds("monitoring.serviceMonitor.enabled=true"),
    "PodMonitor": lambda: "PodMonitor" in kinds("monitoring.podMonitor.enabled=true"),
    "PrometheusRule": lambda: "PrometheusRule" in kinds(*ON),
    "Grafana dashboard": lambda: "ConfigMap" in kinds(*ON),
    "alerts with runbook_url": alerts_have_runbooks,
    "extraEnv": lambda: "env" in pod("extraEnv[0].name=A")["containers"][0],
    "extraObjects": objects_can_be_added,
    "image digest": has_digest,
    "commonLabels": lambda: "team: x" in yaml.safe_dump(pod_labels("commonLabels.team=x")),
    "namespaced RBAC": lambda: "ClusterRole" not in kinds("namespaces={a}"),
    "aggregated user roles": has_user_roles,
    "artifacthub annotations": lambda: annotated("artifacthub.io/operatorCapabilities"),
    "signKey annotation": lambda: annotated("artifacthub.io/signKey"),
    "kubeVersion": lambda: bool(metadata()["kubeVersion"]),
    "revisionHistoryLimit": lambda: (
        deployment("revisionHistoryLimit=7")["spec"]["revisionHistoryLimit"] == 7
    ),
    "service account token off": lambda: pod()["automountServiceAccountToken"] is False,
    "hostUsers": lambda: pod("hostUsers=false")["hostUsers"] is False,
    "VerticalPodAutoscaler": lambda: "VerticalPodAutoscaler" in kinds(*ON),
}


def deployment(*settings: str) -> dict[str, Any]:
    return render(*settings)["Deployment/dspy-operator"]


def pod_labels(*settings: str) -> dict[str, str]:
    found: dict[str, str] = deployment(*settings)["spec"]["template"]["metadata"]["labels"]
    return found


@needs_helm
def test_the_chart_has_what_good_charts_have() -> None:
    found = {name: bool(probe()) for name, probe in FEATURES.items()}
    for name, there in found.items():
        print(f"{'x' if there else ' '} {name}")
    print(f"{sum(found.values())} of {len(found)}")

    assert len(found) == 34
    assert sum(found.values()) >= 31
