"""The most that a request may cost in tokens, before anybody has counted them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspy import lm15

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUEST_TOKENS = 64
"""What a provider's template may add to a request."""
PART_TOKENS = 16
"""What it may add to a message or to one of its parts."""
TOOLS_TOKENS = 1024
"""What it may add to explain that there are tools."""
MEDIA_TOKENS = 50_000
"""What an image, a sound or a document may count: more than any provider takes for an image."""
_PLAIN = (lm15.ToolCallPart, lm15.ToolResultPart, lm15.ThinkingPart, lm15.RefusalPart)
_PUNCTUATION = 4
_NUMBER = 32
_LIMITS = ("max_tokens", "max_completion_tokens")


def input_tokens(request: lm15.Request) -> int:
    """Return how many tokens a request's prompt has at most.

    Tokenizers work on bytes: no token is made of less than one, so a text has no more tokens than
    bytes. What stands around the texts is a margin for each message and part.
    """
    found = REQUEST_TOKENS + _parts(request.system)
    for message in request.messages:
        found += PART_TOKENS + _parts(message.parts)
    if request.tools:
        found += TOOLS_TOKENS + _bytes(request.tools)
    return found + _bytes(request.config.response_format) + _bytes(request.config.extensions)


def output_tokens(request: lm15.Request) -> int:
    """Return how many tokens an answer has at most; 0 where the request sets no limit."""
    config = request.config
    others = [(config.extensions or {}).get(name) for name in _LIMITS]
    return max(config.max_tokens or 0, *(n for n in others if isinstance(n, int)), 0)


def _parts(parts: str | Iterable[Any] | None) -> int:
    if parts is None or isinstance(parts, str):
        return _bytes(parts)
    return sum(PART_TOKENS + _part(part) for part in parts)


def _part(part: Any) -> int:  # noqa: ANN401 - lm15 has many
    if isinstance(part, lm15.TextPart):
        return _bytes(part.text)
    if isinstance(part, _PLAIN):
        return _bytes(part)
    return MEDIA_TOKENS + _bytes(part)


def _bytes(value: Any) -> int:  # noqa: ANN401 - JSON and lm15's values
    """Return an upper bound of a value's length as JSON, in UTF-8."""
    if value is None or isinstance(value, bool | int | float):
        return _NUMBER * (value is not None)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value) * 2
    if isinstance(value, Mapping):
        return sum(_PUNCTUATION + _bytes(k) + _bytes(v) for k, v in value.items())
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return sum(_PUNCTUATION + len(n) + _bytes(getattr(value, n)) for n in names)
    return sum(_PUNCTUATION + _bytes(item) for item in value)
