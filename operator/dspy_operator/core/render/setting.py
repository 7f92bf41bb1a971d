"""What a render depends on besides the app: the installation and the present state of the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONAL_KINDS: Final = frozenset({"HTTPRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor"})
"""Kinds of other projects, which a cluster may not serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """How this operator was installed; the same for all apps.

    Attributes:
        namespace: The operator's own namespace; empty where it is unknown.
        monitoring: Namespaces from which metrics are scraped.
        monitor_labels: Labels by which Prometheus selects monitors and rules.
        dashboard_labels: Labels by which Grafana's sidecar selects dashboards.
        runbooks: Base URL of the runbooks.
    """

    namespace: str = ""
    monitoring: tuple[str, ...] = ()
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    dashboard_labels: Mapping[str, str] = field(default_factory=dict)
    runbooks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All that decides about an app's children besides its spec.

    Attributes:
        token: The workers' token; the one in use where there is one.
        source_digest: Hash of the user's files; empty where the app has none; None while their
            ConfigMap is missing. Then no Deployment is rendered: pods would only fail, and those
            that run would be replaced by failing ones.
        installation: How this operator was installed.
        served: The optional kinds that the cluster serves.
        pod_metrics: Whether the cluster has a custom metrics API.
        throttled: Whether the LM provider throttles the app, so that more pods would not help.
        old_scaler: Whether an autoscaler that is not wanted any more still owns the replicas.
    """

    token: str
    source_digest: str | None
    installation: Installation = field(default_factory=Installation)
    served: frozenset[str] = frozenset()
    pod_metrics: bool = False
    throttled: bool = False
    old_scaler: bool = False
