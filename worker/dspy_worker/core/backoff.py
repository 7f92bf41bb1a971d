"""When to try again after a failure: the language model, PostgreSQL, Redis."""

from __future__ import annotations

BASE_SECONDS = 0.25
CAP_SECONDS = 8.0


def delay(
    attempt: int,
    *,
    jitter: float,
    retry_after: float | None = None,
    base: float = BASE_SECONDS,
    cap: float = CAP_SECONDS,
) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        attempt: Number of failed attempts so far, at least 1.
        jitter: Random number from 0 to 1; it spreads the callers over half of the time.
        retry_after: What the server asked for; never undercut.
        base: Most seconds after the first failure.
        cap: Most seconds after any.
    """
    ceiling = min(cap, base * 2.0 ** min(attempt - 1, 16))
    own = ceiling * (0.5 + jitter / 2)
    return own if retry_after is None else max(own, retry_after)


def worth_it(attempt: int, max_retries: int, *, wait: float, remaining: float) -> bool:
    """Return whether another attempt is allowed and can begin before the deadline."""
    return attempt <= max_retries and wait < remaining
