"""The ten-minute comparison with fresh lists: it heals what event streams have lost."""

import asyncio
from typing import Any

import pytest

from dspy_operator import errors
from dspy_operator.core.manifest import Key
from dspy_operator.edge.telemetry import Telemetry
from dspy_operator.reconcile import resync
from dspy_operator.reconcile.optional import OptionalKinds
from dspy_operator.reconcile.queue import Queue
from dspy_operator.reconcile.store import APP_KIND
from tests.unit.operator.fakes import APP, FakeList, World, app, ref


@pytest.fixture
async def world() -> World:
    made = World()
    made.user_applies(app())
    await made.reconcile(APP)
    made.watch()
    made.woken.clear()
    return made


@pytest.fixture
def queue() -> Queue:
    async def work(_: Key) -> None:
        """Do nothing."""

    return Queue(work, Telemetry())


def lists(world: World, *kinds: str) -> Any:  # noqa: ANN401 - stands in for ListWatch
    return [FakeList(world, kind) for kind in kinds]


def waiting(queue: Queue) -> list[Key]:
    return sorted(queue._schedule._due)


async def test_a_lost_deletion_of_an_app_is_healed(world: World, queue: Queue) -> None:
    world.somebody_deletes(ref(APP_KIND), seen=False)
    assert world.store.apps() == [APP]
    await resync.resync(lists(world, APP_KIND), world.store, queue)

    assert world.store.apps() == []
    assert world.woken == [APP], "one more look drops what was kept about it"


async def test_a_lost_deletion_of_a_child_is_healed(world: World, queue: Queue) -> None:
    world.somebody_deletes(ref("Service"), seen=False)
    await world.reconcile(APP)
    assert ref("Service") not in world.cluster.objects, "nothing told it"

    await resync.resync(lists(world, APP_KIND, "Service"), world.store, queue)
    assert world.woken == [APP]
    await world.reconcile(APP)
    assert ref("Service") in world.cluster.objects


async def test_a_lost_change_is_healed(world: World, queue: Queue) -> None:
    changed = world.cluster.objects[ref("Deployment")]
    changed["spec"]["replicas"] = 5
    world.cluster.hold(changed)
    await resync.resync(lists(world, APP_KIND, "Deployment"), world.store, queue)
    await world.reconcile(APP)

    assert world.cluster.objects[ref("Deployment")]["spec"]["replicas"] == 1


async def test_every_app_is_looked_at_even_where_nothing_has_changed(
    world: World, queue: Queue
) -> None:
    for name in ("b", "c"):
        world.user_applies(app(name))
    await resync.resync(lists(world, APP_KIND), world.store, queue)

    assert [key.name for key in waiting(queue)] == ["b", "c", "qa"]
    assert world.cluster.calls[-1][0] != "get"


async def test_a_list_that_fails_forgets_nothing_and_the_others_go_on(
    world: World, queue: Queue
) -> None:
    made = lists(world, APP_KIND, "Service")
    made[0].fail = [errors.UnavailableError("away")]
    world.somebody_deletes(ref("Service"), seen=False)
    await resync.resync(made, world.store, queue)

    assert world.store.apps() == [APP]
    assert world.store.get("Service", APP) is None
    assert waiting(queue) == [APP]


class _Listed(FakeList):
    """A list that tells when it was made, as the watch behind it does."""

    def __init__(self, world: World, kind: str) -> None:
        super().__init__(world, kind)
        self.listed = asyncio.Event()


async def opened(queue: Queue, seconds: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await queue._opened.wait()
    except TimeoutError:
        return False
    return True


class ServesNothing:
    """An API server without groups."""

    async def groups(self) -> frozenset[str]:
        return frozenset()


async def test_the_queue_opens_when_all_kinds_were_listed(
    world: World, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "_RETRY_SECONDS", 0.01)
    apps, children = FakeList(world, APP_KIND), _Listed(world, "Service")
    apps.fail = [errors.NotFoundError("no such kind"), errors.ForbiddenError("not yet")]
    optional = OptionalKinds(ServesNothing(), lambda _: [], lambda _: None, lambda: None)  # type: ignore[arg-type]
    leading = asyncio.Event()
    lists: Any = [children], [apps], optional, leading
    task = asyncio.create_task(resync.run(*lists, world.store, queue))

    assert not await opened(queue)
    children.listed.set()
    assert not await opened(queue), "an optional child that exists would look missing"
    await optional.look()
    assert not await opened(queue), "another operator leads"
    leading.set()
    assert await opened(queue)
    assert waiting(queue) == [APP]
    task.cancel()
