"""Kinds of other projects: they come, they go, and they may not be ours to read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dspy_operator import errors
from dspy_operator.edge.kube import Selection
from dspy_operator.reconcile import optional
from dspy_operator.reconcile.optional import OptionalKinds

GROUPS = {"ScaledObject": "keda.sh", "PrometheusRule": "monitoring.coreos.com"}


class Server:
    """An API server that serves what the test says."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.metrics = False
        self.away = False

    async def groups(self) -> frozenset[str]:
        if self.away:
            raise errors.UnavailableError("away")
        metrics = {"custom.metrics.k8s.io"} if self.metrics else set()
        return frozenset({"apps", *metrics, *(GROUPS[kind] for kind in self.kinds)})

    async def serves(self, kind: str) -> bool:
        return kind in self.kinds


class List:
    """A watch that is listed at once, or never."""

    def __init__(self, kind: str, *, readable: bool) -> None:
        self.selection = Selection(kind=kind)
        self.listed = asyncio.Event()
        self.ended = False
        self._readable = readable

    async def run(self) -> None:
        if self._readable:
            self.listed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


class Fixture:
    """The kinds with everything around them."""

    def __init__(self) -> None:
        self.server = Server()
        self.lists: list[List] = []
        self.forgotten: list[str] = []
        self.changes = 0
        self.readable = True
        self.kinds = OptionalKinds(
            self.server,  # type: ignore[arg-type]
            self._make,  # type: ignore[arg-type]
            self.forgotten.append,
            self._changed,
        )

    def _make(self, kind: str) -> list[List]:
        self.lists.append(List(kind, readable=self.readable))
        return self.lists[-1:]

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def around() -> AsyncIterator[Fixture]:
    made = Fixture()
    yield made
    for kind in list(made.kinds._watched):
        made.kinds._stop(kind)
    await asyncio.sleep(0)


async def test_a_kind_that_comes_is_watched_and_told_once(around: Fixture) -> None:
    await around.kinds.look()
    assert (around.kinds.served, around.changes) == (frozenset(), 0)

    around.server.kinds = {"ScaledObject"}
    await around.kinds.look()
    await around.kinds.look()
    assert around.kinds.served == {"ScaledObject"}
    assert around.changes == 1
    assert len(around.lists) == 1


async def test_a_group_without_the_kind_is_not_the_kind(around: Fixture) -> None:
    around.server.kinds = {"PrometheusRule"}
    await around.kinds.look()

    assert around.kinds.served == {"PrometheusRule"}, "ServiceMonitor is of the same group"


async def test_a_kind_that_goes_is_forgotten_and_its_watch_ends(around: Fixture) -> None:
    around.server.kinds = {"ScaledObject"}
    await around.kinds.look()
    around.server.kinds = set()
    await around.kinds.look()
    await asyncio.sleep(0)

    assert around.kinds.served == frozenset()
    assert around.forgotten == ["ScaledObject"]
    assert around.lists[0].ended
    assert around.changes == 2


async def test_an_outage_changes_nothing(around: Fixture) -> None:
    around.server.kinds = {"ScaledObject"}
    await around.kinds.look()
    around.server.away = True

    assert await around.kinds.look() is False
    assert around.kinds.served == {"ScaledObject"}


async def test_a_kind_that_we_may_not_read_does_not_count(
    around: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "_LIST_SECONDS", 0.01)
    around.readable = False
    around.server.kinds = {"ScaledObject"}
    await around.kinds.look()

    assert around.kinds.looked.is_set()
    assert around.kinds.served == frozenset()


async def test_a_custom_metrics_api_is_noticed(around: Fixture) -> None:
    around.server.metrics = True
    await around.kinds.look()

    assert around.kinds.pod_metrics
    assert around.changes == 1
