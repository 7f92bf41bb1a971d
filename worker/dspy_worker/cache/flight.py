"""A question that is being asked: who comes later with the same one waits for its answer.

The first is the leader. What goes wrong with the language model or the program goes wrong for all
that wait, so that nobody stampedes. What is the leader's own trouble (its client left, its time was
over, the queue was full) makes one of the others the leader.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

from dspy_worker.errors import LMCircuitOpen, LMCredentialsMissing, LMError, ProgramRaised

if TYPE_CHECKING:
    from dspy_worker.core.answer import Answer
    from dspy_worker.core.shelflife import Found
    from dspy_worker.errors import WorkerError

_COMMON = (LMError, LMCircuitOpen, LMCredentialsMissing, ProgramRaised)


class Flight:
    """One question under way.

    Attributes:
        old: The best stale answer that was found; None for none.
        answer: What the leader got.
        degraded: Why it is worse than usual.
        landed: Done once the outcome is known.
    """

    __slots__ = ("_error", "answer", "degraded", "landed", "old")

    def __init__(self, old: Found | None) -> None:
        """Begin with what the memory had."""
        self.old = old
        self.answer: Answer | None = None
        self.degraded: tuple[str, ...] = ()
        self._error: WorkerError | None = None
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def offer(self, found: Found | None) -> None:
        """Take a stale answer if it is younger than the one at hand."""
        if found and (self.old is None or found.age_seconds < self.old.age_seconds):
            self.old = found

    def land(self, answer: Answer, degraded: tuple[str, ...]) -> None:
        """Share an answer."""
        self.answer, self.degraded = answer, degraded
        self._end()

    def fail(self, error: BaseException) -> None:
        """Share a failure, or let another lead."""
        if isinstance(error, _COMMON):
            self._error = error
        self._end()

    def error(self) -> WorkerError | None:
        """Return the failure for one that waits; each gets a copy to raise."""
        return None if self._error is None else copy.copy(self._error)

    def _end(self) -> None:
        if not self.landed.done():
            self.landed.set_result(None)
