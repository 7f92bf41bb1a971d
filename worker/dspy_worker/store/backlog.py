"""What waits in memory where the disk takes nothing: a bounded number of lines."""

from __future__ import annotations

from collections import deque

MOST_LINES = 10_000
MOST_BYTES = 64 << 20


class Backlog:
    """Lines that are nowhere else, the oldest first."""

    def __init__(self, lines: int = MOST_LINES, size: int = MOST_BYTES) -> None:
        """Wait for nothing yet."""
        self._lines: deque[bytes] = deque()
        self._most, self._most_bytes, self._bytes = lines, size, 0

    def __len__(self) -> int:
        """Return how many lines wait."""
        return len(self._lines)

    def put(self, line: bytes) -> bool:
        """Keep a line; return False where there is no room."""
        if len(self._lines) >= self._most or self._bytes + len(line) > self._most_bytes:
            return False
        self._lines.append(line)
        self._bytes += len(line)
        return True

    def first(self, most: int) -> tuple[bytes, ...]:
        """Return the oldest lines and keep them."""
        return tuple(line for line, _ in zip(self._lines, range(most), strict=False))

    def drop(self, number: int) -> None:
        """Forget the oldest lines."""
        for _ in range(number):
            self._bytes -= len(self._lines.popleft())
