"""How deep a JSON text is nested, without parsing it: parsers recurse, this does not."""

from __future__ import annotations

import re

MAX_DEPTH = 64

# Strings are swallowed whole, so that brackets inside of them do not count.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def too_deep(body: bytes, limit: int = MAX_DEPTH) -> bool:
    """Return whether arrays and objects are nested deeper than `limit`."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    depth = 0
    for match in _TOKENS.finditer(body):
        token = match[0]
        depth += (token in {b"[", b"{"}) - (token in {b"]", b"}"})
        if depth > limit:
            return True
    return False
