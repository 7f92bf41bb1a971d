"""How an app is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import names
from dspy_operator.core.render import config, workload

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest


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
    metadata = config.metadata(app, app.name, "service")
    if app.service.annotations:
        metadata["annotations"] = dict(app.service.annotations)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": app.service.type,
            "selector": names.selector(app.name),
            "ports": [port],
        },
    }
