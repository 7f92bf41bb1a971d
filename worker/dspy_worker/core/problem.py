"""Problem documents (RFC 9457): what a client reads when a request fails."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_worker.errors import WorkerError

MAX_RETRY_AFTER = 3600
"""Most seconds that a client is told to wait, whatever an LM's server has asked for."""
MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:dspy-operator:problem:"
UNEXPECTED = "The worker failed unexpectedly; its log has the details under this request id."


def document(error: WorkerError, *, request_id: str = "") -> dict[str, Any]:
    """Return the problem document of an error.

    Args:
        error: What went wrong.
        request_id: Name of the request, so that the log can be searched for it.
    """
    problem: dict[str, Any] = {
        "type": TYPE_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": str(error),
    }
    if request_id:
        problem["requestId"] = request_id
    if error.fields:
        problem["errors"] = [asdict(field) for field in error.fields]
    return problem


def retry_after(error: WorkerError) -> str | None:
    """Return the value of the Retry-After header: whole seconds, rounded up."""
    if error.retry_after is None:
        return None
    return str(math.ceil(min(error.retry_after, MAX_RETRY_AFTER)))


def pointer(*steps: str | int) -> str:
    """Return a JSON pointer (RFC 6901) to a place in the body."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
