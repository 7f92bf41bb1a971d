"""The optional parts of a DSPyApp's spec as frozen values, read where the CRD has filled defaults.

Each part that is present makes one child; None means that there is no such child.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HPA: Final = "HorizontalPodAutoscaler"
SCALED_OBJECT: Final = "ScaledObject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What `spec.serving.autoscaling` says; each target is None where it is not asked for."""

    kind: str
    least: int
    most: int
    cpu_percent: int | None
    memory_percent: int | None
    in_flight: int | None
    queued: int | None
    prometheus: str
    scale_down_seconds: int
    holds: bool

    @property
    def needs_pod_metrics(self) -> bool:
        """Return whether a target is measured by the workers themselves."""
        return self.in_flight is not None or self.queued is not None

    def within(self, replicas: int) -> int:
        """Return the nearest number of pods that the autoscaler may choose."""
        return min(max(replicas, self.least), self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheVolume:
    """What `spec.serving.cacheVolume` says."""

    size: str
    storage_class: str | None
    access_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """What `spec.network.ingress` says."""

    host: str
    path: str
    class_name: str | None
    tls_secret: str | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """What `spec.network.httpRoute` says; the parents in the shape of the Gateway API."""

    parents: tuple[Mapping[str, str], ...]
    hostnames: tuple[str, ...]
    path: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """One entry of `spec.network.policy.egress`: a network or all pods of a namespace."""

    cidr: str | None
    namespace: str | None
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What `spec.network.policy` says."""

    callers: tuple[str, ...]
    egress: tuple[Egress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMonitor:
    """What `spec.monitoring.serviceMonitor` says."""

    interval_seconds: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What `spec.monitoring.rules` says."""

    error_percent: int
    latency_seconds: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All optional parts of one spec.

    Attributes:
        dashboard: Further labels of the dashboard's ConfigMap.
        max_unavailable: Pods, or a share of them, that a drain may take at once.
    """

    scaling: Scaling | None
    cache_volume: CacheVolume | None
    ingress: Ingress | None
    http_route: HttpRoute | None
    policy: Policy | None
    service_monitor: ServiceMonitor | None
    rules: Rules | None
    dashboard: Mapping[str, str] | None
    max_unavailable: int | str


def read(spec: Mapping[str, Any]) -> Options:
    """Read the optional parts of a spec that the CRD's schema has checked."""
    serving, network = spec.get("serving", {}), spec.get("network", {})
    monitoring = spec.get("monitoring", {})
    return Options(
        scaling=_scaling(serving.get("autoscaling")),
        cache_volume=_cache_volume(serving.get("cacheVolume")),
        ingress=_ingress(network.get("ingress")),
        http_route=_http_route(network.get("httpRoute")),
        policy=_policy(network.get("policy")),
        service_monitor=_service_monitor(monitoring.get("serviceMonitor")),
        rules=_rules(monitoring.get("rules")),
        dashboard=_labels(monitoring.get("dashboard")),
        max_unavailable=serving.get("maxUnavailable", 1),
    )


def _scaling(part: Mapping[str, Any] | None) -> Scaling | None:
    if part is None:
        return None
    return Scaling(
        kind=part.get("type", HPA),
        least=part.get("minReplicas", 1),
        most=part["maxReplicas"],
        cpu_percent=part.get("cpuPercent"),
        memory_percent=part.get("memoryPercent"),
        in_flight=part.get("inFlightRequests"),
        queued=part.get("queuedRequests"),
        prometheus=part.get("prometheusAddress", ""),
        scale_down_seconds=part.get("scaleDownSeconds", 300),
        holds=part.get("whileThrottled", "Hold") == "Hold",
    )


def _cache_volume(part: Mapping[str, Any] | None) -> CacheVolume | None:
    if part is None:
        return None
    return CacheVolume(
        size=str(part["size"]),
        storage_class=part.get("storageClassName"),
        access_mode=part.get("accessMode", "ReadWriteOnce"),
    )


def _ingress(part: Mapping[str, Any] | None) -> Ingress | None:
    if part is None:
        return None
    return Ingress(
        host=part["host"],
        path=part.get("path", "/"),
        class_name=part.get("className"),
        tls_secret=part.get("tlsSecretName"),
        annotations=part.get("annotations", {}),
    )


def _http_route(part: Mapping[str, Any] | None) -> HttpRoute | None:
    if part is None:
        return None
    return HttpRoute(
        parents=tuple(part["parentRefs"]),
        hostnames=tuple(part.get("hostnames", ())),
        path=part.get("path", "/"),
        annotations=part.get("annotations", {}),
    )


def _policy(part: Mapping[str, Any] | None) -> Policy | None:
    if part is None:
        return None
    egress = (
        Egress(cidr=e.get("cidr"), namespace=e.get("namespace"), ports=tuple(e.get("ports", ())))
        for e in part.get("egress", ())
    )
    return Policy(callers=tuple(part.get("from", ())), egress=tuple(egress))


def _service_monitor(part: Mapping[str, Any] | None) -> ServiceMonitor | None:
    if part is None:
        return None
    seconds = part.get("intervalSeconds", 30)
    return ServiceMonitor(interval_seconds=seconds, labels=part.get("labels", {}))


def _rules(part: Mapping[str, Any] | None) -> Rules | None:
    if part is None:
        return None
    return Rules(
        error_percent=part.get("errorPercent", 5),
        latency_seconds=part.get("latencySeconds", 30),
        labels=part.get("labels", {}),
    )


def _labels(part: Mapping[str, Any] | None) -> Mapping[str, str] | None:
    if part is None:
        return None
    labels: Mapping[str, str] = part.get("labels", {})
    return labels
