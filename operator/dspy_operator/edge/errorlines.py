"""ERROR lines in a watch stream, for kopf: whatever their code, the answer is a fresh list.

kopf ends its operator, and with it this process, at any ERROR line but 410. The API server sends
others too: when it loses etcd, or cannot decode an object.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

_START: Final = b'{"type":"ERROR"'
_EXPIRED: Final = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}'


async def as_expired(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Let each ERROR line of a watch say 410; a middleware of aiohttp."""
    response = await handler(request)
    if "watch=true" in request.url.query_string and response.status == HTTPStatus.OK:
        content: Any = _Content(response.content)  # what kopf reads of a StreamReader
        response.content = content
    return response


class _Content:
    """The content of a watch, line by line."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the rest of a StreamReader
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield complete lines, as many as have arrived, and at the end what is left."""
        rest = b""
        async for chunk in self._stream.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield b"".join(_mild(line) + b"\n" for line in lines)
        if rest:
            yield _mild(rest)


def _mild(line: bytes) -> bytes:
    return _EXPIRED if line.replace(b" ", b"", 1).startswith(_START) else line
