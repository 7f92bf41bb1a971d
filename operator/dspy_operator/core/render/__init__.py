"""App -> manifests for server-side apply. They name only the fields that the operator owns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import manifest, names
from dspy_operator.core.render import config, network, workload

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest


def children(app: App, *, token: str, source_digest: str | None) -> tuple[Manifest, ...]:
    """Render everything that one app consists of, in the order of creation.

    Args:
        app: The app.
        token: The workers' token; the one in use where there is one.
        source_digest: Hash of the user's files; empty where the app has none; None while their
            ConfigMap is missing. Then no Deployment is rendered: pods would only fail, and those
            that run would be replaced by failing ones.
    """
    rendered = [
        config.service_account(app),
        config.document(app),
        config.ops_token(app, token),
        network.service(app),
    ]
    if source_digest is not None:
        rendered.append(workload.deployment(app, source_digest=source_digest))
    return tuple(_stamped(child) for child in rendered)


def refs(app: App) -> frozenset[manifest.Ref]:
    """Name every child that belongs to an app, whether it can be rendered now or not."""
    return frozenset(manifest.ref_of(child) for child in children(app, token="", source_digest=""))


def _stamped(child: Manifest) -> Manifest:
    metadata = child["metadata"]
    stamp = {names.APPLIED: manifest.digest(child)[:16]}
    annotations = {**metadata.get("annotations", {}), **stamp}
    return {**child, "metadata": {**metadata, "annotations": annotations}}
