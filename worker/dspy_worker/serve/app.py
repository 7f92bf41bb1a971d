"""The public port: routes and their handlers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dspy_worker.core import deadline
from dspy_worker.edge.call import Call
from dspy_worker.errors import MethodNotAllowed, PathUnknown
from dspy_worker.serve import docs, info, openapi, origin, predict, schema, wire
from dspy_worker.serve.batch import Batch
from dspy_worker.serve.front import Front
from dspy_worker.serve.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import pydantic
    from starlette.types import ASGIApp, Receive, Scope, Send

    from dspy_worker.contract.app import AppDocument
    from dspy_worker.serve.feedback import Desk
    from dspy_worker.serve.health import Health
    from dspy_worker.serve.predict import Service


DEGRADED_HEADER = "X-Degraded"
_GET, _POST = ("GET", "HEAD"), ("POST",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """The handlers of the public port."""

    document: AppDocument
    service: Service
    desk: Desk
    health: Health
    version: str

    async def predict(self, request: Request) -> Response:
        """Answer `POST /v1/predict`."""
        call = self._call(request)
        text = await self._body(request, call)
        inputs: pydantic.BaseModel = schema.parse(self.service.program.schema.predict, text)

        def give_up() -> None:
            call.given_up = True

        found = self.service.recall(inputs, call)
        if found is None:
            found = await wire.finish(
                self.service.predict(inputs, call),
                request.receive,
                seconds=call.remaining(),
                give_up=give_up,
            )
        told = {"X-Prediction-Id": found["id"]}
        return wire.answer(found, {**told, **call.headers, **_degraded(call.degraded)})

    async def stream(self, request: Request) -> EventStream:
        """Answer `POST /v1/predict/stream`; what is refused at once is an ordinary problem."""
        call = self._call(request)
        text = await self._body(request, call)
        inputs: pydantic.BaseModel = schema.parse(self.service.program.schema.predict, text)
        self.service.check((inputs,), call, queue=True)
        return EventStream(self.service, inputs, call)

    async def batch(self, request: Request) -> Response:
        """Answer `POST /v1/batch`."""
        began, call = time.monotonic(), self._call(request)
        text = await self._body(request, call)
        items: Sequence[pydantic.BaseModel] = schema.parse(self.service.program.schema.batch, text)
        self.service.check(items, call, queue=False)
        batch = Batch(self.service, items, call)
        results = await wire.finish(
            batch.run(), request.receive, seconds=call.remaining(), give_up=batch.give_up
        )
        milliseconds = round((time.monotonic() - began) * 1000, 3)
        return wire.answer(
            {"results": results, "usage": batch.usage(), "durationMs": milliseconds},
            _degraded(batch.degraded()),
        )

    async def components(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Answer `GET /v1/health`."""
        return wire.answer(self.health.components())

    async def feedback(self, request: Request) -> Response:
        """Answer `POST /v1/feedback`."""
        call = self._call(request)
        text = await self._body(request, call)
        return wire.answer(self.desk.take(text, call.origin))

    def _call(self, request: Request) -> Call:
        limit = self.document.serving.timeout_seconds
        seconds = deadline.timeout(limit, request.headers.get(deadline.HEADER))
        return Call(time.monotonic() + seconds, origin.read(request))

    async def _body(self, request: Request, call: Call) -> bytes:
        most = self.document.serving.max_request_bytes
        return await wire.body(request, most, call.remaining())


def build(public: Public) -> ASGIApp:
    """Return the ASGI application of the public port."""
    app, program = public.document, public.service.program
    about = wire.dump(info.document(app, program, public.version, public.service.label.variant))
    described = wire.dump(openapi.document(app, program, public.version))
    page = HTMLResponse(docs.page(app), headers={"Content-Security-Policy": docs.policy()})
    paths: dict[str, tuple[tuple[str, ...], ASGIApp]] = {
        "/v1/predict": (_POST, _handled(public.predict)),
        "/v1/predict/stream": (_POST, _handled(public.stream)),
        "/v1/batch": (_POST, _handled(public.batch)),
        "/v1/feedback": (_POST, _handled(public.feedback)),
        "/v1/health": (_GET, _handled(public.components)),
        "/v1/info": (_GET, _json(about)),
        "/openapi.json": (_GET, _json(described)),
        "/docs": (_GET, _Fixed(page)),
        "/": (_GET, _Fixed(RedirectResponse("docs"))),
    }
    return Front(_Paths(paths), public.service.metrics, public.health, set(paths))


class _Paths:
    """Hands each request to what serves its path.

    Starlette's router tries patterns one by one and answers in plain text what it does not know.
    """

    def __init__(self, paths: Mapping[str, tuple[tuple[str, ...], ASGIApp]]) -> None:
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._paths.get(scope["path"])
        if found is None:
            raise PathUnknown(f"There is nothing at {scope['path'][:200]}; see /docs.")
        methods, app = found
        if scope["method"] not in methods:
            names = ", ".join(methods)
            message = f"{scope['path']} takes {names}, not {scope['method'][:20]}."
            raise MethodNotAllowed(message, allow=names)
        await app(scope, receive, send)


def _degraded(reasons: Iterable[str]) -> dict[str, str]:
    found = ", ".join(predict.kinds(reasons))
    return {DEGRADED_HEADER: found} if found else {}


def _handled(answer: Callable[[Request], Awaitable[ASGIApp]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await answer(Request(scope, receive))
        await response(scope, receive, send)

    return app


class _Fixed:
    """Always gives the same answer."""

    def __init__(self, response: Response) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Headers are copied: the front adds its own to the list of each answer.
        copy = Response(self._response.body, self._response.status_code)
        copy.raw_headers = list(self._response.raw_headers)
        await copy(scope, receive, send)


def _json(text: bytes) -> _Fixed:
    return _Fixed(Response(text, media_type="application/json"))
