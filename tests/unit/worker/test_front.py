"""The outermost layer: what it adds to answers while the worker changes under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from starlette.responses import Response

from dspy_worker.contract import app
from dspy_worker.core.limiter import Limits
from dspy_worker.edge.telemetry import Metrics
from dspy_worker.serve.admission import Admission
from dspy_worker.serve.front import Front
from dspy_worker.serve.health import Health

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

DOCUMENT = app.load(
    {
        "apiVersion": app.API_VERSION,
        "kind": app.KIND,
        "metadata": {"name": "tickets"},
        "spec": {
            "program": {"signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a"}]}},
            "models": [{"name": "main", "model": "m", "endpoint": "http://lm.example.com/v1"}],
        },
    }
)


async def test_a_request_from_before_the_drain_closes_its_connection_too() -> None:
    """Else its client would send the next one just when the worker closes idle connections."""
    admission = Admission(Limits(concurrency=1, queue_size=1))
    health = Health(document=DOCUMENT, keys={}, admission=admission, throttled=lambda: False)

    async def drain_meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
        health.draining = True
        await Response()(scope, receive, send)

    front = Front(drain_meanwhile, Metrics("tickets"), health, {"/"})
    transport: Any = httpx.ASGITransport(front)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        found = await client.get("/")

    assert found.headers["connection"] == "close"
