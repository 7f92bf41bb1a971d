"""Slots and the queue, as waiting requests see them."""

from __future__ import annotations

import asyncio

import pytest

from dspy_worker.core.limiter import Limits
from dspy_worker.errors import QueueFull
from dspy_worker.serve.admission import Admission


def admission(concurrency: int = 1, queue_size: int = 2) -> Admission:
    return Admission(Limits(concurrency=concurrency, queue_size=queue_size))


async def hold(slots: Admission, order: list[str], name: str, *, patient: bool = False) -> None:
    async with slots.slot(patient=patient):
        order.append(name)
        await asyncio.sleep(0)


async def test_those_who_wait_are_served_in_order() -> None:
    slots, order = admission(), []

    await asyncio.gather(*(hold(slots, order, name) for name in "abc"))

    assert order == ["a", "b", "c"]
    assert (slots.running, slots.waiting) == (0, 0)


async def test_who_finds_the_queue_full_is_refused_with_a_time() -> None:
    slots, order = admission(), []
    tasks = [asyncio.create_task(hold(slots, order, name)) for name in "abc"]
    await asyncio.sleep(0)

    with pytest.raises(QueueFull, match="All 1 slots are busy and 2 requests wait") as caught:
        await hold(slots, order, "d")

    assert caught.value.retry_after == 1
    await asyncio.gather(*tasks)


async def test_the_patient_wait_in_spite_of_a_full_queue() -> None:
    slots, order = admission(queue_size=0), []

    await asyncio.gather(hold(slots, order, "a"), hold(slots, order, "b", patient=True))

    assert order == ["a", "b"]


async def test_who_leaves_the_queue_takes_no_slot() -> None:
    slots, order = admission(), []
    tasks = [asyncio.create_task(hold(slots, order, name)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()

    await asyncio.gather(*tasks, return_exceptions=True)

    assert order == ["a", "c"]
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_slot_that_comes_with_a_cancellation_is_passed_on() -> None:
    slots, order = admission(), []
    async with slots.slot():
        tasks = [asyncio.create_task(hold(slots, order, name)) for name in "ab"]
        await asyncio.sleep(0)
    tasks[0].cancel()

    await asyncio.gather(*tasks, return_exceptions=True)

    assert order == ["b"]
    assert slots.running == 0


async def test_an_error_frees_the_slot() -> None:
    slots = admission()

    with pytest.raises(KeyError):
        async with slots.slot():
            raise KeyError

    assert slots.running == 0


async def test_who_leaves_in_the_moment_of_the_hand_over_is_only_cancelled() -> None:
    slots = admission()
    first, second = slots.slot(), slots.slot()
    await first.__aenter__()
    waiting = asyncio.create_task(second.__aenter__())
    await asyncio.sleep(0)

    waiting.cancel()
    await first.__aexit__(None, None, None)

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (slots.running, slots.waiting) == (0, 0)
