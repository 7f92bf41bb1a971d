"""The first level: answers in the memory of this process, the least recently used go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from dspy_worker.core.shelflife import Found

if TYPE_CHECKING:
    from collections.abc import Callable

LEVEL: Final = "memory"
_OWN_BYTES: Final = 600
"""What an entry takes beside its body: the key, the objects, its places in two tables."""


@dataclass(frozen=True, slots=True)
class _Entry:
    body: bytes
    made: float
    ttl_seconds: float


class Memory:
    """Answers by key.

    Attributes:
        allowed: Most bytes at present.
        budget: Most bytes ever.
        evicted: Entries that had to make room so far.
    """

    def __init__(self, budget: int, stale_seconds: float, clock: Callable[[], float]) -> None:
        """Begin empty.

        Args:
            budget: Most bytes.
            stale_seconds: How long after their time answers stay.
            clock: Seconds that never go back.
        """
        self.budget = self.allowed = budget
        self.evicted = 0
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._entries: LRUCache[str, _Entry] = LRUCache(budget, getsizeof=_size)

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Return how many bytes they take."""
        return int(self._entries.currsize)

    def get(self, key: str) -> Found | None:
        """Return what is kept under a key, good or stale."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = self._clock() - entry.made
        if age >= entry.ttl_seconds + self._stale_seconds:
            del self._entries[key]
            return None
        return Found(
            level=LEVEL, body=entry.body, age_seconds=age, ttl_seconds=entry.ttl_seconds
        )

    def put(self, key: str, found: Found) -> bool:
        """Keep an answer; return whether there is room for it at all."""
        entry = _Entry(found.body, self._clock() - found.age_seconds, found.ttl_seconds)
        if _size(entry) > self.allowed:
            self._entries.pop(key, None)
            return False
        before = len(self._entries) + (key not in self._entries)
        self._entries[key] = entry
        self.evicted += before - len(self._entries)
        self._trim()
        return True

    def drop(self, key: str) -> None:
        """Forget one answer."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget all answers."""
        self._entries.clear()

    def limit(self, allowed: int) -> None:
        """Take no more than so many bytes from now on."""
        self.allowed = max(0, min(allowed, self.budget))
        self._trim()

    def sweep(self) -> None:
        """Forget what is too old even to be stale."""
        now = self._clock()
        over = [
            key
            for key, entry in self._entries.items()
            if now - entry.made >= entry.ttl_seconds + self._stale_seconds
        ]
        for key in over:
            del self._entries[key]

    def _trim(self) -> None:
        while self._entries and self._entries.currsize > self.allowed:
            self._entries.popitem()
            self.evicted += 1


def _size(entry: _Entry) -> int:
    return len(entry.body) + _OWN_BYTES
