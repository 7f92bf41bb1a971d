"""How an answer is written where others may write too: with its age and a digest.

    VERSION MADE_MS TTL_MS KEEP_MS DIGEST (line break) JSON

The digest covers the key: an answer that lies under the key of another question is as unreadable as
a damaged one. It is no signature; whoever can write to Redis can forge it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from dspy_worker.core import cachekey

_VERSION = str(cachekey.FORMAT).encode()
_DIGEST_DIGITS = 32
_PARTS = 5


class Unreadable(Exception):  # noqa: N818 - reads better where it is caught
    """These bytes are no answer to this question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An answer that is kept.

    Attributes:
        body: The prediction as JSON.
        made_ms: When it was made, in milliseconds since 1970.
        ttl_ms: How long it is good.
        keep_ms: How long it is kept, until it is not even stale.
    """

    body: bytes
    made_ms: int
    ttl_ms: int
    keep_ms: int


def seal(key: str, envelope: Envelope) -> bytes:
    """Return what is written under a key."""
    head = b"%s %d %d %d" % (_VERSION, envelope.made_ms, envelope.ttl_ms, envelope.keep_ms)
    return b"%s %s\n%s" % (head, _digest(key, head, envelope.body), envelope.body)


def unseal(key: str, text: bytes) -> Envelope:
    """Return what was written under a key.

    Raises:
        Unreadable: It was written by another version, for another key, or not as it is now.
    """
    head, _, body = text.partition(b"\n")
    parts = head.split(b" ")
    if len(parts) != _PARTS or parts[0] != _VERSION:
        raise Unreadable
    if parts[-1] != _digest(key, b" ".join(parts[:-1]), body):
        raise Unreadable
    made, ttl, keep = map(int, parts[1:-1])
    return Envelope(body=body, made_ms=made, ttl_ms=ttl, keep_ms=keep)


def prediction(body: bytes) -> dict[str, Any]:
    """Return the values of a body.

    Raises:
        Unreadable: It is no JSON object.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unreadable from None
    if not isinstance(found, dict):
        raise Unreadable
    return found


def _digest(key: str, head: bytes, body: bytes) -> bytes:
    summed = hashlib.sha256(key.encode() + b"\n" + head + b"\n")
    summed.update(body)
    return summed.hexdigest()[:_DIGEST_DIGITS].encode()
