"""What changes the number of pods: autoscalers, and the budget of those who drain nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import names
from dspy_operator.core.options import HPA, SCALED_OBJECT
from dspy_operator.core.render import config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest, Ref
    from dspy_operator.core.options import Scaling
    from dspy_operator.core.render.setting import Setting

_IN_FLIGHT, _QUEUED = "dspy_in_flight", "dspy_queue_depth"
_FALLBACK_FAILURES = 3
_HELD_POLICY = "Disabled"


def disruption_budget(app: App) -> Manifest:
    """Render a budget that lets one pod go, be it the only one, and unhealthy ones always."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": config.metadata(app, app.name, "disruption"),
        "spec": {
            "maxUnavailable": app.options.max_unavailable,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(app.name)},
        },
    }


def autoscaler(app: App, scaling: Scaling, setting: Setting) -> Manifest | None:
    """Render the autoscaler, or None where it has nothing to measure by or is not served."""
    if scaling.kind == HPA:
        return _hpa(app, scaling, setting) if _hpa_metrics(scaling, setting) else None
    return _scaled_object(app, scaling, setting) if scaling.kind in setting.served else None


def has_old_scaler(app: App, live: Iterable[Ref]) -> bool:
    """Tell whether an autoscaler that the app does not want any more is still there.

    KEDA makes a HorizontalPodAutoscaler of another name for its ScaledObject, with its labels.
    """
    wanted = None if app.scaling is None else app.scaling.kind

    def is_old(ref: Ref) -> bool:
        if ref.kind == HPA:
            return wanted != (HPA if ref.name == app.name else SCALED_OBJECT)
        return ref.kind == SCALED_OBJECT and wanted != SCALED_OBJECT

    return any(is_old(ref) for ref in live)


def is_held(live: Manifest) -> bool:
    """Tell whether a live autoscaler was told not to add pods."""
    spec = live["spec"]
    keda = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
    behavior = spec.get("behavior") or keda.get("behavior") or {}
    return bool(behavior.get("scaleUp", {}).get("selectPolicy") == _HELD_POLICY)


def _hpa(app: App, scaling: Scaling, setting: Setting) -> Manifest:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": HPA,
        "metadata": config.metadata(app, app.name, "autoscaling"),
        "spec": {
            "scaleTargetRef": _target(app),
            "minReplicas": scaling.least,
            "maxReplicas": scaling.most,
            "metrics": _hpa_metrics(scaling, setting),
            "behavior": _behavior(scaling, setting),
        },
    }


def _hpa_metrics(scaling: Scaling, setting: Setting) -> list[Manifest]:
    """Return the metrics that the cluster can answer; one that it cannot would stop all scaling."""
    metrics = [_resource(name, percent) for name, percent in _percents(scaling)]
    if setting.pod_metrics:
        metrics += [_pods(name, value) for name, value in _counts(scaling)]
    return metrics


def _percents(scaling: Scaling) -> list[tuple[str, int]]:
    wanted = (("cpu", scaling.cpu_percent), ("memory", scaling.memory_percent))
    return [(name, percent) for name, percent in wanted if percent is not None]


def _counts(scaling: Scaling) -> list[tuple[str, int]]:
    wanted = ((_IN_FLIGHT, scaling.in_flight), (_QUEUED, scaling.queued))
    return [(name, value) for name, value in wanted if value is not None]


def _resource(name: str, percent: int) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _pods(name: str, value: int) -> Manifest:
    target = {"type": "AverageValue", "averageValue": str(value)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def _behavior(scaling: Scaling, setting: Setting) -> Manifest:
    held = scaling.holds and setting.throttled
    return {
        "scaleUp": {"selectPolicy": _HELD_POLICY if held else "Max"},
        "scaleDown": {"stabilizationWindowSeconds": scaling.scale_down_seconds},
    }


def _target(app: App) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": app.name}


def _scaled_object(app: App, scaling: Scaling, setting: Setting) -> Manifest:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": SCALED_OBJECT,
        "metadata": config.metadata(app, app.name, "autoscaling"),
        "spec": {
            "scaleTargetRef": _target(app),
            "minReplicaCount": scaling.least,
            "maxReplicaCount": scaling.most,
            "triggers": _triggers(app, scaling),
            **_fallback(scaling),
            "advanced": {
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling, setting)},
            },
        },
    }


def _triggers(app: App, scaling: Scaling) -> list[Manifest]:
    resources = [
        {"type": name, "metricType": "Utilization", "metadata": {"value": str(percent)}}
        for name, percent in _percents(scaling)
    ]
    return resources + [_prometheus(app, scaling, name, n) for name, n in _counts(scaling)]


def _prometheus(app: App, scaling: Scaling, metric: str, value: int) -> Manifest:
    pods = f'namespace="{app.namespace}",pod=~"{app.name}-[a-z0-9]+-[a-z0-9]+"'
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": scaling.prometheus,
            "query": f"sum({metric}{{{pods}}})",
            "threshold": str(value),
        },
    }


def _fallback(scaling: Scaling) -> Manifest:
    """Keep the present number of pods while Prometheus is away; KEDA refuses it for CPU alone."""
    if not scaling.needs_pod_metrics:
        return {}
    least = max(scaling.least, 1)
    behavior = {"behavior": "currentReplicas", "replicas": least}
    return {"fallback": {"failureThreshold": _FALLBACK_FAILURES, **behavior}}
