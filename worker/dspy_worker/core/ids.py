"""Names for requests and predictions."""

from __future__ import annotations

import re

RANDOM_BITS = 74
"""Bits of randomness that `uuid7` takes."""

_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def uuid7(unix_ms: int, random: int) -> str:
    """Return a UUID of version 7 (RFC 9562), which sorts by time.

    Args:
        unix_ms: Milliseconds since 1970.
        random: `RANDOM_BITS` random bits.
    """
    high = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64
    digits = f"{high | 0b10 << 62 | random & (1 << 62) - 1:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def request_id(offered: str | None) -> str | None:
    """Return the id that a client offers if it can go into logs and headers as it is."""
    return offered if offered and _SANE.fullmatch(offered) else None
