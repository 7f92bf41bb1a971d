"""Rows as PostgreSQL takes and gives them: lines of JSON for COPY, and rows as notes again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from psycopg.types.json import Jsonb

from dspy_worker.core import notes
from dspy_worker.core.answer import FeedbackRecord, Record
from dspy_worker.core.notes import Erasure
from dspy_worker.core.search import Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspy_worker.core.search import Scalar

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_0-9]+)")


def named(statement: str) -> str:
    """Return a statement with its parameters as psycopg writes them."""
    return _PARAMETER.sub(r"%(\1)s", statement)


class Dialect:
    """What PostgreSQL says in its own way."""

    degraded = "degraded <> '{}'"
    text = "words @@ plainto_tsquery('simple', :text)"

    def moment(self, unix_ms: int) -> datetime:
        """Return a moment as a parameter."""
        return moment(unix_ms)

    def words(self, text: str) -> str:
        """Return words to look for; PostgreSQL reads them itself."""
        return text.replace("\0", " ")

    def field(self, number: int, name: str, value: Scalar) -> tuple[str, dict[str, Any]]:
        """Return the condition that a field has a value."""
        key = f"field_{number}"
        wanted = Jsonb({name: value}, dumps=orjson.dumps)
        return f"(inputs @> :{key} OR prediction @> :{key})", {key: wanted}


def copied(found: Iterable[Record | FeedbackRecord]) -> bytes:
    """Return notes as the text that COPY reads: JSON, words for the text search, subject's hash."""
    return b"".join(
        b"%b\t%b\t%b\n"
        % (
            _escape(notes.dump(note)),
            _escape(_words(note)),
            notes.subject_sha256(note.subject).encode(),
        )
        for note in found
    )


def stored(row: Mapping[str, Any]) -> Stored:
    """Return a row as the prediction that it is."""
    return Stored(record=record(row), score=row["score"])


def record(row: Mapping[str, Any]) -> Record:
    """Return a row as a prediction without its score."""
    values = {name: value for name, value in row.items() if name not in {"created", "score"}}
    values["degraded"] = tuple(row["degraded"])
    return Record(unix_ms=unix_ms(row["created"]), **values)


def feedback(row: Mapping[str, Any]) -> FeedbackRecord:
    """Return a row as feedback."""
    values = {name: value for name, value in row.items() if name != "created"}
    return FeedbackRecord(unix_ms=unix_ms(row["created"]), **values)


def erasure(row: Mapping[str, Any]) -> Erasure:
    """Return a row as what was erased."""
    return Erasure(
        subject_sha256=row["subject_sha256"],
        tenant=row["tenant"],
        unix_ms=unix_ms(row["erased"]),
    )


def moment(milliseconds: int) -> datetime:
    """Return a moment as PostgreSQL's driver takes it."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def unix_ms(found: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return round((found - _EPOCH) / timedelta(milliseconds=1))


def _words(note: Record | FeedbackRecord) -> bytes:
    return notes.words(note).encode() if isinstance(note, Record) else b""


def _escape(text: bytes) -> bytes:
    escaped = text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return escaped.replace(b"\t", b"\\t").replace(b"\r", b"\\r")
