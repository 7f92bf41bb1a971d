"""App -> manifests for server-side apply. They name only the fields that the operator owns."""

from __future__ import annotations

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
    from collections.abc import Iterable, Iterator

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest

__all__ = ["OPTIONAL_KINDS", "Installation", "Setting", "children", "missing_kinds", "refs"]


def children(app: App, setting: Setting) -> tuple[Manifest, ...]:
    """Render everything that one app consists of now, in the order of creation."""
    wanted = (
        child
        for child in _wanted(app, setting)
        if child["kind"] not in OPTIONAL_KINDS or child["kind"] in setting.served
    )
    return tuple(_stamped(child) for child in wanted)


def refs(app: App, setting: Setting) -> frozenset[manifest.Ref]:
    """Name every child that belongs to an app, whether it can be rendered now or not."""
    full = Setting(
        token="",
        source_digest="",
        installation=setting.installation,
        served=OPTIONAL_KINDS,
        pod_metrics=True,
    )
    return frozenset(manifest.ref_of(child) for child in _wanted(app, full))


def missing_kinds(belonging: Iterable[manifest.Ref], served: frozenset[str]) -> tuple[str, ...]:
    """Name the kinds of an app's children (`refs`) that the cluster does not serve."""
    wanted = {ref.kind for ref in belonging}
    return tuple(sorted((wanted & OPTIONAL_KINDS) - served))


def _wanted(app: App, setting: Setting) -> Iterator[Manifest]:
    options = app.options
    yield config.service_account(app)
    yield config.document(app)
    yield config.ops_token(app, setting.token)
    if options.cache_volume is not None:
        yield storage.claim(app, options.cache_volume)
    yield network.service(app)
    if options.policy is not None:
        yield policy.network_policy(app, options.policy, setting)
    yield scaling.disruption_budget(app)
    if setting.source_digest is not None:
        yield from _serving(app, setting, setting.source_digest)
    if options.ingress is not None:
        yield network.ingress(app, options.ingress)
    if options.http_route is not None:
        yield network.http_route(app, options.http_route)
    yield from _observing(app, setting)


def _serving(app: App, setting: Setting, source_digest: str) -> Iterator[Manifest]:
    yield workload.deployment(app, source_digest=source_digest, old_scaler=setting.old_scaler)
    if app.scaling is not None and not setting.old_scaler:
        autoscaler = scaling.autoscaler(app, app.scaling, setting)
        if autoscaler is not None:
            yield autoscaler


def _observing(app: App, setting: Setting) -> Iterator[Manifest]:
    options = app.options
    if options.service_monitor is not None:
        yield network.metrics_service(app)
        yield monitoring.service_monitor(app, options.service_monitor, setting)
    if options.rules is not None:
        yield monitoring.prometheus_rule(app, options.rules, setting)
    if options.dashboard is not None:
        yield dashboard.config_map(app, options.dashboard, setting)


def _stamped(child: Manifest) -> Manifest:
    metadata = child["metadata"]
    stamp = {names.APPLIED: manifest.digest(child)[:16]}
    annotations = {**metadata.get("annotations", {}), **stamp}
    return {**child, "metadata": {**metadata, "annotations": annotations}}
