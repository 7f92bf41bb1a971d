"""Bodies in, answers out: JSON with limits, problems, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dspy_worker.core import nesting, problem
from dspy_worker.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    MalformedBody,
    MediaTypeUnsupported,
    MethodNotAllowed,
    WorkerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.types import Receive

_T = TypeVar("_T")

CANCEL_SECONDS = 1.0
"""How long a program that swallows its cancellation may hold up the next step."""


class ClientGone(Exception):  # noqa: N818 - nothing failed, somebody left
    """The client has closed the connection; nobody reads the answer."""


async def body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Return the JSON text of a request.

    Args:
        request: The request.
        max_bytes: How large it may be.
        seconds: How long it may take to arrive.

    Raises:
        DeadlineExceeded: The client sent it too slowly.
        MediaTypeUnsupported: The body is declared as something else.
        BodyTooLarge: It is larger than `max_bytes`, as declared or as sent.
        MalformedBody: It is nested too deeply.
        ClientGone: The client left before the end.
    """
    _check_media_type(request.headers.get("content-type", ""))
    _check_length(request.headers.get("content-length", ""), max_bytes)
    try:
        async with asyncio.timeout(seconds):
            text = await _read(request, max_bytes)
    except TimeoutError:
        raise DeadlineExceeded(f"The body did not arrive within {seconds:.3g} s.") from None
    if nesting.too_deep(text):
        raise MalformedBody(f"The body is nested deeper than {nesting.MAX_DEPTH} levels.")
    return text


async def finish(
    work: Coroutine[Any, Any, _T],
    receive: Receive,
    *,
    seconds: float,
    give_up: Callable[[], None],
) -> _T:
    """Return the result of `work`, unless its time is over or the client leaves.

    Args:
        work: What to do; it is cancelled when nobody waits for it any more.
        receive: The connection, whose next message can only be the client's leaving.
        seconds: How long it may take.
        give_up: Called before `work` is cancelled.

    Raises:
        DeadlineExceeded: The time is over.
        ClientGone: The client left.
    """
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(left(receive))
    try:
        await asyncio.wait({task, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if leaving.done():
            raise ClientGone
        raise DeadlineExceeded(f"The request was not answered within {seconds:.3g} s.")
    finally:
        leaving.cancel()
        if not task.done():
            give_up()
            await cancel(task)


def answer(document: Any, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401 - JSON
    """Return a JSON answer."""
    return Response(dump(document), media_type="application/json", headers=headers)


def problem_answer(error: WorkerError, request_id: str = "") -> Response:
    """Return the answer that tells a client about an error."""
    headers = {}
    if retry := problem.retry_after(error):
        headers["Retry-After"] = retry
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers["Allow"] = error.allow
    text = dump(problem.document(error, request_id=request_id))
    return Response(text, error.status, headers, media_type=problem.MEDIA_TYPE)


def dump(document: Any) -> bytes:  # noqa: ANN401 - JSON
    """Return JSON; what orjson does not take goes the slow way.

    That is an integer beyond 64 bits, and half of a surrogate pair, which no UTF-8 can hold.
    """
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, ensure_ascii=False, default=str).encode(errors="replace")


def _check_media_type(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise MediaTypeUnsupported(
            f"Send Content-Type: application/json; got {content_type[:80] or 'none'}."
        )


def _check_length(content_length: str, max_bytes: int) -> None:
    if content_length.isdigit() and int(content_length) > max_bytes:
        raise _too_large(max_bytes)


async def _read(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            chunks.append(chunk)
    except ClientDisconnect:
        raise ClientGone from None
    return b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {max_bytes} bytes.")


async def left(receive: Receive) -> None:
    """Wait until the client closes the connection; nothing else can come after the body."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for a moment until it has noticed."""
    task.cancel()
    task.add_done_callback(_swallow)
    await asyncio.wait({task}, timeout=CANCEL_SECONDS)


def _swallow(task: asyncio.Task[Any]) -> None:
    """Look at the result of a task that nobody waits for, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
