"""Where predictions are noted before their answers are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dspy_worker.core.answer import FeedbackRecord, Record


class Notebook(Protocol):
    """Notes predictions so that none is lost from then on."""

    @property
    def takes(self) -> bool:
        """Whether it keeps anything; else nobody needs to write records."""

    def note(self, record: Record) -> None:
        """Note a prediction; returns quickly and never raises."""

    def note_feedback(self, record: FeedbackRecord) -> None:
        """Note what is said about a prediction; returns quickly and never raises."""


class NoNotebook:
    """Notes nothing."""

    takes = False

    def note(self, record: Record) -> None:
        """Forget it."""

    def note_feedback(self, record: FeedbackRecord) -> None:
        """Forget it."""
