"""What a period will have cost when it ends, if spending goes on as it does.

    forecast = spent + rate x time left
    rate     = what was spent since `then` / time since `then`

`then` is the oldest sample of the last hour, or the start of the period while there is no sample
that is five minutes old: a pod that has just begun knows no better.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_worker.core.period import Span

WINDOW = 3_600_000
"""Milliseconds whose spending is the rate."""
LEAST = 300_000
"""Milliseconds below which a rate would be an accident."""
BETWEEN = 30_000
"""Milliseconds between samples, at least."""


class Forecast:
    """Samples of what one period has cost so far."""

    __slots__ = ("_period", "_samples")

    def __init__(self) -> None:
        """Begin without samples."""
        self._period = ""
        self._samples: deque[tuple[int, int]] = deque()

    def note(self, span: Span, now: int, spent: int) -> None:
        """Take a sample; one of a new period forgets those of the old one."""
        if span.name != self._period:
            self._period = span.name
            self._samples.clear()
        if not self._samples or now - self._samples[-1][0] >= BETWEEN:
            self._samples.append((now, spent))
        while self._samples[0][0] < now - WINDOW:
            self._samples.popleft()

    def at_end(self, span: Span, now: int, spent: int) -> int:
        """Return what will have been spent at the end of a period, in nanos."""
        then, before = span.start, 0
        if self._samples and span.name == self._period and now - self._samples[0][0] >= LEAST:
            then, before = self._samples[0]
        passed = max(1, now - then)
        return spent + max(0, spent - before) * max(0, span.end - now) // passed
