"""From listening to the last answer: two ports, signals and the drain.

          listening               SIGTERM                    grace over
    -----------------------> SERVING -----> DRAINING ------------------> FINISHING ------> exit 0
                              not ready, still accepting   accepts nothing; what was
                              (the endpoints learn it),    accepted, queue included,
                              answers close connections    is answered within drainSeconds

A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from dspy_worker.edge import inline, logs
from dspy_worker.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.types import ASGIApp

    from dspy_worker.serve.runtime import Runtime

GRACE_VARIABLE = "DSPY_WORKER_DRAIN_GRACE_SECONDS"
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
_OPS_SECONDS = 2
_DEFAULT_THREADS = 8
_COLLECT_AFTER = 10_000
"""Objects made and not yet freed after which the youngest are collected."""

log = logs.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where to listen, and for how long a stopping worker goes on accepting."""

    public: socket.socket
    ops: socket.socket
    grace_seconds: float


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to us: two of them share the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Stop:
    """Notes the first signal and ends the process at the second."""

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self.asked = asyncio.Event()
        self.signal = signal.SIGTERM

    def install(self) -> None:
        """Take over SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.note, number)

    def note(self, number: signal.Signals) -> None:
        """Begin to stop, or end at once."""
        if self.asked.is_set():
            os._exit(128 + number)
        self.signal = number
        self.asked.set()


async def serve(runtime: Runtime, listen: Listen) -> None:
    """Answer requests until a signal comes, then drain.

    Args:
        runtime: The worker.
        listen: Its sockets.
    """
    stop = Stop()
    stop.install()
    asyncio.get_running_loop().set_default_executor(inline.InlineExecutor(_DEFAULT_THREADS))
    budget = runtime.document.serving.drain_seconds
    public = _server(runtime.public, max(1, int(budget - listen.grace_seconds)))
    ops = _server(runtime.ops, _OPS_SECONDS)
    _spare_the_collector()
    runtime.metrics.connections.set_function(lambda: len(public.server_state.connections))
    for companion in runtime.health.companions:
        await companion.start()
    ops_task = asyncio.create_task(ops.serve([listen.ops]))
    public_task = asyncio.create_task(public.serve([listen.public]))
    log.info(
        "serving",
        app=runtime.document.name,
        digest=runtime.document.digest[:12],
        port=listen.public.getsockname()[1],
        ops_port=listen.ops.getsockname()[1],
    )
    await stop.asked.wait()
    await _drain(runtime, public, public_task, _grace(stop, listen))
    for companion in reversed(runtime.health.companions):
        await companion.stop()
    ops.should_exit = True
    await ops_task
    log.info("stopped")


def _spare_the_collector() -> None:
    """Leave what is loaded by now out of garbage collections, and collect the rest less often.

    DSPy, pydantic and the program are hundreds of thousands of objects that live as long as the
    process. A request makes thousands more that die with it; with Python's own threshold of 700 the
    collector runs several times in each request and takes a sixth of its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Address; empty for all addresses, IPv6 and IPv4.
        port: Port; 0 takes a free one.

    Raises:
        LoadError: The message says why not.
    """
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else str(error)
        raise LoadError(f"cannot listen on port {port}: {why.lower()}") from error


def grace_seconds(drain_seconds: int, text: str | None) -> float:
    """Return for how long a stopping worker goes on accepting.

    Raises:
        LoadError: The text is no number of seconds.
    """
    try:
        asked = float(text) if text else 5.0
    except ValueError:
        raise LoadError(f"{GRACE_VARIABLE} must be a number of seconds, got {text!r}") from None
    return min(max(0.0, asked), drain_seconds / 2)


def _server(app: ASGIApp, drain_seconds: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
        )
    )


def _grace(stop: Stop, listen: Listen) -> float:
    """Return the grace; whoever presses Ctrl-C has no endpoints that need time to learn."""
    return listen.grace_seconds if stop.signal is signal.SIGTERM else 0.0


async def _drain(runtime: Runtime, public: _Server, task: asyncio.Task[None], grace: float) -> None:
    runtime.health.draining = True
    log.info("draining", in_flight=runtime.health.admission.running, grace_seconds=grace)
    await asyncio.sleep(grace)
    public.should_exit = True
    await task
    runtime.program.pool.shutdown(wait=False, cancel_futures=True)
