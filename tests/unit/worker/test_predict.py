"""Programs that behave badly: the answer is an error, for their own request and for no other."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.lm15 import Usage

from dspy_worker.core.limiter import Limits
from dspy_worker.edge.call import Call
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.errors import ProgramRaised
from dspy_worker.serve import fields, program, schema, wire
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.batch import Batch
from dspy_worker.serve.predict import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_worker.core.answer import Record


class Echo(dspy.Module):
    """Answers with its input, but misbehaves when it is asked to."""

    signature = dspy.Signature(
        {"text": (str, dspy.InputField()), "label": (Any, dspy.OutputField())}
    )

    def __init__(self, misbehave: Callable[[], object]) -> None:
        super().__init__()
        self.misbehave = misbehave

    async def aforward(self, text: str) -> dspy.Prediction:
        found = self.misbehave() if text == "bad" else text
        return dspy.Prediction(label=await found if asyncio.iscoroutine(found) else found)


def leave() -> object:
    raise SystemExit(3)


async def await_what_it_has_cancelled() -> object:
    inner = asyncio.create_task(asyncio.sleep(9))
    inner.cancel()
    return await inner


def cyclic() -> object:
    found: list[object] = []
    found.append(found)
    return found


misbehaving = pytest.mark.parametrize(
    "misbehave",
    [
        leave,
        await_what_it_has_cancelled,
        cyclic,
        pytest.param(object, id="an object that is no JSON"),
        pytest.param(lambda: {"x": b"\xff"}, id="bytes that are no UTF-8"),
    ],
)


def service(misbehave: Callable[[], object]) -> Service:
    module = Echo(misbehave)
    loaded = program.Program(
        module=module,
        kind="Echo",
        schema=schema.build(fields.of_module(module, reasoning=False), {}),
        instructions="",
        pool=ThreadPoolExecutor(1),
        is_async=True,
        settings={},
    )
    admission = Admission(Limits(concurrency=2, queue_size=2))
    return Service(program=loaded, admission=admission, metrics=Metrics("tickets"))


@misbehaving
async def test_a_program_that_misbehaves_is_named(misbehave: Callable[[], object]) -> None:
    asked = service(misbehave)

    with pytest.raises(ProgramRaised):
        await asked.predict(asked.program.schema.inputs(text="bad"), Call(time.monotonic() + 9))

    assert asked.admission.running == 0


@misbehaving
async def test_the_other_items_of_a_batch_are_answered(misbehave: Callable[[], object]) -> None:
    asked = service(misbehave)
    items = [asked.program.schema.inputs(text=text) for text in ("a", "bad", "b")]

    first, bad, last = await Batch(asked, items, Call(time.monotonic() + 9)).run()

    assert (first["prediction"], last["prediction"]) == ({"label": "a"}, {"label": "b"})
    assert bad["problem"]["status"] == 500


async def test_a_cancelled_prediction_stays_cancelled_and_frees_its_slot() -> None:
    asked = service(lambda: asyncio.sleep(9))
    inputs = asked.program.schema.inputs(text="bad")
    task = asyncio.create_task(asked.predict(inputs, Call(time.monotonic() + 9)))
    await asyncio.sleep(0.01)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked.admission.running == 0


def test_half_of_a_surrogate_pair_does_not_spoil_an_answer() -> None:
    """JSON may name one in an LM's reply; UTF-8 cannot hold it."""
    assert json.loads(wire.dump({"label": "a\ud800b"})) == {"label": "a?b"}


class Page:
    """A notebook that can be read."""

    takes = True

    def __init__(self) -> None:
        self.records: list[Record] = []

    def note(self, record: Record) -> None:
        self.records.append(record)


@pytest.mark.parametrize(("nanos", "told"), [(1_500, "0.0000015"), (None, None)])
async def test_a_record_has_the_cost_that_the_answer_tells(
    nanos: int | None, told: str | None
) -> None:
    page = Page()
    asked = replace(service(object), notebook=page)
    call = Call(time.monotonic() + 9)
    call.used(Usage(input_tokens=10, output_tokens=5), nanos)

    found = await asked.predict(asked.program.schema.inputs(text="a"), call)

    assert page.records[0].cost_nanos == nanos
    assert found["usage"].get("costUsd") == told
