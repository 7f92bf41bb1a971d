"""What answers tell of the cache: `Cache-Status` (RFC 9211) and `Age`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dspy_worker.core.answer import Kept
    from dspy_worker.edge.call import Call

STATUS: Final = "Cache-Status"
AGE: Final = "Age"
_NAME: Final = "dspy-worker"


def kept(call: Call, found: Kept) -> None:
    """Tell that an answer was kept; the time that is left is negative for a stale one."""
    left = math.floor(found.ttl_seconds)
    call.headers[STATUS] = f"{_NAME}; hit; ttl={left}; detail={found.level}"
    call.headers[AGE] = str(int(found.age_seconds))


def asked(call: Call, why: str, *, stored: bool) -> None:
    """Tell that the program was asked.

    Args:
        call: The request's.
        why: "miss", "stale" or "request", as the standard has it.
        stored: Whether the answer is kept.
    """
    call.headers[STATUS] = f"{_NAME}; fwd={why}{'; stored' if stored else ''}"


def collapsed(call: Call) -> None:
    """Tell that an equal request was under way and its answer is this one's."""
    call.headers[STATUS] = f"{_NAME}; fwd=miss; collapsed"
