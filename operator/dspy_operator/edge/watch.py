"""List and watch of one selection, for ever: pages, bookmarks, a guard against dead streams.

kopf does this for the kinds that people write. For the children it is done here, because only a
re-list with a diff sees the deletions that a 410 swallowed, and because one event costs a tenth
(docs/design/0003-operator.md).
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from dspy_operator import errors
from dspy_operator.core.manifest import Key, key_of
from dspy_operator.edge import kube, projection

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_operator.core.manifest import Manifest
    from dspy_operator.edge.kube import Cluster, Selection
    from dspy_operator.edge.telemetry import Telemetry

_log = structlog.get_logger(__name__)

_LONGEST_WAIT: Final = 10.0
_PAUSE: Final = 0.1
"""Seconds between a stream that ended well and the next, against a server that ends all at once."""


class Sink(Protocol):
    """Where observed objects go."""

    def put(self, kind: str, live: Manifest) -> None:
        """Take an object as it is now, unless a newer one is known."""

    def drop(self, kind: str, live: Manifest) -> None:
        """Forget an object that was deleted."""

    def retain(self, selection: Selection, seen: frozenset[Key], version: str) -> None:
        """Forget what a complete list of that version did not show."""


class ListWatch:
    """Keeps a sink equal to one selection of the cluster.

    Attributes:
        listed: Set once the first complete list has reached the sink.
    """

    def __init__(
        self,
        cluster: Cluster,
        selection: Selection,
        sink: Sink,
        *,
        telemetry: Telemetry,
        beat: Callable[[str], None],
    ) -> None:
        """Prepare; `beat` hears of every line and every attempt, dead streams make no sound."""
        self.listed = asyncio.Event()
        self.selection = selection
        self._cluster = cluster
        self._sink = sink
        self._telemetry = telemetry
        self._name = f"{selection.kind}/{selection.labels}/{selection.namespace}"
        self._tell = beat
        self._version = ""
        self._failures = 0
        self._project = projection.of_kind(selection.kind)

    def _beat(self) -> None:
        self._tell(self._name)

    async def run(self) -> None:
        """List, then watch, and begin again whenever that ends; never returns."""
        while True:
            self._beat()
            try:
                self._version = self._version or await self.list_once()
                await self._follow()
                self._failures = 0
                await asyncio.sleep(_PAUSE)
            except errors.ClusterError as error:
                self._failures += 1
                self._after(error)
                await asyncio.sleep(_wait(self._failures))
            self._telemetry.watch_restarts.labels(self.selection.kind).inc()

    def _after(self, error: errors.ClusterError) -> None:
        """Log the first failure in a row; start from a list where the server spoke of an error."""
        if self._failures == 1 and not isinstance(error, errors.GoneError):
            _log.warning("watch interrupted", stream=self._name, error=str(error))
        if error.status or not isinstance(error, errors.UnavailableError):
            self._version = ""

    async def list_once(self) -> str:
        """Bring a fresh list to the sink, deletions included; return its version."""
        seen: set[Key] = set()
        version = ""
        identity = kube.RESOURCES[self.selection.kind].identity  # the items of a list lack it
        async for items, version in self._cluster.pages(self.selection):  # noqa: B007 - the last one counts
            for item in items:
                item.update(identity)
                seen.add(key_of(item))
                self._sink.put(self.selection.kind, self._project(item))
            self._beat()
        self._sink.retain(self.selection, frozenset(seen), version)
        self.listed.set()
        return version

    async def _follow(self) -> None:
        """Take what a stream brings; whatever ends it, the next goes on behind its last line."""
        async for line in self._cluster.watch(self.selection, self._version):
            self._beat()
            live = line["object"]
            if line["type"] == "ERROR":
                raise kube.error_of(live.get("code", 500), live.get("message", "watch error"))
            self._take(line["type"], live)
            self._version, self._failures = live["metadata"]["resourceVersion"], 0

    def _take(self, event: str, live: Manifest) -> None:
        kind = self.selection.kind
        if event in {"ADDED", "MODIFIED"}:
            self._sink.put(kind, self._project(live))
        elif event == "DELETED":
            self._sink.drop(kind, live)


def _wait(failures: int) -> float:
    longest = min(_LONGEST_WAIT, 0.2 * float(1 << min(failures, 10)))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
