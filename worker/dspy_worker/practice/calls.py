"""The completions endpoint, on bare ASGI: it has to notice clients that leave, and be fast."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_worker.practice import counters, wire
from dspy_worker.practice.faults import Kind

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from dspy_worker.practice.desk import Desk
    from dspy_worker.practice.faults import Effect

JSON_TYPE = (b"content-type", b"application/json")
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
TRANSPORT = "practice.transport"
"""Where `scope["state"]` holds the connection, so that a fault can hang up."""


class Completions:
    """`POST /v1/chat/completions`."""

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
