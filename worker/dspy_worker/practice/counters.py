"""What `/stats` tells: calls, streams, tokens, faults, clients that left, and keys seen."""

from __future__ import annotations

import collections
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_worker.practice.schema import Json

NO_KEY = "none"
FINGERPRINT_DIGITS = 12
REMEMBERED = 100_000


def fingerprint(authorization: str) -> str:
    """Return the first digits of the SHA-256 of a bearer token: it tells keys apart."""
    token = authorization.removeprefix("Bearer ").strip()
    if not token:
        return NO_KEY
    return hashlib.sha256(token.encode()).hexdigest()[:FINGERPRINT_DIGITS]


@dataclass(slots=True, kw_only=True)
class Counters:
    """The server's counts since its start or the last `DELETE /stats`."""

    calls: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    streams: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused_keys: int = 0
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    keys: collections.Counter[str] = field(default_factory=collections.Counter)

    def start(self, key: str, *, stream: bool) -> None:
        """Count a call that begins."""
        self.calls += 1
        self.streams += stream
        self.keys[key] += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def dump(self) -> dict[str, Json]:
        """Return the counts as JSON."""
        names = [name for name in self.__slots__ if name not in {"faults", "keys"}]
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "faults": {**self.faults}, "keys": {**self.keys}}

    def cleared(self) -> Counters:
        """Return new counts; the calls in flight go on."""
        return Counters(in_flight=self.in_flight, peak_in_flight=self.in_flight)


class Repetitions:
    """Counts how often the same request came: at a temperature each one draws again."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._counts: collections.Counter[bytes] = collections.Counter()

    def next(self, request: bytes) -> int:
        """Return how often this request came before; very old counts are forgotten."""
        if len(self._counts) >= REMEMBERED:
            self._counts.clear()
        key = hashlib.sha256(request).digest()[:16]
        self._counts[key] += 1
        return self._counts[key] - 1
