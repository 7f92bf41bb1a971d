"""What is noted of predictions, as lines: the form of the journal and of backups.

    p 1a2b3c4d {"id":"...","unix_ms":...}

A letter for the kind, the CRC-32 of letter and JSON, the JSON, a line feed. A line that a crash has
torn does not fit its checksum.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from dspy_worker.core.answer import FeedbackRecord, Record


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """That nothing is to be kept of a subject up to a moment.

    Attributes:
        subject_sha256: Hash of the subject, so that it is not kept by its own erasure.
        tenant: On whose account; None for all.
        unix_ms: The moment, in milliseconds since 1970.
    """

    subject_sha256: str
    tenant: str | None
    unix_ms: int


Note: TypeAlias = Record | FeedbackRecord | Erasure

MOST_WORDS = 65_536
"""Characters of a prediction that text search finds; PostgreSQL's index has a limit of its own."""
_KINDS: dict[bytes, type[Note]] = {b"p": Record, b"f": FeedbackRecord, b"e": Erasure}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_NAMES = {kind: frozenset(f.name for f in dataclasses.fields(kind)) for kind in _LETTERS}
_HEAD = len(b"p 1a2b3c4d ")
_NUL = b"\\u0000"


def write(note: Note) -> bytes:
    """Return a note as a line."""
    letter, body = _LETTERS[type(note)], dump(note)
    return b"%b %08x %b\n" % (letter, _checksum(letter, body), body)


def read(line: bytes) -> Note | None:
    """Return the note of a line; None where it is torn, damaged or of an unknown kind."""
    letter, body = line[:1], line[_HEAD:-1]
    kind = _KINDS.get(letter)
    if kind is None or line != b"%b %08x %b\n" % (letter, _checksum(letter, body), body):
        return None
    try:
        found = orjson.loads(body)
        known = {name: value for name, value in found.items() if name in _NAMES[kind]}
        if kind is Record:
            known["degraded"] = tuple(known.get("degraded", ()))
        return kind(**known)
    except (ValueError, TypeError, AttributeError):
        return None


def dump(note: Note) -> bytes:
    """Return a note as JSON that databases take, even where a program's values are not such."""
    try:
        body = orjson.dumps(note)
    except (TypeError, ValueError):  # half a surrogate, a huge integer
        body = b""
    if body and _NUL not in body:
        return body
    fields = {f.name: getattr(note, f.name) for f in dataclasses.fields(note)}
    return json.dumps(_clean(fields), ensure_ascii=False, separators=(",", ":")).encode()


def words(record: Record) -> str:
    """Return the texts of a prediction's inputs and outputs, for text search."""
    found: list[str] = []
    room = MOST_WORDS
    waiting: list[Any] = [record.prediction, record.inputs]
    while waiting and room > 0:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(reversed(list(value.values())))
        elif isinstance(value, list | tuple):
            waiting.extend(reversed(value))
        elif value is not None:
            text = str(value)[:room]
            found.append(text)
            room -= len(text) + 1
    return str(_clean(" ".join(found)))


def subject_sha256(subject: str) -> str:
    """Return the hash that erasures know a subject by; empty for nobody."""
    return hashlib.sha256(subject.encode()).hexdigest() if subject else ""


def _checksum(letter: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(letter))


def _clean(value: Any) -> Any:  # noqa: ANN401 - JSON, or nearly
    """Return a value without what JSON or PostgreSQL does not know."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, int | float) else _clean(str(value))
