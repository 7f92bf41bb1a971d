"""What time it is, in milliseconds."""

from __future__ import annotations

import time


def unix_ms() -> int:
    """Return the present in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return milliseconds that never jump."""
    return time.monotonic_ns() // 1_000_000
