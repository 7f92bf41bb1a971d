"""What can be looked for among stored predictions, and pages of what was found."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dspy_worker.core.answer import Record

Scalar: TypeAlias = str | int | float | bool | None

MOST_ROWS = 1000
"""Rows of a page at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; an absent wish finds all.

    Attributes:
        app: NAMESPACE/NAME of the app.
        text: Words that all stand in the inputs or the prediction.
        fields: Names of fields with the values that they have in the inputs or the prediction.
        since_ms: First moment, in milliseconds since 1970.
        until_ms: First moment that is too late.
        variant: Which prompts answered.
        tenant: On whose account.
        subject: Whom it is about.
        least_score: Lowest mean score of the feedback.
        most_score: Highest.
        least_cost_nanos: Lowest price in billionths of a US dollar.
        most_cost_nanos: Highest.
        cached: Whether a cache answered.
        degraded: Whether the answer was worse than usual.
        error: Whether there was no answer.
        limit: Rows of a page.
        cursor: Where the page before ended; empty for the first.
    """

    app: str = ""
    text: str = ""
    fields: tuple[tuple[str, Scalar], ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    variant: str = ""
    tenant: str = ""
    subject: str = ""
    least_score: float | None = None
    most_score: float | None = None
    least_cost_nanos: int | None = None
    most_cost_nanos: int | None = None
    cached: bool | None = None
    degraded: bool | None = None
    error: bool | None = None
    limit: int = 50
    cursor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A prediction as it is stored.

    Attributes:
        record: The prediction.
        score: Mean score of its feedback; None where nobody gave one.
    """

    record: Record
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of what was found, the newest first.

    Attributes:
        found: The predictions.
        cursor: Where the next page begins; empty where there is none.
    """

    found: tuple[Stored, ...]
    cursor: str = ""


def page(found: list[Stored], query: Query) -> Page:
    """Return a page of what a search for one row more than wanted has found."""
    rows = tuple(found[: limit(query)])
    more = len(found) > len(rows)
    return Page(found=rows, cursor=cursor(rows[-1].record) if more else "")


def limit(query: Query) -> int:
    """Return how many rows a page of this query has at most."""
    return max(1, min(query.limit, MOST_ROWS))


def cursor(last: Record) -> str:
    """Return where the page after a prediction begins."""
    return base64.urlsafe_b64encode(f"{last.unix_ms} {last.id}".encode()).decode()


def position(text: str) -> tuple[int, str]:
    """Return moment and name of the prediction that a cursor stands for.

    Raises:
        ValueError: It is no cursor.
    """
    try:
        moment, _, name = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
        return int(moment), name
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueError(f"{text[:40]!r} is no cursor") from None
