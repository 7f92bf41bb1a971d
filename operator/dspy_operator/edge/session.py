"""HTTP sessions to the API server: authorization and metrics for our client and kopf's alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspy_operator.edge.credentials import Connection
    from dspy_operator.edge.telemetry import Telemetry

_UNAUTHORIZED: Final = 401
_CORE_PREFIX, _GROUP_PREFIX = 2, 3  # path segments: api/v1, apis/GROUP/VERSION

_LOOKS: Final = frozenset({"list", "watch"})
VERBS: Final = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


def open_session(
    connection: Connection,
    telemetry: Telemetry,
    *,
    watching: Callable[[str], None] | None = None,
    more: Sequence[aiohttp.ClientMiddlewareType] = (),
) -> aiohttp.ClientSession:
    """Open a session; the caller closes it.

    Args:
        connection: Where the API server is, and who we are.
        telemetry: Counts the requests.
        watching: Called with the plural name of a resource that is to be listed or watched: while
            the API server is away, each further attempt is a sign of life.
        more: Further middlewares.
    """
    tls = connection.tls if connection.tls is not None else False
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        headers={"User-Agent": "dspy-operator"},
        middlewares=(*more, _Count(telemetry, watching), _Authorize(connection)),
        trust_env=False,
    )


class _Authorize:
    """Adds the token of the moment, so that a renewed one needs no new session."""

    def __init__(self, connection: Connection) -> None:
        self._token = connection.token

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(self._token.header())
        response = await handler(request)
        if response.status == _UNAUTHORIZED and self._token.expire():
            response.release()
            request.headers.update(self._token.header())
            response = await handler(request)
        return response


class _Count:
    """Counts requests by verb, resource and answer."""

    def __init__(self, telemetry: Telemetry, watching: Callable[[str], None] | None) -> None:
        self._requests = telemetry.requests
        self._watching = watching

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        verb, resource = describe(request.method, request.url.path, request.url.query_string)
        if verb in _LOOKS and resource and self._watching is not None:
            self._watching(resource)
        code = 0
        try:
            response = await handler(request)
            code = response.status
        finally:
            self._requests.labels(verb, resource, str(code)).inc()
        return response


def describe(method: str, path: str, query: str) -> tuple[str, str]:
    """Return the verb and the resource of a request, for metrics: few values, no names."""
    parts = path.strip("/").split("/")
    rest = parts[_CORE_PREFIX if parts[0] == "api" else _GROUP_PREFIX :]
    if rest[:1] == ["namespaces"] and len(rest) > _CORE_PREFIX:
        rest = rest[_CORE_PREFIX:]
    if "watch=true" in query:
        return "watch", rest[0] if rest else ""
    name, subresource = rest[1:2], rest[2:3]
    verb = VERBS.get(method, method.lower())
    if verb == "get" and not name:
        verb = "list"
    return verb, "/".join([*rest[:1], *subresource])
