"""HTTP connections to one language model.

lm15 looks for a proxy in the environment before each request, which costs a tenth of a
prediction's CPU time in a pod with many variables. Here the question is asked once, at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

CONNECT_SECONDS = 10.0
USER_AGENT = "dspy-worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What connections may take; times in seconds.

    Attributes:
        connections: Most connections at the same time.
        connect: Longest time to open one; `CONNECT_SECONDS` if that is less.
        wait: Longest wait for the next byte, or for a free connection. None where the caller
            bounds the whole call: lm15 makes a task of each wait that it bounds.
    """

    connections: int
    connect: float
    wait: float | None


def like(stock: Any, endpoint: str, limits: Limits) -> Any:  # noqa: ANN401 - lm15 has two kinds
    """Return connections of the same kind as `stock`, with our limits and our proxy.

    Args:
        stock: lm15's own, as a client of lm15 has them.
        endpoint: Base URL of the language model.
        limits: What they may take.
    """
    return type(stock)(
        connect_timeout=min(CONNECT_SECONDS, limits.connect),
        read_timeout=limits.wait,
        write_timeout=limits.wait,
        pool_timeout=limits.wait,
        max_connections=limits.connections,
        proxy=proxy(endpoint),
        trust_env=False,
        user_agent=USER_AGENT,
    )


def proxy(endpoint: str) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY ask for."""
    parts = urlsplit(endpoint)
    found = getproxies()
    url = found.get(parts.scheme) or found.get("all")
    return None if not url or proxy_bypass(parts.hostname or "") else url
