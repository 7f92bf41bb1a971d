"""Waiting in tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.05


def until(
    holds: Callable[[], object], what: str = "it has not come to that", *, seconds: float = 30
) -> None:
    """Wait until something holds; the limit only ends a test that hangs."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(LOOK_SECONDS)
