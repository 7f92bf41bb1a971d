"""The claim of the cache volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import names
from dspy_operator.core.render import config

if TYPE_CHECKING:
    from dspy_operator.core.app import App
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.core.options import CacheVolume


def claim(app: App, volume: CacheVolume) -> Manifest:
    """Render the PersistentVolumeClaim; what cannot change later the CRD refuses to change."""
    spec: Manifest = {
        "accessModes": [volume.access_mode],
        "resources": {"requests": {"storage": volume.size}},
    }
    if volume.storage_class is not None:
        spec["storageClassName"] = volume.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": config.metadata(app, names.cache_claim(app.name), "cache"),
        "spec": spec,
    }
