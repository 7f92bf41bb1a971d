"""Predictions in SQLite, for one machine without PostgreSQL: one file, one thread."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from dspy_worker.core import search
from dspy_worker.edge import sqlite_file
from dspy_worker.errors import BatchRefused, StoreError
from dspy_worker.store import migrations, sqliterows, sqlitesql, statements
from dspy_worker.store.database import Counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from dspy_worker.core.answer import FeedbackRecord
    from dspy_worker.core.notes import Erasure, Note
    from dspy_worker.core.search import Page, Query
    from dspy_worker.store.database import Batch

_T = TypeVar("_T")
_BUSY_SECONDS = 5.0
_DUMP_ROWS = 500
_NEVER = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError)


class SQLite:
    """A `Database` in a file."""

    def __init__(self, path: Path) -> None:
        """Open nothing yet."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Open the file and bring the tables up to date."""
        if self._connection is None:
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="store")
            self._connection = await self._run(functools.partial(_open, self._path))

    async def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._run(connection.close)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def check(self) -> None:
        """Ask whether it is there."""
        await self._with(lambda connection: connection.execute("SELECT 1").fetchone())

    async def write(self, batch: Batch) -> Counts:
        """Commit a batch."""
        return await self._with(lambda connection: _write(connection, batch))

    async def sweep(self, app: str, before_ms: int, most: int) -> int | None:
        """Delete old rows of an app."""
        values = {"app": app, "before": before_ms, "most": most}

        def delete(connection: sqlite3.Connection) -> int:
            feedback = connection.execute(sqlitesql.SWEEP_FEEDBACK, values).rowcount
            return feedback + connection.execute(sqlitesql.SWEEP_PREDICTIONS, values).rowcount

        return await self._with(delete)

    async def erase(self, erasure: Erasure, subject: str) -> Counts:
        """Delete all of a subject, and note that nothing older is to be written."""
        return await self._with(lambda connection: _erase(connection, erasure, subject))

    async def search(self, query: Query) -> Page:
        """Return a page of predictions, the newest first."""
        statement, values = statements.searching(query, sqliterows.DIALECT)
        rows = await self._with(lambda c: c.execute(statement, values).fetchall())
        return search.page([sqliterows.stored(row) for row in rows], query)

    async def feedback(self, prediction_ids: Sequence[str]) -> tuple[FeedbackRecord, ...]:
        """Return what was said about predictions."""
        names = [orjson.dumps(list(prediction_ids)).decode()]
        rows = await self._with(lambda c: c.execute(sqlitesql.FEEDBACK_OF, names).fetchall())
        return tuple(sqliterows.said(row) for row in rows)

    async def counts(self, app: str) -> Counts:
        """Return how many rows there are."""
        row = await self._with(lambda c: c.execute(sqlitesql.COUNTS, {"app": app}).fetchone())
        return Counts(predictions=row["predictions"], feedback=row["feedback"])

    async def connections(self) -> int:
        """Return how many connections this process has."""
        return int(self._connection is not None)

    async def version(self) -> int:
        """Return the number of the last migration."""
        row = await self._with(lambda c: c.execute(sqlitesql.VERSION).fetchone())
        return int(row["number"])

    async def dump(self) -> AsyncIterator[Note]:
        """Yield all that is stored, as it is at one moment."""
        read: dict[str, Callable[[sqlite3.Row], Note]] = {
            "predictions": sqliterows.record,
            "feedback": sqliterows.said,
            "erasures": sqliterows.erasure,
        }
        # A reader of its own: the moment lasts as long as it reads, and nobody waits for it.
        reader = await self._run(functools.partial(_connect, self._path))
        try:
            await self._run(lambda: reader.execute("BEGIN"))
            for table, statement in sqlitesql.DUMPS:
                rows = await self._run(functools.partial(reader.execute, statement))
                while some := await self._run(functools.partial(rows.fetchmany, _DUMP_ROWS)):
                    for row in some:
                        yield read[table](row)
        finally:
            await self._run(reader.close)

    async def _with(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something in a transaction, in the thread."""
        connection = self._connection
        if connection is None:
            raise StoreError("The file of predictions is not open.")

        def inside() -> _T:
            with sqlite_file.transaction(connection):
                return action(connection)

        return await self._run(inside)

    async def _run(self, action: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, action)
        except _NEVER as error:
            raise BatchRefused(_sentence(error)) from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(_sentence(error)) from error


def migrate(connection: sqlite3.Connection, last: int | None = None) -> None:
    """Bring the tables up to date in one transaction.

    Args:
        connection: The open file.
        last: Number of the migration to stop at; None for all.

    Raises:
        StoreError: It is not a file that this version may write to.
    """
    with sqlite_file.transaction(connection):
        connection.execute(sqlitesql.MIGRATIONS)
        applied = dict(tuple(row) for row in connection.execute(sqlitesql.APPLIED))
        for step in migrations.missing(migrations.known(migrations.SQLITE), applied):
            if last is None or step.number <= last:
                for statement in _split(step.sql):
                    connection.execute(statement)
                connection.execute(sqlitesql.APPLY, (step.number, step.name, step.sha256))


def _open(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite_file.connect(path, busy_seconds=_BUSY_SECONDS)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _split(script: str) -> Iterator[str]:
    """Yield the statements of a script; a trigger holds semicolons of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _write(connection: sqlite3.Connection, batch: Batch) -> Counts:
    for erasure in batch.erasures:
        connection.execute(sqlitesql.REMEMBER_ERASURE, dataclasses.asdict(erasure))
    predictions = [sqliterows.prediction(record) for record in batch.predictions]
    feedback = [sqliterows.feedback(record) for record in batch.feedback]
    counts = Counts(
        predictions=_added(connection, sqlitesql.PREDICTION, predictions),
        feedback=_added(connection, sqlitesql.FEEDBACK, feedback),
    )
    names = [*(r.id for r in batch.predictions), *(f.prediction_id for f in batch.feedback)]
    connection.executemany(sqlitesql.SCORE, [(name,) for name in names])
    return counts


def _added(connection: sqlite3.Connection, statement: str, rows: list[dict[str, Any]]) -> int:
    return max(0, connection.executemany(statement, rows).rowcount) if rows else 0


def _erase(connection: sqlite3.Connection, erasure: Erasure, subject: str) -> Counts:
    values = {**dataclasses.asdict(erasure), "subject": subject}
    connection.execute(sqlitesql.REMEMBER_ERASURE, values)
    about = connection.execute(sqlitesql.FEEDBACK_ABOUT, values).fetchall()
    connection.executemany(sqlitesql.FORGET_FEEDBACK, [(row["id"],) for row in about])
    predictions = connection.execute(sqlitesql.ERASE_PREDICTIONS, values).rowcount
    connection.executemany(sqlitesql.SCORE, [(row["prediction_id"],) for row in about])
    return Counts(predictions=predictions, feedback=len(about))


def _sentence(error: Exception) -> str:
    why = getattr(error, "strerror", None) or str(error)  # an OSError's text has the path in it
    return f"The file of predictions cannot be used: {why.lower()}."
