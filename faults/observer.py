"""What became true in the cluster, and in which order: the witness of all runs.

One list-and-watch per kind for the whole campaign, straight from the API server, kept apart by
namespace. Kubelet and oracles read it; the operator under test never sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import aiohttp

from faults.api import KINDS
from faults.trace import Observation

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from faults.api import Api
    from faults.trace import Manifest

_TOLD = frozenset({"ADDED", "MODIFIED", "DELETED"})


@dataclass(slots=True)
class Scene:
    """One namespace: its history, and its objects by kind and name as they are now."""

    history: list[Observation] = field(default_factory=list)
    live: dict[tuple[str, str], Manifest] = field(default_factory=dict)

    def take(self, seen: Observation) -> None:
        """Add an observation."""
        self.history.append(seen)
        key = seen.kind, seen.name
        if seen.type == "DELETED":
            self.live.pop(key, None)
        else:
            self.live[key] = seen.live


class Observer:
    """Follows all kinds of all namespaces; an asynchronous context manager."""

    def __init__(self, api: Api) -> None:
        """Nothing is asked before the context is entered."""
        self._api = api
        self._scenes: dict[str, Scene] = defaultdict(Scene)
        self._listeners: list[Callable[[Observation], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for kind in KINDS:
            items, version = await self._api.list_all(kind)
            for live in items:
                self._take(Observation(kind=kind, type="ADDED", live=live))
            self._tasks.append(asyncio.create_task(self._follow(kind, version)))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def scene(self, namespace: str) -> Scene:
        """Return what is known of a namespace; it grows while the observer runs."""
        return self._scenes[namespace]

    def forget(self, namespace: str) -> None:
        """Drop a namespace whose run was judged."""
        self._scenes.pop(namespace, None)

    def listen(self, listener: Callable[[Observation], None]) -> None:
        """Tell somebody of each observation."""
        self._listeners.append(listener)

    async def _follow(self, kind: str, version: str) -> None:
        while True:
            # The API server ends each stream after half an hour or so; the next goes on from here.
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async for line in self._api.watch(kind, version):
                    version = line["object"]["metadata"]["resourceVersion"]
                    if line["type"] in _TOLD:
                        self._take(Observation(kind=kind, type=line["type"], live=line["object"]))
            await asyncio.sleep(0.1)

    def _take(self, seen: Observation) -> None:
        self._scenes[seen.live["metadata"]["namespace"]].take(seen)
        for listener in self._listeners:
            listener(seen)
