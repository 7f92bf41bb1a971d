"""What a database of predictions does, whichever it is, and what is written into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dspy_worker.core.answer import FeedbackRecord, Record
from dspy_worker.core.notes import Erasure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from dspy_worker.core.notes import Note
    from dspy_worker.core.search import Page, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Notes that are committed together."""

    predictions: tuple[Record, ...] = ()
    feedback: tuple[FeedbackRecord, ...] = ()
    erasures: tuple[Erasure, ...] = ()

    def __len__(self) -> int:
        """Return how many notes there are."""
        return len(self.predictions) + len(self.feedback) + len(self.erasures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many rows were written, deleted or are there."""

    predictions: int
    feedback: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Which answers are not to be given again.

    Attributes:
        app: NAMESPACE/NAME of their app.
        variant: Only of this variant; empty for all.
        tenant: Only of this tenant; empty for all.
    """

    app: str
    variant: str = ""
    tenant: str = ""


class Library(Protocol):
    """Reads what is stored."""

    async def search(self, query: Query) -> Page:
        """Return a page of predictions, the newest first.

        Raises:
            StoreError: The database cannot be asked.
            ValueError: The cursor is none.
        """

    async def feedback(self, prediction_ids: Sequence[str]) -> tuple[FeedbackRecord, ...]:
        """Return what was said about predictions, the oldest first.

        Raises:
            StoreError: The database cannot be asked.
        """


class Database(Library, Protocol):
    """Keeps predictions; every method raises StoreError where the database cannot be used."""

    async def open(self) -> None:
        """Connect and bring the tables up to date; nothing happens where that is done."""

    async def close(self) -> None:
        """Disconnect."""

    async def check(self) -> None:
        """Ask whether it is there."""

    async def write(self, batch: Batch) -> Counts:
        """Commit a batch; what is there already, or was erased, is left out of the counts.

        Raises:
            BatchRefused: It is well, and takes these rows never.
        """

    async def sweep(self, app: str, before_ms: int, most: int) -> int | None:
        """Delete old rows of an app; return how many, None where somebody else does it."""

    async def erase(self, erasure: Erasure, subject: str) -> Counts:
        """Delete all of a subject, and note that nothing older is to be written."""

    async def forget(self, answers: Forgotten) -> int:
        """Let no worker that starts give these answers again; return how many there are."""

    async def counts(self, app: str) -> Counts:
        """Return how many rows there are of an app, or of all with an empty name."""

    async def connections(self) -> int:
        """Return how many connections workers have."""

    async def version(self) -> int:
        """Return the number of the last migration."""

    def dump(self) -> AsyncIterator[Note]:
        """Yield all that is stored, as it is at one moment."""


def batch(found: Iterable[Note]) -> Batch:
    """Return notes as a batch."""
    every = tuple(found)
    return Batch(
        predictions=tuple(note for note in every if isinstance(note, Record)),
        feedback=tuple(note for note in every if isinstance(note, FeedbackRecord)),
        erasures=tuple(note for note in every if isinstance(note, Erasure)),
    )


def halves(whole: Batch) -> tuple[Batch, Batch]:
    """Return a batch of at least two notes as two."""
    every: tuple[Note, ...] = (*whole.predictions, *whole.feedback, *whole.erasures)
    middle = len(every) // 2
    return batch(every[:middle]), batch(every[middle:])
