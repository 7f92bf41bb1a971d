"""When to stop asking a language model that fails, and when to try it again.

              too many failures                    open_seconds are over
    CLOSED ---------------------> OPEN ------------------------------------> HALF_OPEN
      ^                            ^                                          |   |
      |                            |   a probe fails: open for twice as long  |   |
      |                            +------------------------------------------+   |
      +---------------------------------------------------------------------------+
                              all probes are good

Whoever wants to ask takes a permit and settles it with what came of the call, or withdraws it if
nothing came of it. A permit of an earlier time tells nothing about the present: what was asked
before the circuit opened neither closes it nor keeps it open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dspy_worker.contract.app import BreakerPolicy

WINDOW_SECONDS: Final = 30.0
"""How long a call counts."""
PROBES: Final = 2
"""Calls that may pass, and have to be good, before a circuit closes."""
CAP_SECONDS: Final = 60.0
"""Longest time without a probe."""
PROBE_WAIT_SECONDS: Final = 1.0
"""What is told to those who come while probes are under way."""
_BUCKETS: Final = 10
_BUCKET_SECONDS: Final = WINDOW_SECONDS / _BUCKETS
_SPREAD: Final = 0.2


class State(Enum):
    """Where a circuit stands."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave to ask once.

    Attributes:
        era: Number of the circuit's change of state after which it was given.
        probe: Whether this call tries out a circuit that has been open.
    """

    era: int
    probe: bool


@dataclass(slots=True, kw_only=True)
class _Bucket:
    number: int
    calls: int = 0
    failed: int = 0
    slow: int = 0


class Breaker:
    """The circuit of one model; `now` is always in seconds of a monotonic clock."""

    __slots__ = ("_buckets", "_era", "_good", "_openings", "_policy", "_probing", "_until")

    def __init__(self, policy: BreakerPolicy) -> None:
        """Start closed, without any call."""
        self._policy = policy
        self._buckets: deque[_Bucket] = deque()
        self._era = 0
        self._openings = 0
        self._until = 0.0
        self._probing = 0
        self._good = 0

    def state(self, now: float) -> State:
        """Return where the circuit stands."""
        if not self._openings:
            return State.CLOSED
        return State.OPEN if now < self._until else State.HALF_OPEN

    def wait(self, now: float) -> float:
        """Return the seconds until a call may pass; 0 if one may pass now."""
        if self._may_pass(now):
            return 0.0
        return max(self._until - now, 0.0) or PROBE_WAIT_SECONDS

    def admit(self, now: float) -> Permit | None:
        """Return leave to ask, or None if nobody may ask at present."""
        if not self._may_pass(now):
            return None
        probe = self._openings > 0
        self._probing += probe
        return Permit(era=self._era, probe=probe)

    def withdraw(self, permit: Permit) -> None:
        """Take back a permit whose call told nothing, such as one that was cancelled."""
        self._probing -= permit.probe

    def settle(
        self, permit: Permit, *, failed: bool, seconds: float, now: float, jitter: float
    ) -> bool:
        """Take note of a call that is over.

        Args:
            permit: What the call was made with; it can be used no more.
            failed: Whether it failed in a way that speaks of the endpoint.
            seconds: How long it took.
            now: When it ended.
            jitter: Random number from 0 to 1; it spreads the probes of many workers.

        Returns:
            Whether the circuit has opened because of it.
        """
        self._probing -= permit.probe
        if permit.era != self._era:
            return False
        slow = self._policy.slow_seconds is not None and seconds > self._policy.slow_seconds
        if permit.probe:
            return self._probed(bad=failed or slow, now=now, jitter=jitter)
        self._count(now, failed=failed, slow=slow)
        if self._is_failing():
            self._open(now, jitter)
            return True
        return False

    def _may_pass(self, now: float) -> bool:
        match self.state(now):
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                return self._probing + self._good < PROBES

    def _probed(self, *, bad: bool, now: float, jitter: float) -> bool:
        if bad:
            self._open(now, jitter)
            return True
        self._good += 1
        if self._good == PROBES:
            self._close()
        return False

    def _open(self, now: float, jitter: float) -> None:
        longest = min(CAP_SECONDS, self._policy.open_seconds * 2.0 ** min(self._openings, 16))
        self._until = now + longest * (1 - _SPREAD * jitter)
        self._openings += 1
        self._begin_era()

    def _close(self) -> None:
        self._openings = 0
        self._begin_era()

    def _begin_era(self) -> None:
        self._era += 1
        self._good = 0
        self._buckets.clear()

    def _count(self, now: float, *, failed: bool, slow: bool) -> None:
        number = int(now / _BUCKET_SECONDS)
        while self._buckets and self._buckets[0].number <= number - _BUCKETS:
            self._buckets.popleft()
        if not self._buckets or self._buckets[-1].number < number:
            self._buckets.append(_Bucket(number=number))
        bucket = self._buckets[-1]
        bucket.calls += 1
        bucket.failed += failed
        bucket.slow += slow

    def _is_failing(self) -> bool:
        calls = sum(bucket.calls for bucket in self._buckets)
        worst = max(sum(b.failed for b in self._buckets), sum(b.slow for b in self._buckets))
        enough = calls >= self._policy.minimum_calls
        return enough and 100 * worst >= self._policy.failure_percent * calls
