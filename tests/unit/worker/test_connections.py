"""The asynchronous engine on real sockets: an LM that says nothing takes no connection away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from dspy import lm15

from dspy_worker.contract.app import Model
from dspy_worker.edge import engine, keys
from dspy_worker.edge.attempts import Link
from dspy_worker.edge.guard import Guard
from dspy_worker.edge.telemetry import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = lm15.Request(model="openai/m", messages=(lm15.Message.user("Hello"),))
ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Server:
    """An LM that stops its answers after so many bytes; None is a whole answer."""

    def __init__(self, *says: int | None) -> None:
        self.says = list(says)
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write((HEAD % len(ANSWER) + ANSWER)[: self.says.pop(0)])
            await reader.read()  # until the client has gone
        writer.close()
        await writer.wait_closed()
        self.open -= 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[engine.AsyncEngine]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        model = Model(name="main", model="m", endpoint=f"http://127.0.0.1:{port}/v1", max_retries=0)
        quick = replace(model, timeout_seconds=0.2)  # type: ignore[arg-type]
        metrics = Metrics("tickets")
        link = Link(
            model=quick,
            key=keys.NoKey(),
            metrics=metrics,
            guard=Guard(quick, metrics),
            connections=1,
            threads=1,
        )
        asked = engine.AsyncEngine(link)
        try:
            yield asked
        finally:
            await asked.aclose()
            while self.open:
                await asyncio.sleep(0.01)
            server.close()


@pytest.mark.parametrize("says", [0, 20, len(HEAD) + 5])
async def test_an_answer_that_stops_is_a_timeout_and_frees_its_connection(says: int) -> None:
    async with Server(says, None).running() as asked:
        with pytest.raises(lm15.TimeoutError, match=r"no answer within 0\.2 s"):
            await asked.complete(REQUEST)

        again = await asked.complete(REQUEST)

    assert again.message.text == "hi"


async def test_who_waits_for_a_connection_waits_no_longer_than_for_an_answer() -> None:
    async with Server(0, 0).running() as asked:
        first = asyncio.create_task(asked.complete(REQUEST))
        second = asyncio.create_task(asked.complete(REQUEST))
        found = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(one) for one in found] == [lm15.TimeoutError, lm15.TimeoutError]
