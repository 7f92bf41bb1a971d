"""Event streams without a server: heartbeats, slow clients, endings."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy
import pytest

from dspy_worker.core.limiter import Limits
from dspy_worker.edge.call import Call
from dspy_worker.edge.listener import Voices
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.errors import DeadlineExceeded, ProgramRaised
from dspy_worker.serve import fields, program, schema, wire
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.predict import Service
from dspy_worker.serve.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FAR = float("inf")


class Slow(dspy.Module):
    """Does what a test says."""

    signature = dspy.Signature("text -> label")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        super().__init__()
        self.work = work

    async def aforward(self, text: str) -> dspy.Prediction:
        await self.work()
        return dspy.Prediction(label="x")


@dataclass
class Client:
    """The other end: remembers what came, and may leave."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    leaves: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def body(self) -> str:
        return b"".join(m.get("body", b"") for m in self.messages).decode()

    def events(self) -> list[str]:
        return [line[7:] for line in self.body().split("\n") if line.startswith("event: ")]

    def is_complete(self) -> bool:
        return self.messages[-1].get("more_body") is False


def service(work: Callable[[], Coroutine[Any, Any, object]]) -> Service:
    module = Slow(work)
    found = fields.of_module(module, reasoning=False)
    loaded = program.Program(
        module=module,
        kind="Slow",
        schema=schema.build(found, {}, max_batch=1),
        instructions="",
        pool=ThreadPoolExecutor(1),
        is_async=True,
        settings={},
        voices=Voices(names={}, fields=frozenset({"label"}), adapter="Chat"),
    )
    admission = Admission(Limits(concurrency=1, queue_size=0))
    return Service(program=loaded, admission=admission, metrics=Metrics("qa"))


async def answer(asked: Service, client: Client, *, deadline: float = FAR) -> None:
    inputs = schema.parse(asked.program.schema.predict, b'{"inputs": {"text": "a"}}')
    stream = EventStream(asked, inputs, Call(deadline), heartbeat_seconds=0.02)
    await stream({"type": "http", "request_id": "r"}, client.receive, client.send)  # type: ignore[arg-type]


async def test_a_stream_that_waits_says_so() -> None:
    client = Client()
    await answer(service(lambda: asyncio.sleep(0.1)), client)

    assert client.body().count(": still here\n\n") >= 2
    assert client.events() == ["status", "result"]
    assert client.is_complete()


async def test_a_program_that_fails_ends_the_stream_and_is_counted_by_the_caller() -> None:
    async def fail() -> None:
        raise ValueError("no")

    client = Client()
    with pytest.raises(ProgramRaised):
        await answer(service(fail), client)

    assert client.events() == ["status", "error"]
    assert client.is_complete()
    assert json.loads(client.body().rsplit("data: ", 1)[1])["requestId"] == "r"


async def test_the_deadline_ends_the_stream_and_the_program() -> None:
    asked, client = service(lambda: asyncio.sleep(60)), Client()
    with pytest.raises(DeadlineExceeded):
        await answer(asked, client, deadline=asyncio.get_running_loop().time() + 0.1)

    assert client.events() == ["status", "error"]
    assert asked.admission.running == 0


async def test_a_client_that_leaves_ends_the_program() -> None:
    asked, client = service(lambda: asyncio.sleep(60)), Client()
    asyncio.get_running_loop().call_later(0.05, client.leaves.set)
    with pytest.raises(wire.ClientGone):
        await answer(asked, client)

    assert asked.admission.running == 0


async def test_a_worker_that_stops_says_so() -> None:
    asked, client = service(lambda: asyncio.sleep(60)), Client()
    task = asyncio.create_task(answer(asked, client))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert client.events() == ["status", "error"]
    assert json.loads(client.body().rsplit("data: ", 1)[1])["type"].endswith("draining")
    assert asked.admission.running == 0
