"""OpenAI's chat completion bodies and events, and the errors in its shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dspy_worker.practice.schema import Json

CREATED = 1
"""A fixed moment: the same request gets the same bytes."""
ID = "chatcmpl-practice"
PIECE = re.compile(r"\S+\s*|\s+")
DONE = b"data: [DONE]\n\n"
CHARS_PER_TOKEN = 4
MOST_CHOICES = 128


class RequestError(Exception):
    """A request that is no chat completion; the message is for its author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A chat completion as far as the practice LM reads it."""

    model: str
    messages: Sequence[Mapping[str, object]]
    temperature: float
    choices: int
    stream: bool
    identity: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, estimated from characters."""

    prompt: int
    completion: int

    def dump(self) -> dict[str, Json]:
        """Return the usage as OpenAI writes it."""
        total = self.prompt + self.completion
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": total,
        }


def read(body: bytes) -> Request:
    """Read the body of a request.

    Raises:
        RequestError: It is no chat completion.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"The body is not JSON: {error}.") from error
    messages = found.get("messages") if isinstance(found, dict) else None
    if not messages or not isinstance(messages, list):
        raise RequestError("'messages' is a list with at least one message.")
    if not all(isinstance(message, dict) for message in messages):
        raise RequestError("Each message is an object.")
    temperature = _number(found, "temperature", 0.0)
    return Request(
        model=str(found.get("model") or "practice"),
        messages=messages,
        temperature=temperature,
        choices=min(max(int(_number(found, "n", 1)), 1), MOST_CHOICES),
        stream=bool(found.get("stream")),
        identity=orjson.dumps([messages, temperature]) if temperature else b"",
    )


def _number(found: Mapping[str, object], name: str, otherwise: float) -> float:
    value = found.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name!r} is a number.")
    return float(value)


def usage(prompt_chars: int, texts: Sequence[str]) -> Usage:
    """Estimate the tokens of a call."""
    completion = sum(max(len(text) // CHARS_PER_TOKEN, 1) for text in texts)
    return Usage(prompt=max(prompt_chars // CHARS_PER_TOKEN, 1), completion=completion)


def completion(model: str, texts: Sequence[str], used: Usage) -> bytes:
    """Return the body of a whole answer."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        for index, text in enumerate(texts)
    ]
    return orjson.dumps(
        {
            "id": ID,
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "choices": choices,
            "usage": used.dump(),
        }
    )


def events(model: str, texts: Sequence[str], used: Usage) -> Iterator[bytes]:
    """Yield the events of a stream: a word each, the end of each choice, the usage, the end."""
    for index, text in enumerate(texts):
        for piece in PIECE.findall(text):
            yield _event(model, [_delta(index, {"content": piece}, None)])
        yield _event(model, [_delta(index, {}, "stop")])
    yield _event(model, [], used)
    yield DONE


def _delta(index: int, delta: dict[str, Json], reason: str | None) -> Json:
    return {"index": index, "delta": delta, "finish_reason": reason}


def _event(model: str, choices: list[Json], used: Usage | None = None) -> bytes:
    chunk: dict[str, Json] = {
        "id": ID,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": choices,
    }
    if used:
        chunk["usage"] = used.dump()
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def error(message: str, kind: str, code: str | None = None) -> bytes:
    """Return the body of an error."""
    return orjson.dumps({"error": {"message": message, "type": kind, "code": code}})


def models(names: Sequence[str]) -> bytes:
    """Return the list of models."""
    rows = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "practice"}
        for name in names
    ]
    return orjson.dumps({"object": "list", "data": rows})
