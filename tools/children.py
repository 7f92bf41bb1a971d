"""The objects that the operator makes of typical apps, for whoever wants to look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy_operator.core import app as app_spec
from dspy_operator.core import render

if TYPE_CHECKING:
    from dspy_operator.core.manifest import Manifest

_DIGEST = f"@sha256:{'0' * 64}"
_AROUND = render.Setting(
    token="0" * 43,
    source_digest="",
    installation=render.Installation(
        namespace="dspy-system",
        monitoring=("monitoring",),
        dashboard_labels={"grafana_dashboard": "1"},
        runbooks="https://runbooks.example.com",
    ),
    served=render.OPTIONAL_KINDS,
    pod_metrics=True,
)
_KEY = {"keySecretRef": {"name": "lm", "key": "api-key"}}
_POLICY: dict[str, Any] = {"policy": {"from": ["ingress-nginx"]}}
_LIMITED: dict[str, Any] = {
    "resources": {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
}
SETS: dict[str, dict[str, Any]] = {
    "minimal": {"network": _POLICY, "serving": _LIMITED},
    "full": {
        "serving": {
            **_LIMITED,
            "autoscaling": {"minReplicas": 3, "maxReplicas": 9, "cpuPercent": 70},
            "cacheVolume": {"size": "5Gi", "accessMode": "ReadWriteMany"},
        },
        "network": {**_POLICY, "ingress": {"host": "qa.example.com", "tlsSecretName": "tls"}},
        "monitoring": {"serviceMonitor": {}, "rules": {}, "dashboard": {}},
    },
    "keda": {
        "serving": {
            **_LIMITED,
            "autoscaling": {
                "type": "ScaledObject",
                "minReplicas": 0,
                "maxReplicas": 9,
                "inFlightRequests": 20,
                "prometheusAddress": "http://prometheus.monitoring.svc:9090",
            },
        },
        "network": {"policy": {"egress": [{"namespace": "monitoring"}]}},
    },
    "httproute": {
        "serving": _LIMITED,
        "network": {**_POLICY, "httpRoute": {"parentRefs": [{"name": "gate"}]}},
    },
    "local models": {"serving": _LIMITED, "network": _POLICY, "models": "local"},
    "python program": {"serving": _LIMITED, "network": _POLICY, "program": "python"},
}
"""Specs by name; each is completed with a program and a model."""


def rendered(name: str) -> list[Manifest]:
    """Return the objects of one set, the image pinned by digest as a release pins it."""
    spec = dict(SETS[name])
    endpoint = (
        "http://vllm.models.svc:8000/v1" if spec.get("models") else "https://lm.example.com/v1"
    )
    model = {"name": "main", "model": "m", "endpoint": endpoint}
    spec["models"] = [model if spec.get("models") else {**model, **_KEY}]
    spec["program"] = _python() if spec.get("program") else _declared()
    live = {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyApp",
        "metadata": {"name": "qa", "namespace": "team", "uid": "0", "generation": 1},
        "spec": {"imagePullPolicy": "Always", **spec},
    }
    image = f"ghcr.io/dspy-operator/dspy-worker:0.1.0{_DIGEST}"
    return list(render.children(app_spec.parse(live, default_image=image), _AROUND))


def _declared() -> dict[str, Any]:
    return {"signature": {"inputs": [{"name": "question"}], "outputs": [{"name": "answer"}]}}


def _python() -> dict[str, Any]:
    python = {"entrypoint": "shop:build"}
    return {"python": python, "source": {"configMapRef": {"name": "shop"}}}
