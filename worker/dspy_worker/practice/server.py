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

from dspy_worker.practice import calls, faults, wire
from dspy_worker.practice.desk import Desk

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

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
        self.scope["state"][calls.TRANSPORT] = self.transport


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
    completions = calls.Completions(desk, options.latency_ms / 1000)
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
