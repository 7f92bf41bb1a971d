"""One answer as server-sent events, while the language model speaks.

    event: status    {"state": "running"}                            it has a slot
    event: token     {"call": 1, "predictor": "", "field": "label", "text": "bil"}
    event: result    what /v1/predict would have answered
    event: error     the problem document that /v1/predict would have answered

One `result` or one `error` ends the stream. A comment every few seconds keeps proxies from closing
a connection that waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from dspy_worker.core import problem
from dspy_worker.edge.listener import Listener, Token
from dspy_worker.errors import DeadlineExceeded, Draining, WorkerError
from dspy_worker.serve import front, wire

if TYPE_CHECKING:
    import pydantic
    from starlette.types import Receive, Scope, Send

    from dspy_worker.edge.call import Call
    from dspy_worker.serve.predict import Service

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_SECONDS: Final = 10.0
_HEARTBEAT: Final = b": still here\n\n"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would otherwise collect the events before it sends them.
    (b"x-accel-buffering", b"no"),
)


class EventStream:
    """An ASGI answer; asks the program when it is sent."""

    def __init__(
        self,
        service: Service,
        inputs: pydantic.BaseModel,
        call: Call,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Prepare; `call` has the deadline of the whole answer."""
        self._service = service
        self._inputs = inputs
        self._call = call
        self._heartbeat = heartbeat_seconds
        self._news: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            Exception: There is no answer; the client has been told, as in all cases but the next.
            ClientGone: The client left.
        """
        self._call.listener = Listener(self._service.program.voices, self._token)
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        try:
            last = _event("result", await self._follow(receive, send))
        except wire.ClientGone:
            raise
        except (Exception, asyncio.CancelledError) as error:
            known = _known(error, scope)
            last = _event("error", problem.document(known, request_id=scope["request_id"]))
            await _finish(send, last)
            raise
        await _finish(send, last)

    async def _follow(self, receive: Receive, send: Send) -> dict[str, Any]:
        """Return the answer; send on the way what is known of it."""
        work = asyncio.create_task(self._predict())
        leaving = asyncio.create_task(wire.left(receive))
        for task in (work, leaving):
            task.add_done_callback(lambda _: self._news.put_nowait(None))
        try:
            await self._send_news(work, leaving, send)
            return _outcome(work, leaving)
        finally:
            leaving.cancel()
            if not work.done():
                self._call.given_up = True
                await wire.cancel(work)

    async def _predict(self) -> dict[str, Any]:
        def started() -> None:
            self._news.put_nowait(_event("status", {"state": "running"}))

        return await self._service.predict(self._inputs, self._call, started=started)

    async def _send_news(
        self, work: asyncio.Task[Any], leaving: asyncio.Task[None], send: Send
    ) -> None:
        """Send what comes until the work is done, the client leaves or the time is over."""
        while not leaving.done():
            seconds = min(self._heartbeat, self._call.remaining())
            chunk = await self._next(seconds)
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            elif work.done() or not self._call.remaining():
                return

    async def _next(self, seconds: float) -> bytes:
        """Return all events that wait, a heartbeat if none came in time, nothing at the end."""
        try:
            async with asyncio.timeout(seconds):
                parts = [await self._news.get()]
        except TimeoutError:
            return _HEARTBEAT if self._call.remaining() else b""
        while not self._news.empty():
            parts.append(self._news.get_nowait())
        return b"".join(part for part in parts if part is not None)

    def _token(self, token: Token) -> None:
        self._news.put_nowait(_event("token", asdict(token)))


def _outcome(work: asyncio.Task[dict[str, Any]], leaving: asyncio.Task[None]) -> dict[str, Any]:
    if work.done():
        return work.result()
    if leaving.done():
        raise wire.ClientGone
    raise DeadlineExceeded("The request was not answered in time.")


def _known(error: BaseException, scope: Scope) -> WorkerError:
    if isinstance(error, Exception):
        return front.translate(error, scope)
    return Draining("The worker stopped before the answer was there; try again.")


async def _finish(send: Send, last: bytes) -> None:
    await send({"type": "http.response.body", "body": last, "more_body": False})


def _event(name: str, document: Any) -> bytes:  # noqa: ANN401 - JSON
    return b"event: " + name.encode() + b"\ndata: " + wire.dump(document) + b"\n\n"
