"""The SQL that both databases share, and how each says what it says in its own way.

Names of parameters are written as `:name`; the values travel beside the statement, always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dspy_worker.core import search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspy_worker.core.search import Query, Scalar

COLUMNS = (
    "id",
    "created",
    "app",
    "variant",
    "request_id",
    "tenant",
    "subject",
    "inputs",
    "prediction",
    "error",
    "input_tokens",
    "output_tokens",
    "calls",
    "cost_nanos",
    "duration_ms",
    "cached",
    "degraded",
    "question",
)
"""Of a prediction, in the order of `Record`; the score comes behind them."""
FEEDBACK_COLUMNS = (
    "id",
    "prediction_id",
    "created",
    "app",
    "variant",
    "tenant",
    "subject",
    "score",
    "label",
    "correction",
    "comment",
    "source",
)
"""Of feedback, in the order of `FeedbackRecord`."""

FORGET = """
UPDATE predictions SET question = ''
WHERE app = :app AND question <> ''
  AND (:variant = '' OR variant = :variant) AND (:tenant = '' OR tenant = :tenant)
"""

_SIMPLE = {
    "app": "app = :app",
    "variant": "variant = :variant",
    "tenant": "tenant = :tenant AND tenant <> ''",
    "subject": "subject = :subject AND subject <> ''",
}
_BOUNDS = {
    "least_score": "score >= :least_score",
    "most_score": "score <= :most_score",
    "least_cost_nanos": "cost_nanos >= :least_cost_nanos",
    "most_cost_nanos": "cost_nanos <= :most_cost_nanos",
}
_EITHER = {"cached": "cached <> ''", "error": "error <> ''"}


class Dialect(Protocol):
    """What each database says in a way of its own."""

    degraded: str
    text: str

    def moment(self, unix_ms: int) -> Any:  # noqa: ANN401 - what the driver takes
        """Return a moment as a parameter."""

    def words(self, text: str) -> str:
        """Return words to look for as a parameter of `text`."""

    def field(self, number: int, name: str, value: Scalar) -> tuple[str, dict[str, Any]]:
        """Return the condition that a field has a value, and its parameters."""


def searching(query: Query, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """Return the statement that finds a page and the row behind it, and its parameters.

    Raises:
        ValueError: The cursor is none.
    """
    conditions: list[str] = []
    values: dict[str, Any] = {"rows": search.limit(query) + 1}
    for condition, more in _conditions(query, dialect):
        conditions.append(condition)
        values |= more
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    columns = ", ".join((*COLUMNS, "score"))
    # Only text of this file and of the dialects goes into the statement, never a value.
    return (
        f"SELECT {columns} FROM predictions{where} ORDER BY created DESC, id DESC LIMIT :rows",  # noqa: S608
        values,
    )


def _conditions(query: Query, dialect: Dialect) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, condition in (_SIMPLE | _BOUNDS).items():
        value = getattr(query, name)
        if value not in {"", None}:
            yield condition, {name: value}
    for name, condition in (_EITHER | {"degraded": dialect.degraded}).items():
        wanted = getattr(query, name)
        if wanted is not None:
            yield (condition if wanted else f"NOT ({condition})"), {}
    yield from _moments(query, dialect)
    if query.text.strip():
        yield dialect.text, {"text": dialect.words(query.text)}
    for number, (name, value) in enumerate(query.fields):
        yield dialect.field(number, name, value)


def _moments(query: Query, dialect: Dialect) -> Iterator[tuple[str, dict[str, Any]]]:
    if query.since_ms is not None:
        yield "created >= :since", {"since": dialect.moment(query.since_ms)}
    if query.until_ms is not None:
        yield "created < :until", {"until": dialect.moment(query.until_ms)}
    if query.cursor:
        moment, name = search.position(query.cursor)
        values = {"last_created": dialect.moment(moment), "last_id": name}
        yield "(created, id) < (:last_created, :last_id)", values
