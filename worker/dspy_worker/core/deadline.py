"""How long a request may take."""

from __future__ import annotations

import math

from dspy_worker.errors import RequestError

HEADER = "X-Request-Timeout-Seconds"


def timeout(limit_seconds: float, header: str | None) -> float:
    """Return the seconds that a request may take; the header can only shorten the app's limit.

    Raises:
        RequestError: The header is not a positive number.
    """
    if header is None:
        return limit_seconds
    try:
        asked = float(header)
    except ValueError:
        asked = math.nan
    if not (math.isfinite(asked) and asked > 0):
        raise RequestError(f"{HEADER} must be a number of seconds above 0, got {header[:40]!r}")
    return min(limit_seconds, asked)
