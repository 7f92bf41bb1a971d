"""A limit of time: it ends what takes too long, and not what only a busy loop has not read yet."""

from __future__ import annotations

import asyncio
import time

import pytest

from dspy_worker.edge import patience

pytestmark = pytest.mark.timeout(30)


async def test_what_takes_too_long_ends() -> None:
    with pytest.raises(TimeoutError):
        async with patience.within(0.02):
            await asyncio.Event().wait()


async def test_what_is_quick_has_its_result_and_no_timer_is_left() -> None:
    async with patience.within(0.02):
        found = await asyncio.sleep(0, "found")
    await asyncio.sleep(0.05)

    assert found == "found"


async def test_an_answer_that_came_while_the_loop_was_busy_is_read() -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    loop.call_later(0.01, answer.set_result, "in time")
    loop.call_soon(time.sleep, 0.4)  # both timers are due when this ends

    async with patience.within(0.05):
        assert await answer == "in time"


async def test_a_loop_that_is_always_late_does_not_wait_for_ever() -> None:
    loop = asyncio.get_running_loop()
    began, stopped = time.monotonic(), asyncio.Event()

    def be_late() -> None:
        time.sleep(0.03)
        if not stopped.is_set():
            loop.call_soon(be_late)

    be_late()
    try:
        with pytest.raises(TimeoutError):
            async with patience.within(0.02):
                await asyncio.Event().wait()
    finally:
        stopped.set()

    assert time.monotonic() - began < 20


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def wait() -> None:
        async with patience.within(9):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
