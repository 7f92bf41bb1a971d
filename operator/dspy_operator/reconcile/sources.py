"""The ConfigMaps with the users' Python files: noticed by a watch of metadata, read when needed.

Only names and versions of foreign ConfigMaps are kept; the content is read with one GET when an
app that uses it is looked at and the version has changed, and only its hash is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import manifest
from dspy_operator.core.manifest import Key, Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_operator.core.manifest import Manifest
    from dspy_operator.edge.kube import Cluster, Selection


class Sources:
    """Versions of all ConfigMaps and hashes of those in use; a sink of the metadata watch."""

    def __init__(self, cluster: Cluster, changed: Callable[[Key], None]) -> None:
        """Call `changed` with the key of each ConfigMap that came, went or changed."""
        self._cluster = cluster
        self._changed = changed
        self._versions: dict[Key, int] = {}
        self._digests: dict[Key, tuple[int, str]] = {}

    def put(self, kind: str, live: Manifest) -> None:  # noqa: ARG002 - the Sink protocol
        """Remember a version."""
        key, version = manifest.key_of(live), int(live["metadata"]["resourceVersion"])
        if self._versions.get(key, 0) < version:
            self._versions[key] = version
            self._changed(key)

    def drop(self, kind: str, live: Manifest) -> None:  # noqa: ARG002 - the Sink protocol
        """Forget a deleted ConfigMap."""
        self._forget(manifest.key_of(live))

    def retain(self, selection: Selection, seen: frozenset[Key], version: str) -> None:
        """Forget what a complete list did not show."""
        gone = [
            key
            for key, known in self._versions.items()
            if key not in seen
            and known <= int(version)
            and selection.namespace in {"", key.namespace}
        ]
        for key in gone:
            self._forget(key)

    async def digest(self, key: Key) -> str | None:
        """Return the hash of a ConfigMap's content, or None where it does not exist.

        Raises:
            ClusterError: It could not be read.
        """
        version = self._versions.get(key)
        if version is None:
            return None
        known = self._digests.get(key)
        if known is None or known[0] < version:
            known = await self._read(key)
        return None if known is None else known[1]

    async def _read(self, key: Key) -> tuple[int, str] | None:
        live = await self._cluster.get(Ref("ConfigMap", key.namespace, key.name))
        if live is None:
            return None
        content = [live.get("data", {}), live.get("binaryData", {})]
        self._digests[key] = int(live["metadata"]["resourceVersion"]), manifest.digest(content)
        return self._digests[key]

    def _forget(self, key: Key) -> None:
        self._versions.pop(key, None)
        self._digests.pop(key, None)
        self._changed(key)
