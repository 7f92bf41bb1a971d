"""The proxy between sockets: what it forwards, records, breaks and holds."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from faults.injector import Injector
from faults.plans import Kind, Plan, Point
from faults.proxy import Proxy
from faults.trace import Trace
from tests.unit.faults.test_injector import FakeLevers

PODS = "/api/v1/namespaces/team/pods"
SERVICE = "/api/v1/namespaces/team/services/a"


def event(kind: str, version: int) -> bytes:
    metadata = {"name": "a", "uid": "u", "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"metadata": metadata}}).encode() + b"\n"


class FakeServer:
    """An API server that remembers what was asked, and has three lines for each watch."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.raw_path}")
        if "watch=true" not in request.query_string:
            return web.json_response({"metadata": {"resourceVersion": "7"}})
        response = web.StreamResponse()
        await response.prepare(request)
        whole = event("ADDED", 1) + event("MODIFIED", 2) + event("MODIFIED", 3)
        await response.write(whole[:20])
        await response.write(whole[20:])
        return response


class FakeApi:
    """What the proxy uses of `Api`."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session, self.server = session, server


@contextlib.asynccontextmanager
async def proxied(plan: Plan | None = None) -> AsyncIterator[tuple[Proxy, FakeServer, str]]:
    """Start a fake server with a proxy in front of it; yield these and the proxy's address."""
    server = FakeServer()
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        upstream = FakeApi(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
        proxy = Proxy(upstream, upstream, Trace(step="create"))  # type: ignore[arg-type]
        address = await proxy.start(Injector(plan, FakeLevers()))
        yield proxy, server, address
        await proxy.stop()
    await runner.cleanup()


def plan(kind: Kind, what: str) -> Plan:
    return Plan("s", kind, Point("create", what))


async def lines(address: str) -> list[str]:
    """Watch until the stream ends; return the types of the lines, `broken` for half a one."""
    found = []
    url = f"{address}{PODS}?watch=true"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        try:
            async for raw in response.content:
                found.append(  # noqa: PERF401 - what came before a broken end counts
                    json.loads(raw)["type"] if raw.endswith(b"\n") else "broken"
                )
        except aiohttp.ClientError:
            found.append("cut")
    return found


async def test_a_write_is_forwarded_and_recorded_with_its_answer() -> None:
    async with proxied() as (proxy, server, address), aiohttp.ClientSession() as session:
        async with session.patch(f"{address}{SERVICE}?force=true", data=b"{}") as response:
            assert response.status == 200
        recorded = proxy.trace.requests[0]

    assert server.asked == [f"PATCH {SERVICE}?force=true"]
    assert (str(recorded.target), recorded.status, recorded.version) == ("services a", 200, "7")


@pytest.mark.parametrize(
    ("kind", "reached"), [(Kind.LOST_REPLY, 1), (Kind.CRASH_BEFORE, 0), (Kind.CRASH_AFTER, 1)]
)
async def test_a_connection_breaks_instead_of_an_answer(kind: Kind, reached: int) -> None:
    armed = plan(kind, "patch services a")
    async with proxied(armed) as (_, server, address), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.patch(f"{address}{SERVICE}", data=b"{}")

        assert len(server.asked) == reached


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None, ["ADDED", "MODIFIED", "MODIFIED"]),
        (Kind.HIDE, ["ADDED", "MODIFIED"]),
        (Kind.GONE, ["ADDED", "ERROR"]),
        (Kind.SILENT, ["ADDED"]),
    ],
)
async def test_a_stream_is_passed_on_line_by_line_or_not(
    kind: Kind | None, expected: list[str]
) -> None:
    armed = None if kind is None else plan(kind, "pods MODIFIED a")
    async with proxied(armed) as (proxy, _, address):
        assert await lines(address) == expected
        assert proxy.open_streams() == frozenset()


async def test_half_a_line_breaks_the_connection() -> None:
    async with proxied(plan(Kind.BROKEN_LINE, "pods MODIFIED a")) as (_, _, address):
        found = await lines(address)

    assert found[-1] == "cut"
    assert "MODIFIED" not in found


async def test_a_list_of_the_past_names_its_version_and_other_requests_do_not() -> None:
    async with proxied() as (proxy, server, address), aiohttp.ClientSession() as session:
        proxy.injector.go_back("42")
        for path in (f"{PODS}?limit=5", SERVICE, "/apis/apps/v1"):
            await session.get(f"{address}{path}")

    assert server.asked == [
        f"GET {PODS}?limit=5&resourceVersion=42&resourceVersionMatch=Exact",
        f"GET {SERVICE}",
        "GET /apis/apps/v1",
    ]


async def test_an_operator_that_dies_does_not_undo_what_it_has_asked() -> None:
    async with proxied() as (proxy, server, address):
        session = aiohttp.ClientSession()
        asking = asyncio.create_task(session.patch(f"{address}{SERVICE}", data=b"{}"))
        while not server.asked:
            await asyncio.sleep(0.01)
        asking.cancel()
        await session.close()
        await asyncio.sleep(0.1)

        assert proxy.trace.requests[0].status == 200
