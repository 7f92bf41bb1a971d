"""How good an answer is at its age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dspy_worker.core.answer import Kept
from dspy_worker.core.envelope import Envelope

JITTER: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfLife:
    """How long answers are kept, in seconds.

    Attributes:
        ttl_seconds: How long an answer is good.
        stale_seconds: How long after that it is better than none.
    """

    ttl_seconds: float
    stale_seconds: float

    def spread(self, chance: float) -> float:
        """Return the time for which one answer is good: a tenth more or less than others.

        Args:
            chance: Random number from 0 to 1.
        """
        return self.ttl_seconds * (1 + JITTER * (2 * chance - 1))

    def envelope(self, found: Found, now: float) -> Envelope:
        """Return an answer as it is written.

        Args:
            found: The answer.
            now: Seconds since 1970.
        """
        keep = found.ttl_seconds + self.stale_seconds
        return Envelope(
            body=found.body,
            made_ms=int((now - found.age_seconds) * 1000),
            ttl_ms=int(found.ttl_seconds * 1000),
            keep_ms=max(1, int(keep * 1000)),
        )

    def found(self, level: str, envelope: Envelope, age_seconds: float) -> Found | None:
        """Return what was written, or None if it is too old by today's rules.

        Whoever shortens the time for which answers are good means those that are kept, too.
        """
        ttl = min(envelope.ttl_ms / 1000, self.ttl_seconds * (1 + JITTER))
        if age_seconds >= ttl + self.stale_seconds:
            return None
        return Found(
            level=level,
            body=envelope.body,
            age_seconds=max(0.0, age_seconds),
            ttl_seconds=ttl,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An answer that a level holds.

    Attributes:
        level: Name of the level.
        body: The prediction as JSON.
        age_seconds: Time since it was made.
        ttl_seconds: Time for which it was good when it was made.
    """

    level: str
    body: bytes
    age_seconds: float
    ttl_seconds: float

    @property
    def is_fresh(self) -> bool:
        """Whether it is good; else it is only better than none."""
        return self.age_seconds < self.ttl_seconds

    def kept(self) -> Kept:
        """Return what is told of it."""
        left = self.ttl_seconds - self.age_seconds
        return Kept(level=self.level, age_seconds=self.age_seconds, ttl_seconds=left)
