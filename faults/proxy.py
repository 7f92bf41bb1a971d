"""A reverse proxy in front of a real API server: plain HTTP inside, TLS with a certificate outside.

It forwards, records into a `Trace`, and asks an `Injector` what the operator gets to see.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from faults import api
from faults.injector import Answer, CutError, Exchange, Injector, Then
from faults.trace import Request, Trace, stream_name

if TYPE_CHECKING:
    from faults.api import Api

_PASSED_ON = ("Accept", "Content-Type", "User-Agent")
_GIVEN_BACK = ("Content-Type", "Retry-After")


class Proxy:
    """What one operator takes for the API server.

    Attributes:
        trace: What it saw.
        injector: The fault.
    """

    def __init__(self, upstream: Api, rival: Api, trace: Trace) -> None:
        """Prepare.

        Args:
            upstream: The API server, open as the operator's user.
            rival: The same, open as somebody who may write everything.
            trace: Takes what is seen.
        """
        self.trace = trace
        self.injector: Injector
        self._upstream = upstream
        self._rival = rival
        self._streams: dict[asyncio.Task[web.StreamResponse], web.BaseRequest] = {}
        self._open: Counter[str] = Counter()

    async def start(self, injector: Injector) -> str:
        """Listen on a free port and return the URL."""
        self.injector = injector
        self._runner = web.ServerRunner(
            web.Server(self._handle), handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close everything, streams first: they would wait for lines that nobody reads."""
        self.end_streams(broken=True)
        await self._runner.cleanup()

    def open_streams(self) -> frozenset[str]:
        """Return the names of the streams that are open now."""
        return frozenset(name for name, count in self._open.items() if count)

    def end_streams(self, *, broken: bool) -> None:
        """End all streams, properly or by breaking their connections."""
        for pump, request in list(self._streams.items()):
            if broken and request.transport is not None:
                request.transport.abort()
            pump.cancel()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        asked = self.trace.ask(request.method, request.path, request.query_string, body)
        try:
            if asked.verb == "watch":
                return await self._stream(request, asked)
            # A client that dies must not undo what was already asked of the API server.
            work = asyncio.ensure_future(
                self.injector.request(self._exchange(request, asked, body))
            )
            work.add_done_callback(_look_at)
            answer = await asyncio.shield(work)
        except (CutError, ConnectionResetError):  # ours, or the operator's own end
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _exchange(self, request: web.BaseRequest, asked: Request, body: bytes) -> Exchange:
        async def forward() -> Answer:
            answer = await self._ask(self._upstream, request, body)
            self.trace.answer(asked, answer.status, answer.body)
            return answer

        async def again() -> Answer:
            return await self._ask(self._rival, request, body)

        return Exchange(request=asked, forward=forward, again=again)

    async def _ask(self, through: Api, request: web.BaseRequest, body: bytes) -> Answer:
        async with through.session.request(
            request.method,
            self._url(request),
            data=body or None,
            headers=_some(request.headers, _PASSED_ON),
        ) as response:
            content = await response.read()
            headers = _some(response.headers, _GIVEN_BACK)
            return Answer(status=response.status, body=content, headers=headers)

    def _url(self, request: web.BaseRequest) -> str:
        """Return the address upstream; a list of the past names its version."""
        url = f"{self._upstream.server}{request.raw_path}"
        past = self.injector.stale_version
        is_list = request.method == "GET" and request.path.rpartition("/")[2] in api.RESOURCES
        if not past or not is_list or "continue=" in url:
            return url
        mark = "&" if "?" in url else "?"
        return f"{url}{mark}resourceVersion={past}&resourceVersionMatch=Exact"

    async def _stream(self, request: web.BaseRequest, asked: Request) -> web.StreamResponse:
        refused = self.injector.refuse_stream()
        if refused is not None:
            return web.Response(status=refused.status, body=refused.body)
        name = stream_name(asked.target, request.headers.get("Accept", ""))
        pump = asyncio.create_task(self._pump(request, name))
        self._streams[pump] = request
        try:
            await asyncio.wait([pump])
        finally:
            pump.cancel()
            del self._streams[pump]
        return web.Response() if pump.cancelled() else pump.result()

    async def _pump(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        await asyncio.sleep(self.injector.held_seconds(name))
        async with self._upstream.session.get(
            f"{self._upstream.server}{request.raw_path}",
            headers=_some(request.headers, _PASSED_ON),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            if upstream.status != HTTPStatus.OK:
                return web.Response(status=upstream.status, body=await upstream.read())
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            self._open[name] += 1
            try:
                await self._pass_on(upstream, response, name)
            except asyncio.CancelledError:
                if request.transport is None or request.transport.is_closing():
                    raise
            finally:
                self._open[name] -= 1
            return response  # aiohttp writes its proper end

    async def _pass_on(
        self, upstream: aiohttp.ClientResponse, response: web.StreamResponse, name: str
    ) -> None:
        silent = False
        async for raw in api.lines(upstream):
            sent = self.injector.line(self.trace.line(name, raw), raw)
            silent = silent or sent.then is Then.SILENCE
            if silent:
                continue
            await asyncio.sleep(self.injector.held_seconds(name))
            await response.write(sent.data)
            if sent.then is Then.BREAK:
                raise CutError
            if sent.then is Then.END:
                return


def _some(headers: object, names: tuple[str, ...]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}  # type: ignore[index,operator]


def _look_at(work: asyncio.Future[Answer]) -> None:
    """Take the outcome of work whose client may be dead, so that asyncio does not complain."""
    if not work.cancelled():
        work.exception()
