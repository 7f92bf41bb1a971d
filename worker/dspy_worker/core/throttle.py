"""Whether a language model's provider throttles us: the share of refused calls of late."""

from __future__ import annotations

import math
from typing import Final

_MEMORY_SECONDS: Final = 15.0
"""A call counts half as much after ten seconds, and hardly at all after a minute."""
_SHARE: Final = 0.2
_LEAST_REFUSALS: Final = 0.25


class Throttle:
    """Counts of calls and of refused ones that fade exponentially.

    Both fade by exp(-t / 15 s), so that the quotient is the share of refusals of late.
    """

    __slots__ = ("_at", "_calls", "_refused")

    def __init__(self) -> None:
        """Start without any call."""
        self._calls = 0.0
        self._refused = 0.0
        self._at = 0.0

    def note(self, *, refused: bool, now: float) -> None:
        """Count a call that ended at `now`, in seconds of a monotonic clock."""
        self._fade(now)
        self._calls += 1.0
        self._refused += refused

    def is_throttled(self, now: float) -> bool:
        """Return whether the provider refuses a fifth of the calls or more."""
        self._fade(now)
        return self._refused > _LEAST_REFUSALS and self._refused >= _SHARE * self._calls

    def _fade(self, now: float) -> None:
        factor = math.exp(-max(0.0, now - self._at) / _MEMORY_SECONDS)
        self._calls *= factor
        self._refused *= factor
        self._at = max(now, self._at)
