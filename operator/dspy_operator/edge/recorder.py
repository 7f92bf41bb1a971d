"""Events of events.k8s.io/v1: repeated ones become a series, and nobody can be flooded."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from dspy_operator import errors
from dspy_operator.core import names
from dspy_operator.core.manifest import Ref
from dspy_operator.edge.limiter import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_operator.core.manifest import Manifest
    from dspy_operator.edge.kube import Cluster

_log = structlog.get_logger(__name__)

_BURST: Final = 25
_RATE: Final = 1 / 300
_SERIES_SECONDS: Final = 600.0
_REMEMBERED: Final = 4096
_NOTE_LIMIT: Final = 1000
"""In bytes; the API server refuses an Event whose note has more than 1024."""


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: float


class Recorder:
    """Writes Events about apps; losing one is never an error of the reconciliation."""

    def __init__(
        self, cluster: Cluster, *, instance: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write as `instance`, the name of our pod."""
        self._cluster = cluster
        self._instance = instance
        self._clock = clock
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def warn(self, app: Manifest, reason: str, note: str) -> None:
        """Tell of trouble."""
        await self._record(app, "Warning", reason, note)

    async def tell(self, app: Manifest, reason: str, note: str) -> None:
        """Tell of something that went well and is worth knowing."""
        await self._record(app, "Normal", reason, note)

    async def _record(self, app: Manifest, kind: str, reason: str, note: str) -> None:
        uid = app["metadata"]["uid"]
        if not self._bucket(uid).try_take():
            return
        key = (uid, reason, note)
        known = self._series.get(key)
        try:
            if known is not None and self._clock() - known.last < _SERIES_SECONDS:
                await self._repeat(app, known)
            else:
                await self._begin(app, key, kind, note)
        except errors.ClusterError as error:
            self._series.pop(key, None)  # its Event may have expired; the next one begins anew
            _log.warning("event lost", reason=reason, error=str(error))

    async def _begin(self, app: Manifest, key: tuple[str, str, str], kind: str, note: str) -> None:
        name = f"{app['metadata']['name']}.{secrets.token_hex(6)}"
        await self._cluster.create(self._event(app, name, kind, key[1], note))
        self._series[key] = _Series(name=name, count=1, last=self._clock())
        while len(self._series) > _REMEMBERED:
            self._series.popitem(last=False)

    async def _repeat(self, app: Manifest, series: _Series) -> None:
        series.count += 1
        series.last = self._clock()
        patch = {"series": {"count": series.count, "lastObservedTime": _micro_now()}}
        await self._cluster.merge(Ref("Event", app["metadata"]["namespace"], series.name), patch)

    def _event(self, app: Manifest, name: str, kind: str, reason: str, note: str) -> Manifest:
        metadata = app["metadata"]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": _micro_now(),
            "reportingController": names.MANAGER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": kind,
            "reason": reason,
            "note": note.encode()[:_NOTE_LIMIT].decode(errors="ignore"),
            "regarding": {
                "apiVersion": app["apiVersion"],
                "kind": app["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }

    def _bucket(self, uid: str) -> Bucket:
        if uid not in self._buckets:
            self._buckets[uid] = Bucket(rate=_RATE, burst=_BURST, clock=self._clock)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        return self._buckets[uid]


def _micro_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
