"""Watches the kinds of other projects while the cluster serves them.

A kind counts as served once it was listed: before that a child that exists would look missing.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from dspy_operator import errors
from dspy_operator.edge import discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspy_operator.edge.discovery import Found
    from dspy_operator.edge.kube import Cluster
    from dspy_operator.edge.watch import ListWatch

_log = structlog.get_logger(__name__)

PERIOD_SECONDS: Final = 20.0
"""A kind that appears is noticed within this time, and listed a moment later."""
_RETRY_SECONDS: Final = 2.0
_LIST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Watched:
    lists: Sequence[ListWatch]
    tasks: Sequence[asyncio.Task[None]]


class OptionalKinds:
    """The optional kinds that are served and watched.

    Attributes:
        served: The kinds that were listed at least once and are watched since.
        pod_metrics: Whether the cluster has a custom metrics API.
        looked: Set after the first look that succeeded.
    """

    def __init__(
        self,
        cluster: Cluster,
        lists: Callable[[str], Sequence[ListWatch]],
        forget: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """Start with no kind.

        Args:
            cluster: Where to look.
            lists: Makes the watches of a kind.
            forget: Hears of a kind that is not served any more.
            changed: Called when what is served has changed.
        """
        self.served: frozenset[str] = frozenset()
        self.pod_metrics = False
        self.looked = asyncio.Event()
        self._cluster = cluster
        self._lists = lists
        self._forget = forget
        self._changed = changed
        self._watched: dict[str, _Watched] = {}

    @property
    def lists(self) -> list[ListWatch]:
        """Return the watches of the kinds that are served now."""
        return [each for watched in self._watched.values() for each in watched.lists]

    async def run(self) -> None:
        """Look for ever; the watches end with this."""
        try:
            while True:
                wait = PERIOD_SECONDS if await self.look() else _RETRY_SECONDS
                await asyncio.sleep(wait * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load
        finally:
            for kind in list(self._watched):
                self._stop(kind)

    async def look(self) -> bool:
        """Look once; return whether the API server answered."""
        try:
            found = await discovery.look(self._cluster)
        except errors.ClusterError as error:
            _log.warning("discovery failed", error=str(error))
            return False
        await self._follow(found)
        self.looked.set()
        return True

    async def _follow(self, found: Found) -> None:
        before = self.served, self.pod_metrics
        for kind in sorted(set(self._watched) - found.kinds):
            self._stop(kind)
            self._forget(kind)
        for kind in sorted(found.kinds - set(self._watched)):
            self._start(kind)
        await self._wait_for_lists()
        self.served = frozenset(kind for kind in self._watched if self._is_listed(kind))
        self.pod_metrics = found.pod_metrics
        if before != (self.served, self.pod_metrics):
            served = sorted(self.served)
            _log.info("optional kinds", served=served, custom_metrics=self.pod_metrics)
            self._changed()

    def _start(self, kind: str) -> None:
        lists = self._lists(kind)
        tasks = [asyncio.create_task(each.run()) for each in lists]
        self._watched[kind] = _Watched(lists, tasks)

    def _stop(self, kind: str) -> None:
        for task in self._watched.pop(kind).tasks:
            task.cancel()

    async def _wait_for_lists(self) -> None:
        """Wait for the first lists, but not for ever: our rights may not cover a kind."""
        waiting = [asyncio.create_task(each.listed.wait()) for each in self.lists]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=_LIST_SECONDS)
            for task in late:
                task.cancel()

    def _is_listed(self, kind: str) -> bool:
        return all(each.listed.is_set() for each in self._watched[kind].lists)
