"""How an app is reached: Service, Ingress, HTTPRoute, and the Service of the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import names
from dspy_operator.core.render import config, workload

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.options import HttpRoute, Ingress

METRICS = "metrics"
"""Component of the Service that a ServiceMonitor selects."""


def service(app: App) -> Manifest:
    """Render the Service with the app's name; the ops port is not in it."""
    port: Manifest = {
        "name": workload.HTTP,
        "port": app.service.port,
        "protocol": "TCP",
        "targetPort": workload.HTTP,
    }
    if app.service.node_port is not None:
        port["nodePort"] = app.service.node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": config.metadata(app, app.name, "service", annotations=app.service.annotations),
        "spec": {
            "type": app.service.type,
            "selector": names.selector(app.name),
            "ports": [port],
        },
    }


def metrics_service(app: App) -> Manifest:
    """Render the headless Service by which the pods' ops ports are found and scraped."""
    port = {"name": workload.OPS, "port": 9090, "protocol": "TCP", "targetPort": workload.OPS}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": config.metadata(app, names.metrics_service(app.name), METRICS),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": names.selector(app.name),
            # A pod that is not ready has metrics too, and they tell why.
            "publishNotReadyAddresses": True,
            "ports": [port],
        },
    }


def ingress(app: App, wanted: Ingress) -> Manifest:
    """Render an Ingress that sends everything below the path to the Service."""
    backend = {"service": {"name": app.name, "port": {"name": workload.HTTP}}}
    path = {"path": wanted.path, "pathType": "Prefix", "backend": backend}
    spec: Manifest = {"rules": [{"host": wanted.host, "http": {"paths": [path]}}]}
    if wanted.class_name is not None:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret is not None:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": config.metadata(app, app.name, "ingress", annotations=wanted.annotations),
        "spec": spec,
    }


def http_route(app: App, wanted: HttpRoute) -> Manifest:
    """Render an HTTPRoute that sends everything below the path to the Service."""
    match = {"path": {"type": "PathPrefix", "value": wanted.path}}
    backend = {"name": app.name, "port": app.service.port}
    spec: Manifest = {
        "parentRefs": [dict(parent) for parent in wanted.parents],
        "rules": [{"matches": [match], "backendRefs": [backend]}],
    }
    if wanted.hostnames:
        spec["hostnames"] = list(wanted.hostnames)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": config.metadata(app, app.name, "route", annotations=wanted.annotations),
        "spec": spec,
    }
