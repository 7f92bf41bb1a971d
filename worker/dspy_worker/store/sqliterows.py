"""Rows as SQLite takes and gives them: JSON as text, times in milliseconds since 1970."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from dspy_worker.core import notes
from dspy_worker.core.answer import FeedbackRecord, Record
from dspy_worker.core.notes import Erasure
from dspy_worker.core.search import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from sqlite3 import Row

    from dspy_worker.core.search import Scalar

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class Dialect:
    """What SQLite says in its own way."""

    degraded = "degraded <> '[]'"
    text = "number IN (SELECT rowid FROM predictions_words WHERE predictions_words MATCH :text)"

    def moment(self, unix_ms: int) -> int:
        """Return a moment as a parameter."""
        return unix_ms

    def words(self, text: str) -> str:
        """Return words to look for as FTS5 writes them: quoted, so that none is an operator."""
        quoted = (word.replace('"', '""') for word in text.replace("\0", " ").split())
        return " ".join(f'"{word}"' for word in quoted)

    def field(self, number: int, name: str, value: Scalar) -> tuple[str, dict[str, Any]]:
        """Return the condition that a field has a value; 1 is not true, and "1" is not 1."""
        path, wanted = f"path_{number}", f"field_{number}"
        types = f"kind_{number}"
        values: dict[str, Any] = {path: f"$.{json.dumps(name)}", types: json.dumps(_types(value))}
        holds = "json_type({0}, :{1}) IN (SELECT value FROM json_each(:{2}))"
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            holds += " AND json_extract({0}, :{1}) = :{3}"
            values[wanted] = value if not isinstance(value, int) else _held(value)
        either = (holds.format(c, path, types, wanted) for c in ("inputs", "prediction"))
        return f"({' OR '.join(f'({one})' for one in either)})", values


DIALECT = Dialect()


def prediction(record: Record) -> dict[str, Any]:
    """Return a prediction as the parameters of its row."""
    values = orjson.loads(notes.dump(record))
    for name in ("inputs", "prediction", "degraded"):
        values[name] = _text(values[name])
    return {**_numbers(values), "words": notes.words(record), **_subject(record)}


def feedback(record: FeedbackRecord) -> dict[str, Any]:
    """Return feedback as the parameters of its row."""
    values = orjson.loads(notes.dump(record))
    values["correction"] = _text(values["correction"])
    return {**_numbers(values), **_subject(record)}


def stored(row: Row) -> Stored:
    """Return a row as the prediction that it is."""
    return Stored(record=record(row), score=row["score"])


def record(row: Row) -> Record:
    """Return a row as a prediction without its score."""
    values = {name: row[name] for name in row.keys() if name not in {"created", "score"}}  # noqa: SIM118 - a Row yields values
    values["inputs"] = orjson.loads(row["inputs"])
    values["prediction"] = _value(row["prediction"])
    values["degraded"] = tuple(orjson.loads(row["degraded"]))
    return Record(unix_ms=row["created"], **values)


def said(row: Row) -> FeedbackRecord:
    """Return a row as feedback."""
    values = {name: row[name] for name in row.keys() if name != "created"}  # noqa: SIM118
    values["correction"] = _value(row["correction"])
    return FeedbackRecord(unix_ms=row["created"], **values)


def erasure(row: Row) -> Erasure:
    """Return a row as what was erased."""
    return Erasure(
        subject_sha256=row["subject_sha256"], tenant=row["tenant"], unix_ms=row["erased"]
    )


def _types(value: Scalar) -> list[str]:
    if value is None or isinstance(value, bool):
        return [{None: "null", True: "true", False: "false"}[value]]
    return ["text"] if isinstance(value, str) else ["integer", "real"]


def _held(value: int) -> int | float:
    """Return a number that SQLite can hold."""
    return value if _LEAST <= value <= _MOST else float(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _held(v) if isinstance(v, int) else v for k, v in values.items()}


def _subject(record: Record | FeedbackRecord) -> dict[str, str]:
    return {"subject_sha256": notes.subject_sha256(record.subject)}


def _text(value: Any) -> str | None:  # noqa: ANN401 - JSON
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(text: str | None) -> Any:  # noqa: ANN401 - JSON
    return None if text is None else orjson.loads(text)
