"""The outermost layer of a port: request ids, problems, metrics, log lines, closing connections."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from dspy_worker.core import ids, problem
from dspy_worker.edge import logs
from dspy_worker.errors import Draining, MethodNotAllowed, PathUnknown, WorkerError
from dspy_worker.serve import failures, usercode, wire
from dspy_worker.serve.predict import CLIENT_GONE, new_id

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dspy_worker.edge.telemetry import Metrics
    from dspy_worker.serve.health import Health

CLIENT_GONE_STATUS = 499
"""Status in metrics and logs for a request that nobody waited for; never sent."""
OTHER_ROUTE = "other"

log = logs.get()


class Exchange:
    """What is known about one request while it is answered."""

    __slots__ = ("began", "health", "reason", "request_id", "send", "started", "status")

    def __init__(self, request_id: str, send: Send, health: Health) -> None:
        """Begin the clock."""
        self.request_id = request_id
        self.send = send
        self.health = health
        self.began = time.monotonic()
        self.status = CLIENT_GONE_STATUS
        self.reason = ""
        self.started = False

    async def forward(self, message: Message) -> None:
        """Send a message on, with our headers on the first one."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"].append((b"x-request-id", self.request_id.encode()))
            if self.health.draining:
                message["headers"].append((b"connection", b"close"))
        await self.send(message)


class Front:
    """Wraps the public application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, health: Health, routes: set[str]) -> None:
        """Keep what is needed; `routes` are the paths that metrics may name."""
        self._app = app
        self._metrics = metrics
        self._health = health
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        offered = ids.request_id(_header(scope, b"x-request-id"))
        exchange = Exchange(offered or new_id(), send, self._health)
        scope["request_id"] = exchange.request_id
        try:
            await self._app(scope, receive, exchange.forward)
        except wire.ClientGone:
            exchange.reason = CLIENT_GONE
        except asyncio.CancelledError:
            if not self._health.draining:
                raise
            gone = Draining("The worker stopped before the answer was there; try again.")
            await _answer(exchange, gone, scope, receive)
        except Exception as error:  # noqa: BLE001 - the last place that can answer
            await _answer(exchange, error, scope, receive)
        finally:
            self._count(exchange, scope)

    def _count(self, exchange: Exchange, scope: MutableMapping[str, Any]) -> None:
        seconds = time.monotonic() - exchange.began
        path = scope["path"]
        route = path if path in self._routes else OTHER_ROUTE
        self._metrics.request(route, exchange.status, seconds)
        if exchange.reason:
            self._metrics.error(exchange.reason)
        self._health.requests += 1
        self._health.errors += exchange.status >= 500  # noqa: PLR2004 - HTTP's server errors
        log.info(
            "request",
            request_id=exchange.request_id,
            method=scope["method"],
            route=route,
            status=exchange.status,
            reason=exchange.reason,
            ms=round(seconds * 1000, 2),
        )


async def _answer(exchange: Exchange, error: Exception, scope: Scope, receive: Receive) -> None:
    known = translate(error, scope)
    exchange.reason = known.reason
    if not isinstance(error, WorkerError | HTTPException) or known.status == WorkerError.status:
        log.error("failed", request_id=exchange.request_id, **trace(error))
    if exchange.started:
        return
    response: Response = wire.problem_answer(known, exchange.request_id)
    await response(scope, receive, exchange.forward)


def translate(error: Exception, scope: Scope) -> WorkerError:
    """Return what the client is told about an error."""
    if isinstance(error, WorkerError):
        return error
    if isinstance(error, HTTPException):
        path, method = scope["path"][:200], scope["method"]
        if error.status_code == MethodNotAllowed.status:
            return MethodNotAllowed(f"{path} does not take {method}.")
        if error.status_code == PathUnknown.status:
            return PathUnknown(f"There is nothing at {path}; see /docs.")
    return WorkerError(problem.UNEXPECTED)


def trace(error: BaseException) -> dict[str, Any]:
    """Return type and place of an error for the log; its text might quote a request."""
    cause = list(failures.chain(error))[-1]
    frames: list[str] = []
    step = cause.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        frames.append(f"{code.co_filename}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return {"error": type(cause).__name__, "at": usercode.location(cause), "frames": frames[-12:]}


def request_id(request: Request) -> str:
    """Return the name of a request."""
    return str(request.scope["request_id"])


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None
