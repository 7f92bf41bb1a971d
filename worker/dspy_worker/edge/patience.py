"""A time limit for others that does not count our own lateness.

A timer of the event loop is as late as the loop is busy. By then the answer may have come, and only
nobody has read it: to blame the other side for that would make a busy worker give up a healthy
Redis or a healthy disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LATE_SECONDS: Final = 0.02
"""A timer that is later than this says something about the loop."""
GRACE_SECONDS: Final = 0.05
"""Time in which what has arrived meanwhile can be read."""
GRACES: Final = 3
"""How often in a row that is granted: a loop that is always late must not wait for ever."""


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Bound a block to so many seconds in which the event loop was not late.

    Raises:
        TimeoutError: The time is over.
    """
    async with asyncio.timeout(None) as limit:
        alarm = _Alarm(limit, seconds)
        try:
            yield
        finally:
            alarm.stop()


class _Alarm:
    """Ends a timeout when it is due, and a little later when the loop comes late to it."""

    __slots__ = ("_due", "_graces", "_handle", "_limit", "_loop")

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._graces = GRACES
        self._loop = asyncio.get_running_loop()
        self._set(seconds)

    def stop(self) -> None:
        """Ring no more."""
        self._handle.cancel()

    def _set(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._handle = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        late = self._loop.time() - self._due
        if late > LATE_SECONDS and self._graces:
            self._graces -= 1
            self._set(GRACE_SECONDS)
        else:
            self._limit.reschedule(self._loop.time())
