"""The load generator counts a stream only when its result has come."""

import asyncio
import json

import pytest

from devcluster import load

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"
STATUS = b'event: status\ndata: {"state":"running"}\n\n'
RESULT = b'event: result\ndata: {"prediction":{"label":"billing"}}\n\n'


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def tallied(answer: bytes) -> load.Tally:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url, tally = f"http://127.0.0.1:{port}/v1/predict/stream", load.Tally()
        await load.ask(url, load.request_bytes(url, b"{}"), tally, 5)
        return tally


async def test_a_whole_stream_is_an_answer() -> None:
    summary = (await tallied(HEAD + chunked(STATUS, RESULT))).summary()

    assert (summary["ok"], summary["failed"]) == (1, 0)
    assert summary["answers"] == {json.dumps({"label": "billing"}): 1}


@pytest.mark.parametrize(
    "rest", [chunked(STATUS), chunked(STATUS)[:-9], chunked(STATUS, b"event: error\ndata: {}\n\n")]
)
async def test_a_stream_without_its_result_has_failed(rest: bytes) -> None:
    summary = (await tallied(HEAD + rest)).summary()

    assert (summary["ok"], summary["failed"]) == (0, 1)
    assert any("without a result" in error for error in summary["errors"])
