"""A gate in front of the API server: it wants the token of the moment and can turn watchers away.

What takes an API server days, the end of fifty tokens and fifty watches that must begin anew, takes
minutes here. Everything else passes through unchanged.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web

from faults import api

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType

_GONE = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    },
}
_PASSED_ON = ("Accept", "Content-Type")


class Gate:
    """A reverse proxy with a thread of its own; plain HTTP on loopback."""

    def __init__(self, server: str, tls: ssl.SSLContext, folder: Path) -> None:
        """Prepare.

        Args:
            server: The API server.
            tls: Trust and the client certificate to ask it with.
            folder: Takes the token and a kubeconfig that names its file.
        """
        self._server = server
        self._tls = tls
        self._token = folder / "token"
        self.kubeconfig = folder / "kubeconfig"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._started: Future[str] = Future()
        self._watches: set[asyncio.Event] = set()
        self._valid = ""
        self.refused = 0

    def __enter__(self) -> Self:
        """Open the gate."""
        self._thread.start()
        address = self._started.result(timeout=60)
        self.renew_token()
        user = {"tokenFile": str(self._token)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "gate",
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
            "clusters": [{"name": "gate", "cluster": {"server": address}}],
            "users": [{"name": "gate", "user": user}],
        }
        self.kubeconfig.write_text(json.dumps(document), encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def open_watches(self) -> int:
        """Return how many watch streams are open."""
        return len(self._watches)

    def renew_token(self) -> None:
        """Write a new token; the one before is refused from now on."""
        self._valid = secrets.token_urlsafe(32)
        self._token.write_text(self._valid, encoding="utf-8")

    def expire_watches(self) -> None:
        """Tell all watchers that their version is too old."""
        for told in list(self._watches):
            self._loop.call_soon_threadsafe(told.set)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        runner = web.ServerRunner(
            web.Server(self._handle), handler_cancellation=True, shutdown_timeout=0.1
        )
        async with aiohttp.ClientSession(connector=connector) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self._started.set_result(f"http://{host}:{port}")
            await self._end.wait()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self._valid}":
            self.refused += 1
            return web.json_response({"message": "the token has expired"}, status=401)
        async with self._session.request(
            request.method,
            f"{self._server}{request.raw_path}",
            data=await request.read() or None,
            headers={n: request.headers[n] for n in _PASSED_ON if n in request.headers},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            kind = upstream.headers.get("Content-Type", "application/json")
            response = web.StreamResponse(status=upstream.status, headers={"Content-Type": kind})
            await response.prepare(request)
            if "watch=true" in request.query_string:
                await self._follow(upstream, response)
            else:
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
            return response

    async def _follow(self, upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        """Pass a watch on, line by line, until it ends or has expired."""
        told = asyncio.Event()
        self._watches.add(told)
        pump = asyncio.create_task(_pump(upstream, response))
        end = asyncio.create_task(told.wait())
        try:
            await asyncio.wait([pump, end], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watches.discard(told)
            pump.cancel()
            end.cancel()
            await asyncio.gather(pump, end, return_exceptions=True)
        if told.is_set():
            await response.write(json.dumps(_GONE).encode() + b"\n")


async def _pump(upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    async for line in api.lines(upstream):  # whole ones: the error must not come within one
        await response.write(line + b"\n")
