"""The practice LM over HTTP: the part with a clock and a network.

POST /v1/chat/completions     OpenAI's, whole or as a stream with the usage in its last chunk
GET  /v1/models               one model; requests may name any
GET  /stats, DELETE /stats    what happened so far; start counting afresh
GET, PUT, DELETE /control/faults     what goes wrong on purpose; see `faults`
GET  /livez, /readyz          for probes
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dspy_worker.practice import counters, faults, wire
from dspy_worker.practice.desk import Desk
from dspy_worker.practice.faults import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from dspy_worker.practice.faults import Effect

JSON_TYPE = (b"content-type", b"application/json")
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
TRANSPORT = "practice.transport"
SHUTDOWN_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to serve.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        latency_ms: Time that each answer takes at least.
        fixed: Give each kind of prompt one constant answer: for benchmarks.
        require_key: File with the accepted keys, one a line; others get 401.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency_ms: float = 0.0
    fixed: bool = False
    require_key: Path | None = None


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also shows its transport, so that a fault can hang up."""

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self.scope["state"][TRANSPORT] = self.transport


class Completions:
    """The completions endpoint, on bare ASGI: it has to notice clients that leave, and be fast."""

    def __init__(self, desk: Desk, latency_seconds: float) -> None:
        """Serve from this desk."""
        self.desk = desk
        self.latency_seconds = latency_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        authorization = _header(scope, b"authorization")
        if not self.desk.accepts(authorization):
            self.desk.counts.refused_keys += 1
            body = wire.error(
                "The key is not accepted.", "invalid_request_error", "invalid_api_key"
            )
            await _send(send, 401, body)
            return
        try:
            request = wire.read(await _body(receive))
        except wire.RequestError as error:
            await _send(send, 400, wire.error(str(error), "invalid_request_error"))
            return
        self.desk.counts.start(counters.fingerprint(authorization), stream=request.stream)
        call = Call(desk=self.desk, request=request, scope=scope, send=send)
        try:
            await call.run(receive, self.latency_seconds)
        finally:
            self.desk.counts.in_flight -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call while it is answered."""

    desk: Desk
    request: wire.Request
    scope: Scope
    send: Send

    async def run(self, receive: Receive, latency_seconds: float) -> None:
        """Answer the call, as the faults allow."""
        effect = self.desk.effect(self.request)
        seconds = latency_seconds + effect.latency_seconds
        if not (seconds or effect.kinds or self.request.stream):
            await self._whole(effect)
            return
        leaving = asyncio.ensure_future(receive())
        try:
            if await _left(leaving, seconds):
                self.desk.counts.aborted += 1
            else:
                await self._answer(effect, leaving)
        finally:
            leaving.cancel()

    async def _answer(self, effect: Effect, leaving: asyncio.Future[Message]) -> None:
        if Kind.HANG_UP in effect.kinds:
            await self._hang_up(leaving)
        elif effect.status:
            await self._refuse(effect)
        elif self.request.stream:
            await self._stream(effect, leaving)
        else:
            await self._whole(effect)

    async def _whole(self, effect: Effect) -> None:
        texts = self.desk.answers(self.request, effect)
        used = self.desk.usage(self.request, texts)
        await _send(self.send, 200, wire.completion(self.request.model, texts, used))

    async def _refuse(self, effect: Effect) -> None:
        headers = []
        if effect.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%g" % effect.retry_after_seconds))
        kind = "rate_limit_exceeded" if effect.status == 429 else "server_error"  # noqa: PLR2004
        body = wire.error("A fault that was asked for.", kind, kind)
        await _send(self.send, effect.status, body, headers)

    async def _stream(self, effect: Effect, leaving: asyncio.Future[Message]) -> None:
        texts = self.desk.answers(self.request, effect)
        used = self.desk.usage(self.request, texts)
        await self.send({"type": "http.response.start", "status": 200, "headers": [STREAM_TYPE]})
        for index, event in enumerate(wire.events(self.request.model, texts, used)):
            if index == effect.cut_after:
                await self._hang_up(leaving)
                return
            if await _left(leaving, effect.chunk_seconds):
                self.desk.counts.aborted += 1
                return
            await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hang_up(self, leaving: asyncio.Future[Message]) -> None:
        """Close the connection; uvicorn must have noticed before it looks for our answer."""
        self.scope["state"][TRANSPORT].close()
        await leaving


async def _left(leaving: asyncio.Future[Message], seconds: float) -> bool:
    """Wait, and say whether the client left meanwhile."""
    if seconds:
        await asyncio.wait((leaving,), timeout=seconds)
    else:
        await asyncio.sleep(0)
    return leaving.done()


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    size = (b"content-length", b"%d" % len(body))
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [JSON_TYPE, size, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})


class Control:
    """The small endpoints around the completions."""

    def __init__(self, desk: Desk) -> None:
        """Look at this desk and change it."""
        self.desk = desk

    async def models(self, _: Request) -> Response:
        """List the model."""
        return Response(wire.models(["practice"]), media_type="application/json")

    async def stats(self, request: Request) -> Response:
        """Tell the counts, or start them afresh."""
        told = self.desk.counts.dump()
        if request.method == "DELETE":
            self.desk.counts = self.desk.counts.cleared()
        return JSONResponse(told)

    async def faults(self, request: Request) -> Response:
        """Tell, replace or end the faults."""
        try:
            if request.method == "PUT":
                self.desk.plan = faults.Plan(faults.read_plan(orjson.loads(await request.body())))
        except orjson.JSONDecodeError as error:
            return _problem(f"The body is not JSON: {error}.")
        except faults.PlanError as error:
            return _problem(str(error))
        if request.method == "DELETE":
            self.desk.plan = faults.Plan()
        return JSONResponse(self.desk.plan.dump())

    async def probe(self, _: Request) -> Response:
        """Answer a probe: who can answer is alive and ready."""
        return JSONResponse({"status": "ok"})


def _problem(detail: str) -> Response:
    told = {"type": "about:blank", "title": "Bad plan", "status": 400, "detail": detail}
    return JSONResponse(told, status_code=400, media_type="application/problem+json")


def application(options: Options) -> Starlette:
    """Return the ASGI application."""
    desk = Desk(fixed=options.fixed, key_file=options.require_key)
    control = Control(desk)
    completions = Completions(desk, options.latency_ms / 1000)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", control.models),
            Route("/stats", control.stats, methods=["GET", "DELETE"]),
            Route("/control/faults", control.faults, methods=["GET", "PUT", "DELETE"]),
            Route("/livez", control.probe),
            Route("/readyz", control.probe),
        ]
    )


class Server(uvicorn.Server):
    """uvicorn's server, which tells its address once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then print one JSON line with the address."""
        await super().startup(sockets)
        for host, port in (one.getsockname()[:2] for one in sockets or []):
            line = {"url": f"http://{host}:{port}/v1", "host": host, "port": port}
            sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _config(options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        application(options),
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls in flight."""
    listener = socket.create_server((options.host, options.port), backlog=2048)
    with listener:
        await Server(_config(options)).serve(sockets=[listener])


def run(options: Options) -> None:
    """Serve until a signal, and return normally then.

    uvicorn raises the signal again after its graceful stop; a handler that does nothing turns
    that into a usual end.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with asyncio.Runner(loop_factory=_config(options).get_loop_factory()) as runner:
        runner.run(serve(options))
