"""Which days share a budget: the calendar in UTC, and nothing that knows the present."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_worker.contract.budgets import Period

_LONGEST_MONTH = timedelta(days=31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One period; times in milliseconds since 1970.

    Attributes:
        name: Its day or month, such as 2026-11-21 or 2026-11.
        start: Its first moment.
        end: The first moment after it.
    """

    name: str
    start: int
    end: int

    def holds(self, moment: int) -> bool:
        """Return whether a moment belongs to it."""
        return self.start <= moment < self.end


def span(period: Period, moment: int) -> Span:
    """Return the day or month of a moment."""
    day = datetime.fromtimestamp(moment // 1000, UTC).replace(hour=0, minute=0, second=0)
    if period == "Day":
        return _span(f"{day:%Y-%m-%d}", day, day + timedelta(days=1))
    first = day.replace(day=1)
    return _span(f"{first:%Y-%m}", first, (first + _LONGEST_MONTH).replace(day=1))


def _span(name: str, start: datetime, end: datetime) -> Span:
    return Span(name=name, start=_milliseconds(start), end=_milliseconds(end))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
