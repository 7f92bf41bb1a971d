"""When our view of an app may be behind, and the one read that settles it.

Each kind has a stream of its own, and streams are not in step. Two moments are dangerous: after a
restart, when lists and streams may come from a lagging API server, and when a child of a finished
app is missing, for then the app itself may be gone and only its deletion is late or lost. Writing
from such a view would roll a newer version back, or make children that the garbage collector
deletes, again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_operator.core import app as app_spec
from dspy_operator.core.manifest import Key, Ref, key_of
from dspy_operator.edge import projection
from dspy_operator.reconcile.store import APP_KIND

if TYPE_CHECKING:
    from dspy_operator.core.manifest import Manifest
    from dspy_operator.edge.kube import Cluster
    from dspy_operator.reconcile.store import Store


class Doubts:
    """Remembers which apps it has asked for since the start; a new app costs no read."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        """Ask `cluster`, and let `store` learn the answers."""
        self._cluster = cluster
        self._store = store
        self._settled: dict[Key, str] = {}

    def forget(self, key: Key) -> None:
        """Forget an app that is gone."""
        self._settled.pop(key, None)

    async def are_justified(self, live: Manifest, *, missing: bool) -> bool:
        """Tell, before a write, whether an app is gone or changed without our having heard of it.

        The store has learned the present state then, and the queue comes back to the app.

        Args:
            live: The app as we know it.
            missing: Whether a child is to be made.

        Raises:
            ClusterError: The app could not be read.
        """
        key, uid = key_of(live), live["metadata"]["uid"]
        is_first = self._settled.get(key) != uid
        if app_spec.has_past(live) and (is_first or missing) and await self._is_behind(live):
            return True
        self._settled[key] = uid
        return False

    async def _is_behind(self, live: Manifest) -> bool:
        key = key_of(live)
        found = await self._cluster.get(Ref(APP_KIND, key.namespace, key.name))
        if found is None:
            self._store.forget(APP_KIND, key)
            return True
        self._store.put(APP_KIND, projection.trim(found))
        return _identity(found) != _identity(live)


def _identity(live: Manifest) -> tuple[object, ...]:
    """Return what must be equal for a decision to hold."""
    metadata = live["metadata"]
    return metadata["uid"], metadata["generation"], metadata.get("deletionTimestamp")
