"""Predictions in PostgreSQL: a small pool, batches by COPY, migrations at connecting.

A pool that has failed is thrown away, and the next `open` tells by one plain connection what is
wrong: the pool itself only knows that it waited in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from dspy_worker.core import search
from dspy_worker.errors import BatchRefused, StoreError
from dspy_worker.store import migrations, pgrows, pgsql, pgtrouble, statements
from dspy_worker.store.database import Batch, Counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from dspy_worker.core.answer import FeedbackRecord, Record
    from dspy_worker.core.notes import Erasure, Note
    from dspy_worker.core.search import Page, Query
    from dspy_worker.store.database import Forgotten

    Connection = psycopg.AsyncConnection[dict[str, Any]]
    Pool = AsyncConnectionPool[Connection]

APPLICATION = "dspy-worker"
MOST_CONNECTIONS = 4
_CONNECT_SECONDS = 5
_POOL_SECONDS = 5.0
_STATEMENT_SECONDS = 30
_LONG_SECONDS = 600
_DUMP_SECONDS = 86_400
_DUMP_ROWS = 500
_DIALECT = pgrows.Dialect()
_READ: dict[str, Callable[[Mapping[str, Any]], Note]] = {
    "predictions": pgrows.record,
    "feedback": pgrows.feedback,
    "erasures": pgrows.erasure,
}
_NEVER = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)
"""Errors that the same rows will cause again."""


class Postgres:
    """A `Database` in PostgreSQL."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        self._url = url
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect and bring the tables up to date."""
        async with self._opening:
            if self._pool is None:
                settings = _settings(self._url)
                await _migrated(settings)
                self._pool = await _pool(settings)

    async def close(self) -> None:
        """Disconnect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=1)

    async def check(self) -> None:
        """Ask whether it is there."""
        async with self._transaction() as connection:
            await connection.execute("SELECT 1")

    async def write(self, batch: Batch) -> Counts:
        """Commit a batch."""
        alone = bool(batch.feedback or batch.erasures)
        predictions = await asyncio.to_thread(pgrows.copied, batch.predictions)
        feedback = await asyncio.to_thread(pgrows.copied, batch.feedback)
        async with self._transaction() as connection:
            await _lock(connection, alone=alone)
            for erasure in batch.erasures:
                await connection.execute(pgsql.REMEMBER_ERASURE, _erasure(erasure))
            counts = Counts(
                predictions=await _copy(connection, predictions, pgsql.PREDICTIONS),
                feedback=await _copy(connection, feedback, pgsql.FEEDBACK),
            )
            await connection.execute(pgsql.SCORES, [_scored(batch)])
        return counts

    async def sweep(self, app: str, before_ms: int, most: int) -> int | None:
        """Delete old rows of an app."""
        values = {"app": app, "before": pgrows.moment(before_ms), "most": most}
        async with self._transaction(_LONG_SECONDS) as connection:
            found = await connection.execute(
                "SELECT pg_try_advisory_xact_lock(%s) AS mine", [pgsql.SWEEP_LOCK]
            )
            if not (await _only(found))["mine"]:
                return None
            feedback = await connection.execute(pgsql.SWEEP_FEEDBACK, values)
            predictions = await connection.execute(pgsql.SWEEP_PREDICTIONS, values)
            return feedback.rowcount + predictions.rowcount

    async def erase(self, erasure: Erasure, subject: str) -> Counts:
        """Delete all of a subject, and note that nothing older is to be written."""
        values = {**_erasure(erasure), "subject": subject}
        async with self._transaction(_LONG_SECONDS) as connection:
            await _lock(connection, alone=True)
            await connection.execute(pgsql.REMEMBER_ERASURE, values)
            feedback = await connection.execute(pgsql.ERASE_FEEDBACK, values)
            about = [row["prediction_id"] for row in await feedback.fetchall()]
            predictions = await connection.execute(pgsql.ERASE_PREDICTIONS, values)
            await connection.execute(pgsql.SCORES, [about])
            return Counts(predictions=predictions.rowcount, feedback=len(about))

    async def search(self, query: Query) -> Page:
        """Return a page of predictions, the newest first."""
        statement, values = statements.searching(query, _DIALECT)
        async with self._transaction() as connection:
            found = await connection.execute(pgrows.named(statement), values)
            return search.page([pgrows.stored(row) for row in await found.fetchall()], query)

    async def feedback(self, prediction_ids: Sequence[str]) -> tuple[FeedbackRecord, ...]:
        """Return what was said about predictions."""
        async with self._transaction() as connection:
            found = await connection.execute(pgsql.FEEDBACK_OF, [list(prediction_ids)])
            return tuple(pgrows.feedback(row) for row in await found.fetchall())

    async def forget(self, answers: Forgotten) -> int:
        """Let no worker that starts give these answers again."""
        async with self._transaction(_LONG_SECONDS) as connection:
            statement = pgrows.named(statements.FORGET)
            return (await connection.execute(statement, asdict(answers))).rowcount

    async def counts(self, app: str) -> Counts:
        """Return how many rows there are."""
        async with self._transaction(_LONG_SECONDS) as connection:
            return Counts(**await _only(await connection.execute(pgsql.COUNTS, {"app": app})))

    async def connections(self) -> int:
        """Return how many connections workers have."""
        async with self._transaction() as connection:
            found = await connection.execute(pgsql.CONNECTIONS, [APPLICATION])
            return int((await _only(found))["connections"])

    async def version(self) -> int:
        """Return the number of the last migration."""
        async with self._transaction() as connection:
            return int((await _only(await connection.execute(pgsql.VERSION)))["number"])

    async def dump(self) -> AsyncIterator[Note]:
        """Yield all that is stored, as it is at one moment."""
        async with self._transaction(_DUMP_SECONDS) as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for table, statement in pgsql.DUMPS:
                async with connection.cursor(name=f"dump_{table}") as cursor:
                    cursor.itersize = _DUMP_ROWS
                    await cursor.execute(statement)
                    async for row in cursor:
                        yield _READ[table](row)

    @contextlib.asynccontextmanager
    async def _transaction(self, seconds: int = _STATEMENT_SECONDS) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction; translate what goes wrong."""
        if self._pool is None:
            raise StoreError(pgtrouble.UNREACHABLE)
        try:
            async with (
                asyncio.timeout(seconds + _POOL_SECONDS),
                self._pool.connection() as connection,
                connection.transaction(),
            ):
                await connection.execute(f"SET LOCAL statement_timeout = '{seconds}s'")
                yield connection
        except _NEVER as error:
            raise BatchRefused(pgtrouble.sentence(error)) from error
        except (psycopg.OperationalError, PoolClosed, PoolTimeout, TimeoutError) as error:
            await self.close()
            raise StoreError(pgtrouble.sentence(error)) from error
        except psycopg.Error as error:
            raise StoreError(pgtrouble.sentence(error)) from error


def _settings(url: str) -> dict[str, Any]:
    """Return the parameters of a connection; what the URL says wins."""
    try:
        said = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise StoreError(pgtrouble.MALFORMED) from None
    if not url.startswith(("postgresql://", "postgres://")):
        raise StoreError(pgtrouble.MALFORMED)
    ours = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": APPLICATION,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    return {**ours, **said}


async def _migrated(settings: dict[str, Any]) -> None:
    try:
        async with (
            asyncio.timeout(_LONG_SECONDS),
            await psycopg.AsyncConnection.connect(**settings) as connection,
        ):
            await migrate(connection)
    except (psycopg.Error, TimeoutError) as error:
        raise StoreError(pgtrouble.sentence(error)) from error


async def migrate(connection: psycopg.AsyncConnection[Any], last: int | None = None) -> None:
    """Bring the tables up to date in one transaction; one process at a time does it.

    Args:
        connection: A connection outside of a transaction.
        last: Number of the migration to stop at; None for all.

    Raises:
        StoreError: It is not a database that this version may write to.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [pgsql.MIGRATE_LOCK])
        await connection.execute(pgsql.MIGRATIONS)
        rows = await (await connection.execute(pgsql.APPLIED)).fetchall()
        for step in migrations.missing(migrations.known(migrations.POSTGRES), dict(rows)):
            if last is None or step.number <= last:
                await connection.execute(step.sql)
                await connection.execute(pgsql.APPLY, [step.number, step.name, step.sha256])


async def _pool(settings: dict[str, Any]) -> Pool:
    pool: Pool = AsyncConnectionPool(
        kwargs={**settings, "row_factory": dict_row, "prepare_threshold": None},
        min_size=1,
        max_size=MOST_CONNECTIONS,
        open=False,
        timeout=_POOL_SECONDS,
        check=AsyncConnectionPool.check_connection,
        max_idle=60,
        reconnect_timeout=_POOL_SECONDS,
        name="store",
    )
    await pool.open()
    return pool


async def _lock(connection: Connection, *, alone: bool) -> None:
    lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
    await connection.execute(f"SELECT {lock}(%s)", [pgsql.WRITE_LOCK])


async def _copy(connection: Connection, lines: bytes, insert: str) -> int:
    """Copy lines into the temporary table and from there to where they belong."""
    if not lines:
        return 0
    await connection.execute(pgsql.INCOMING)
    async with connection.cursor() as cursor:
        async with cursor.copy(pgsql.COPY) as copy:
            await copy.write(lines)
        await cursor.execute(insert)
        written = cursor.rowcount
        await cursor.execute(pgsql.FORGET_INCOMING)
    return written


async def _only(found: psycopg.AsyncCursor[dict[str, Any]]) -> dict[str, Any]:
    row = await found.fetchone()
    return row or {}


def _scored(batch: Batch) -> list[str]:
    """Return the predictions whose score a batch may change."""
    named: Sequence[Record] = batch.predictions
    return [*(r.id for r in named), *(f.prediction_id for f in batch.feedback)]


def _erasure(erasure: Erasure) -> dict[str, Any]:
    return {
        "sha256": erasure.subject_sha256,
        "tenant": erasure.tenant,
        "erased": pgrows.moment(erasure.unix_ms),
    }
