"""How many calls of a language model may be repeated: a share of the calls, and a small stock.

Each request that repeats its calls is right for itself; when an endpoint fails for all of them,
their repetitions together are what keeps it down.
"""

from __future__ import annotations

from typing import Final

# Counted in fifths of a retry: five times 0.2 is not always 1 for a computer.
_EARNED: Final = 1
_PRICE: Final = 5
_MOST: Final = 10 * _PRICE


class RetryBudget:
    """A stock of retries: each first attempt adds a fifth of one, at most ten are kept."""

    __slots__ = ("_stock",)

    def __init__(self) -> None:
        """Start full."""
        self._stock = _MOST

    def earn(self) -> None:
        """Note a first attempt."""
        self._stock = min(_MOST, self._stock + _EARNED)

    def spend(self) -> bool:
        """Take one retry; return False if there is none."""
        if self._stock < _PRICE:
            return False
        self._stock -= _PRICE
        return True
