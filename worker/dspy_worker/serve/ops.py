"""The ops port: probes, metrics and the report for the operator; it only reads."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from dspy_worker import contract
from dspy_worker.edge import telemetry
from dspy_worker.errors import PathUnknown, Unauthorized, WorkerError
from dspy_worker.serve import front, wire

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from dspy_worker.edge.telemetry import Metrics
    from dspy_worker.serve.health import Health

_UNREADY = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Ops:
    """The handlers of the ops port.

    Attributes:
        health: What they report.
        metrics: What `/metrics` shows.
        token_file: File with the token for `/state`; None hides `/state`.
    """

    health: Health
    metrics: Metrics
    token_file: Path | None

    async def live(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Answer the liveness probe: the event loop runs."""
        return wire.answer({"live": True})

    async def started(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Answer the startup probe: this port opens after the program is loaded."""
        return wire.answer({"started": True})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Answer the readiness probe."""
        reason, message = self.health.obstacle()
        answer = wire.answer({"ready": not reason, "reason": reason, "message": message})
        if reason:
            answer.status_code = _UNREADY
        return answer

    async def scrape(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        """Answer Prometheus."""
        return Response(self.metrics.render(), media_type=telemetry.CONTENT_TYPE)

    async def state(self, request: Request) -> Response:
        """Answer the operator, if it has the token."""
        if self.token_file is None:
            raise PathUnknown("There is nothing here: no ops token is configured.")
        if not self._has_token(request.headers.get("authorization", "")):
            raise Unauthorized("Send the ops token as Authorization: Bearer <token>.")
        return wire.answer(self.health.state().dump())

    def _has_token(self, header: str) -> bool:
        """Compare with the file as it is now, so that the operator can replace the token."""
        if self.token_file is None:
            return False
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return False
        scheme, _, sent = header.partition(" ")
        right = hmac.compare_digest(sent.strip().encode(), token.encode())
        return bool(token) and scheme.lower() == "bearer" and right


def build(ops: Ops) -> Starlette:
    """Return the ASGI application of the ops port."""
    routes = [
        Route(contract.LIVE_PATH, ops.live),
        Route(contract.READY_PATH, ops.ready),
        Route(contract.STARTED_PATH, ops.started),
        Route(contract.METRICS_PATH, ops.scrape),
        Route(contract.STATE_PATH, ops.state),
    ]
    handlers: Any = {WorkerError: _problem, HTTPException: _problem}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _problem(request: Request, error: Exception) -> Response:
    return wire.problem_answer(front.translate(error, request.scope))
