"""How much memory kept answers may take while the pod's memory runs short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HIGH: Final = 0.85
"""From this share of a limit on, answers make room."""
CRITICAL: Final = 0.95
"""From this share on all of them go: an answer can be made again, a killed pod loses requests."""
_CALM: Final = 0.75
"""Below this share the room grows again."""
_GROWTH: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Memory in use and the limit that holds for it, in bytes."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """How much of the limit is in use."""
        return self.used / self.limit if self.limit > 0 else 0.0


def room(readings: Iterable[Reading], *, allowed: int, present: int, budget: int) -> int:
    """Return how many bytes of answers may stay.

    Args:
        readings: Whatever limits this process; the tightest counts.
        allowed: What the last decision was.
        present: Bytes of answers that are kept.
        budget: Most bytes that are wanted.
    """
    share = max((reading.share for reading in readings), default=0.0)
    if share >= CRITICAL:
        return 0
    if share >= HIGH:
        return min(allowed, present // 2)
    if share < _CALM:
        return min(budget, allowed + int(budget * _GROWTH))
    return allowed
