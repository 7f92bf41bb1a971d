"""The first level: answers in the memory of this process, the least recently used go first.

An ordered dictionary is all that it needs. cachetools' LRU takes looking through the entries for
using them, so that a sweep would mix up their order.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dspy_worker.core.shelflife import Found

if TYPE_CHECKING:
    from collections.abc import Callable

LEVEL: Final = "memory"
_OWN_BYTES: Final = 600
"""What an entry takes beside its body: the key, the objects, its places its place in the table."""
_SWEPT: Final = 1000
"""Entries that one sweep looks at: it must not hold up requests."""


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
        bytes: Bytes in use.
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
        self.bytes = self.evicted = 0
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._entries)

    def get(self, key: str) -> Found | None:
        """Return what is kept under a key, good or stale."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = self._clock() - entry.made
        if self._is_over(entry, age):
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return Found(level=LEVEL, body=entry.body, age_seconds=age, ttl_seconds=entry.ttl_seconds)

    def put(self, key: str, found: Found) -> bool:
        """Keep an answer; return whether there is room for it at all."""
        self.drop(key)
        entry = _Entry(found.body, self._clock() - found.age_seconds, found.ttl_seconds)
        if _size(entry) > self.allowed:
            return False
        self._entries[key] = entry
        self.bytes += _size(entry)
        self._trim()
        return True

    def fill(self, key: str, found: Found) -> bool:
        """Keep an answer as the least recently used; nothing that is there goes for it.

        Returns:
            Whether it is kept: there was room, and none under this key.
        """
        entry = _Entry(found.body, self._clock() - found.age_seconds, found.ttl_seconds)
        if key in self._entries or self.bytes + _size(entry) > self.allowed:
            return False
        self._entries[key] = entry
        self._entries.move_to_end(key, last=False)
        self.bytes += _size(entry)
        return True

    def drop(self, key: str) -> None:
        """Forget one answer."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= _size(entry)

    def clear(self) -> None:
        """Forget all answers."""
        self._entries.clear()
        self.bytes = 0

    def limit(self, allowed: int) -> None:
        """Take no more than so many bytes from now on."""
        self.allowed = max(0, min(allowed, self.budget))
        self._trim()

    def sweep(self) -> None:
        """Forget what is too old even to be stale, of those that were not asked for longest."""
        now = self._clock()
        first = list(itertools.islice(self._entries.items(), _SWEPT))
        for key, entry in first:
            if self._is_over(entry, now - entry.made):
                self.drop(key)

    def _is_over(self, entry: _Entry, age: float) -> bool:
        return age >= entry.ttl_seconds + self._stale_seconds

    def _trim(self) -> None:
        while self.bytes > self.allowed:
            _, entry = self._entries.popitem(last=False)
            self.bytes -= _size(entry)
            self.evicted += 1


def _size(entry: _Entry) -> int:
    return len(entry.body) + _OWN_BYTES
