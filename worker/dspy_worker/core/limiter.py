"""Who may start, who must wait and who is sent away.

A request takes a slot, or a place in the queue, or is refused. Freed slots go to those who wait,
first come, first served. The file decides; `serve/admission.py` holds the waiting requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

MIN_RETRY_AFTER = 1
MAX_RETRY_AFTER = 60


class Verdict(Enum):
    """What happens to an arriving request."""

    RUN = "Run"
    WAIT = "Wait"
    REFUSE = "Refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many requests may run and wait at the same time."""

    concurrency: int
    queue_size: int


def verdict(limits: Limits, *, running: int, waiting: int) -> Verdict:
    """Decide about one arriving request.

    Args:
        limits: The limits of the app.
        running: Requests that hold a slot.
        waiting: Requests in the queue.
    """
    if running < limits.concurrency and not waiting:
        return Verdict.RUN
    return Verdict.WAIT if waiting < limits.queue_size else Verdict.REFUSE


def retry_after(limits: Limits, *, waiting: int, mean_seconds: float) -> int:
    """Return after how many whole seconds the present queue will have been served.

    Args:
        limits: The limits of the app.
        waiting: Requests in the queue.
        mean_seconds: How long a request holds its slot, on average.
    """
    rounds = (waiting + 1) / limits.concurrency
    seconds = math.ceil(rounds * mean_seconds)
    return min(max(seconds, MIN_RETRY_AFTER), MAX_RETRY_AFTER)


def fan_out(limits: Limits, items: int) -> int:
    """Return how many items of one batch may be under way, so that others get slots too."""
    return max(1, min(items, limits.concurrency // 2))


def moving_mean(mean: float, sample: float, *, weight: float = 0.05) -> float:
    """Return the exponentially weighted mean after one more sample."""
    return sample if mean == 0 else mean + weight * (sample - mean)
