"""Probes that can fail, and the metrics, on a server of our own.

kopf's liveness endpoint answers 200 whatever happens. Ours fails when a stream has neither spoken
nor been retried for 210 s, when a key is stuck for 10 minutes, or when the event loop lags.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import exposition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dspy_operator.edge.telemetry import Telemetry

SILENCE_SECONDS: Final = 210.0
STUCK_SECONDS: Final = 600.0
LAG_SECONDS: Final = 30.0


class Health:
    """Remembers signs of life, and answers the probes."""

    def __init__(
        self,
        *,
        longest: Callable[[], float],
        is_ready: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no stream.

        Args:
            longest: Returns the age in seconds of the oldest running key.
            is_ready: Returns what is still missing, or an empty string.
            clock: Seconds from any fixed point.
        """
        self._longest = longest
        self._is_ready = is_ready
        self._clock = clock
        self._beats: dict[str, float] = {}
        self._tick = clock()

    def beat(self, stream: str) -> None:
        """Note a sign of life of a watch stream: an event, a bookmark, an attempt to open it."""
        self._beats[stream] = self._clock()

    def forget(self, kind: str) -> None:
        """Expect nothing of a kind's streams any more."""
        for name in [name for name in self._beats if name.startswith(f"{kind}/")]:
            del self._beats[name]

    def tick(self) -> float:
        """Note that the event loop came round; return by how much it was late, in seconds."""
        late = max(0.0, self._clock() - self._tick - 1.0)
        self._tick = self._clock()
        return late

    def complaints(self) -> list[str]:
        """Return why the process should be restarted."""
        now = self._clock()
        found = [
            f"no sign of life from watch {name} for {now - at:.0f} s"
            for name, at in sorted(self._beats.items())
            if now - at > SILENCE_SECONDS
        ]
        if self._longest() > STUCK_SECONDS:
            found.append(f"a key has been running for {self._longest():.0f} s")
        if now - self._tick > LAG_SECONDS:
            found.append(f"the event loop has lagged for {now - self._tick:.0f} s")
        return found

    def missing(self) -> str:
        """Return why the process is not ready yet, or an empty string."""
        return self._is_ready()


async def watch_loop(health: Health, telemetry: Telemetry) -> None:
    """Tick once a second for ever."""
    while True:
        telemetry.loop_lag.set(health.tick())
        await asyncio.sleep(1.0)


async def serve(
    health: Health,
    telemetry: Telemetry,
    port: int,
    *,
    changes: Callable[[], object] | None = None,
) -> web.AppRunner:
    """Start the server; the caller cleans the returned runner up.

    Args:
        health: Answers the probes.
        telemetry: The metrics.
        port: Port on all addresses.
        changes: Returns what `/changes` shows as JSON; there is no such path without it.
    """

    async def livez(_: web.Request) -> web.Response:
        return _answer("; ".join(health.complaints()))

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.missing())

    async def metrics(_: web.Request) -> web.Response:
        text = exposition.generate_latest(telemetry.registry)
        return web.Response(body=text, headers={"Content-Type": exposition.CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    if changes is not None:
        app.router.add_get("/changes", _json(changes))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def _json(document: Callable[[], object]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def show(_: web.Request) -> web.Response:
        return web.json_response(document())

    return show


def _answer(complaint: str) -> web.Response:
    return web.Response(status=503 if complaint else 200, text=f"{complaint or 'ok'}\n")
