"""Steps of DSPy that run on the spot instead of in a thread."""

from __future__ import annotations

import asyncio
import threading

import pytest
import uvloop
from dspy.clients import execution

from dspy_worker.edge import inline


def named(name: str, module: str = execution.__name__) -> object:
    def step(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return threading.current_thread()

    step.__name__, step.__module__ = name, module
    return step


async def run(step: object, value: object = None) -> object:
    asyncio.get_running_loop().set_default_executor(inline.InlineExecutor(1))
    return await asyncio.to_thread(step, value)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_a_cheap_step_stays_in_the_thread_of_the_loop(runner: object) -> None:
    assert runner(run(named("prepare"))) is threading.main_thread()


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_what_a_cheap_step_raises_arrives(runner: object) -> None:
    with pytest.raises(KeyError, match="gone"):
        runner(run(named("prepare"), KeyError("gone")))


@pytest.mark.parametrize("step", [named("_store"), named("prepare", "users_app")])
async def test_any_other_step_gets_a_thread(step: object) -> None:
    assert await run(step) is not threading.main_thread()


def test_dspy_still_has_the_steps() -> None:
    assert all(hasattr(execution, name) for name in ("prepare", "_price_result"))
