"""App -> manifests for server-side apply. They name only the fields that the operator owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_operator.core import manifest, names
from dspy_operator.core.render import (
    config,
    dashboard,
    monitoring,
    network,
    policy,
    scaling,
    storage,
    workload,
)
from dspy_operator.core.render.setting import OPTIONAL_KINDS, Installation, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest

__all__ = ["OPTIONAL_KINDS", "Installation", "Setting", "children", "missing_kinds", "refs"]


@dataclass(frozen=True, slots=True)
class _Part:
    """One child that an app may have: its name, and how it is rendered if it can be now."""

    kind: str
    name: str
    render: Callable[[Setting], Manifest | None]


def children(app: App, setting: Setting) -> tuple[Manifest, ...]:
    """Render everything that one app consists of now, in the order of creation."""
    rendered = (
        part.render(setting)
        for part in _parts(app)
        if part.kind not in OPTIONAL_KINDS or part.kind in setting.served
    )
    return tuple(_stamped(child) for child in rendered if child is not None)


def refs(app: App) -> frozenset[manifest.Ref]:
    """Name every child that belongs to an app, whether it can be rendered now or not."""
    return frozenset(manifest.Ref(part.kind, app.namespace, part.name) for part in _parts(app))


def missing_kinds(belonging: Iterable[manifest.Ref], served: frozenset[str]) -> tuple[str, ...]:
    """Name the kinds of an app's children (`refs`) that the cluster does not serve."""
    wanted = {ref.kind for ref in belonging}
    return tuple(sorted((wanted & OPTIONAL_KINDS) - served))


def _parts(app: App) -> Iterator[_Part]:
    options = app.options
    yield _Part("ServiceAccount", app.name, lambda _: config.service_account(app))
    yield _Part("ConfigMap", names.config_map(app.name), lambda _: config.document(app))
    ops = names.ops_config_map(app.name)
    yield _Part("ConfigMap", ops, lambda setting: config.ops_token(app, setting.token))
    if (volume := options.cache_volume) is not None:
        claim = names.cache_claim(app.name)
        yield _Part("PersistentVolumeClaim", claim, lambda _: storage.claim(app, volume))
    yield _Part("Service", app.name, lambda _: network.service(app))
    if (allowed := options.policy) is not None:
        yield _Part(
            "NetworkPolicy",
            app.name,
            lambda setting: policy.network_policy(app, allowed, setting),
        )
    yield _Part("PodDisruptionBudget", app.name, lambda _: scaling.disruption_budget(app))
    yield _Part("Deployment", app.name, lambda setting: _deployment(app, setting))
    if app.scaling is not None:
        yield _Part(app.scaling.kind, app.name, lambda setting: _autoscaler(app, setting))
    yield from _ways_in(app)
    yield from _observing(app)


def _deployment(app: App, setting: Setting) -> Manifest | None:
    if setting.source_digest is None:
        return None
    return workload.deployment(
        app, source_digest=setting.source_digest, old_scaler=setting.old_scaler
    )


def _autoscaler(app: App, setting: Setting) -> Manifest | None:
    """Render the autoscaler once there is something to scale, and nobody else who does."""
    if app.scaling is None or setting.source_digest is None or setting.old_scaler:
        return None
    return scaling.autoscaler(app, app.scaling, setting)


def _ways_in(app: App) -> Iterator[_Part]:
    ingress, route = app.options.ingress, app.options.http_route
    if ingress is not None:
        yield _Part("Ingress", app.name, lambda _: network.ingress(app, ingress))
    if route is not None:
        yield _Part("HTTPRoute", app.name, lambda _: network.http_route(app, route))


def _observing(app: App) -> Iterator[_Part]:
    options = app.options
    if (monitor := options.service_monitor) is not None:
        yield _Part(
            "Service", names.metrics_service(app.name), lambda _: network.metrics_service(app)
        )
        yield _Part(
            "ServiceMonitor",
            app.name,
            lambda setting: monitoring.service_monitor(app, monitor, setting),
        )
    if (rules := options.rules) is not None:
        yield _Part(
            "PrometheusRule",
            app.name,
            lambda setting: monitoring.prometheus_rule(app, rules, setting),
        )
    if (labels := options.dashboard) is not None:
        yield _Part(
            "ConfigMap",
            names.dashboard(app.name),
            lambda setting: dashboard.config_map(app, labels, setting),
        )


def _stamped(child: Manifest) -> Manifest:
    metadata = child["metadata"]
    stamp = {names.APPLIED: manifest.digest(child)[:16]}
    annotations = {**metadata.get("annotations", {}), **stamp}
    return {**child, "metadata": {**metadata, "annotations": annotations}}
