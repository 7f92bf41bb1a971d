"""What the pods read, and who they are: ServiceAccount and ConfigMaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import names
from dspy_worker import contract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest


def metadata(
    app: App,
    name: str,
    component: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the metadata that all children share, and further labels and annotations."""
    found = {
        "name": name,
        "namespace": app.namespace,
        "labels": {**(labels or {}), **names.labels(app.name, component)},
        "ownerReferences": [names.owner(app)],
    }
    return {**found, "annotations": dict(annotations)} if annotations else found


def service_account(app: App) -> Manifest:
    """Render an identity of its own without any right; no token is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(app, app.name, "identity"),
        "automountServiceAccountToken": False,
    }


def document(app: App) -> Manifest:
    """Render the app document that the workers load at their start."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(app, names.config_map(app.name), "config"),
        "data": {contract.APP_FILE: app.document},
    }


def ops_token(app: App, token: str) -> Manifest:
    """Render the token of the workers' report; who may read ConfigMaps may read the report."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(app, names.ops_config_map(app.name), "ops"),
        "data": {contract.OPS_TOKEN_FILE: token},
    }
