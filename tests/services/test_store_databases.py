"""Both databases behind the store: the same rows, the same searches, the same erasures."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from dspy_worker.core import notes
from dspy_worker.core.notes import Erasure
from dspy_worker.core.search import Query
from dspy_worker.errors import BatchRefused, StoreError
from dspy_worker.store import migrations, pgrows, pgsql, postgres, sqlite, statements
from dspy_worker.store.database import Batch, Counts, Forgotten
from dspy_worker.store.postgres import Postgres as PostgresDatabase
from dspy_worker.store.sqlite import SQLite
from tests import worker_process
from tests.store_records import FEEDBACK, NOON_MS, RECORD, feedback, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dspy_worker.store.database import Database
    from tests.postgres_process import Postgres

pytestmark = pytest.mark.services

APP = RECORD.app


@pytest.fixture(params=["postgres", "sqlite"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Return an empty database of either kind."""
    found: Database = SQLite(tmp_path / "predictions.sqlite")
    if request.param == "postgres":
        found = PostgresDatabase(request.getfixturevalue("postgres").new_database())
    await found.open()
    yield found
    await found.close()


async def names(database: Database, **wishes: object) -> list[str]:
    page = await database.search(Query(**wishes))  # type: ignore[arg-type]
    return [stored.record.id for stored in page.found]


async def dumped(database: Database) -> list[notes.Note]:
    return [note async for note in database.dump()]


async def test_what_is_written_is_read_as_it_was(database: Database) -> None:
    failed = record(1, prediction=None, error="LMUnavailable", cost_nanos=None, subject="")
    strange = record(
        2,
        inputs={"text": 'tab\t, line\nfeed, \\ and "quotes", \\N, half \ud800, nul \0', "x": 0.25},
        degraded=("fallback:spare", "stale"),
        cached="memory",
        question="0123456789abcdef0123456789abcdef",
    )

    written = await database.write(
        Batch(predictions=(RECORD, failed, strange), feedback=(FEEDBACK,))
    )

    assert written == Counts(predictions=3, feedback=1)
    expected = {"text": 'tab\t, line\nfeed, \\ and "quotes", \\N, half ?, nul \ufffd', "x": 0.25}
    page = await database.search(Query())
    assert [s.record for s in page.found] == [replace(strange, inputs=expected), failed, RECORD]
    assert [s.score for s in page.found] == [None, None, 0.5]
    assert await database.feedback(["p-0", "p-1"]) == (FEEDBACK,)
    assert await database.counts("") == written
    assert await database.counts("other/app") == Counts(predictions=0, feedback=0)


async def test_a_batch_that_comes_twice_changes_nothing(database: Database) -> None:
    batch = Batch(predictions=(RECORD, record(1)), feedback=(FEEDBACK,))
    await database.write(batch)
    before = await dumped(database)

    again = await database.write(batch)

    assert again.predictions == 0
    assert await dumped(database) == before


async def test_the_score_is_the_mean_of_the_feedback_whichever_comes_first(
    database: Database,
) -> None:
    await database.write(Batch(feedback=(feedback(1, 0, score=1.0),)))
    await database.write(Batch(predictions=(RECORD, record(1))))
    await database.write(Batch(feedback=(feedback(2, 0, score=0.0), feedback(3, 0, score=None))))

    found = {s.record.id: s.score for s in (await database.search(Query())).found}

    assert found == {"p-0": 0.5, "p-1": None}


async def test_feedback_of_the_same_name_replaces_older_feedback_only(database: Database) -> None:
    new = feedback(1, 0, score=1.0, unix_ms=NOON_MS + 9)
    old = feedback(1, 0, score=0.0, unix_ms=NOON_MS + 5)
    await database.write(Batch(predictions=(RECORD,), feedback=(old, new)))
    await database.write(Batch(feedback=(old,)))

    assert await database.feedback(["p-0"]) == (new,)
    assert (await database.search(Query())).found[0].score == 1.0


SEARCHES = [
    ({"app": "default/other"}, [3]),
    ({"text": "charged TWICE"}, [4, 3, 2, 1, 0]),
    ({"text": "refund please"}, [5]),
    ({"text": 'please" OR "charged'}, []),
    ({"text": "account"}, [5]),
    ({"fields": (("label", "account"),)}, [5]),
    ({"fields": (("urgent", True),)}, [4, 3, 2, 1, 0]),
    ({"fields": (("urgent", 1),)}, []),
    ({"fields": (("count", 3), ("label", "billing"))}, [4, 3, 2, 1, 0]),
    ({"fields": (("count", "3"),)}, []),
    ({"fields": (("count", None),)}, [5]),
    ({"since_ms": NOON_MS + 4000}, [5, 4]),
    ({"until_ms": NOON_MS + 1000}, [0]),
    ({"variant": "ba9876543210"}, [2]),
    ({"tenant": "globex"}, [4]),
    ({"subject": "customer-8"}, [1]),
    ({"least_score": 0.4}, [0]),
    ({"most_score": 0.4}, [1]),
    ({"least_cost_nanos": 3000}, [2]),
    ({"most_cost_nanos": 100, "text": "charged"}, [3]),
    ({"cached": True}, [4]),
    ({"degraded": True}, [2]),
    ({"degraded": False, "least_cost_nanos": 2000}, [5, 4, 1, 0]),
    ({"error": True}, [3]),
    ({"app": APP, "error": False, "tenant": "acme", "text": "twice"}, [2, 1, 0]),
]


@pytest.mark.parametrize(("wishes", "expected"), SEARCHES, ids=[str(w) for w, _ in SEARCHES])
async def test_search(database: Database, wishes: dict[str, object], expected: list[int]) -> None:
    rows = (
        RECORD,
        record(1, subject="customer-8"),
        record(2, variant="ba9876543210", cost_nanos=4000, degraded=("fallback:spare",)),
        record(3, app="default/other", cost_nanos=50, prediction=None, error="LMUnavailable"),
        record(4, tenant="globex", cached="redis"),
        record(
            5,
            inputs={"text": "Refund me, please", "count": None},
            prediction={"label": "account"},
        ),
    )
    if wishes.get("fields") == (("count", 3), ("label", "billing")):
        expected = [n for n in expected if n != 3]
    said = (feedback(0, 0, score=0.5), feedback(1, 1, score=0.25))
    await database.write(Batch(predictions=rows, feedback=said))

    assert await names(database, **wishes) == [f"p-{n}" for n in expected]


async def test_pages_hold_every_row_once_though_rows_come_and_moments_are_equal(
    database: Database,
) -> None:
    rows = [record(n, unix_ms=NOON_MS + n // 4) for n in range(23)]
    await database.write(Batch(predictions=tuple(rows)))

    found, cursor = [], ""
    for number in range(10):
        page = await database.search(Query(limit=5, cursor=cursor))
        found += [stored.record.id for stored in page.found]
        await database.write(Batch(predictions=(record(100 + number, unix_ms=NOON_MS + 99),)))
        cursor = page.cursor
        if not cursor:
            break

    assert sorted(found) == sorted(row.id for row in rows)
    assert len(found) == len(rows)


async def test_a_cursor_of_somebody_else_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="is no cursor"):
        await database.search(Query(cursor="eHk="))


async def test_an_erased_subject_is_gone_and_does_not_come_back(database: Database) -> None:
    of_him, of_her = record(0), record(1, subject="customer-8")
    by_him = feedback(1, 1, score=0.0)
    by_her = feedback(2, 0, subject="customer-8", score=1.0)
    await database.write(Batch(predictions=(of_him, of_her), feedback=(by_him, by_her)))
    erasure = Erasure(
        subject_sha256=notes.subject_sha256("customer-7"), tenant=None, unix_ms=NOON_MS + 5000
    )

    gone = await database.erase(erasure, "customer-7")
    spooled = await database.write(
        Batch(predictions=(of_him, record(2)), feedback=(by_him, feedback(9, 2)))
    )
    later = await database.write(Batch(predictions=(record(8),)))

    assert gone == Counts(predictions=1, feedback=2)
    assert spooled == Counts(predictions=0, feedback=0)
    assert later == Counts(predictions=1, feedback=0)
    assert await names(database) == ["p-8", "p-1"]
    assert (await database.search(Query(subject="customer-8"))).found[0].score is None
    kept = await dumped(database)
    assert erasure in kept
    assert sum("customer-7" in repr(note) for note in kept) == 1, "only what came later"


async def test_an_erasure_for_one_tenant_leaves_the_others(database: Database) -> None:
    await database.write(Batch(predictions=(record(0), record(1, tenant="globex"))))
    erasure = Erasure(
        subject_sha256=notes.subject_sha256("customer-7"), tenant="acme", unix_ms=NOON_MS + 9000
    )

    await database.erase(erasure, "customer-7")
    await database.write(Batch(predictions=(record(2), record(3, tenant="globex"))))

    assert await names(database) == ["p-3", "p-1"]


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        ({}, ["p-4"]),
        ({"tenant": "globex"}, ["p-4", "p-2", "p-1"]),
        ({"variant": "w"}, ["p-4", "p-3", "p-1"]),
    ],
    ids=["all", "a tenant", "a variant"],
)
async def test_answers_are_forgotten_and_their_predictions_stay(
    database: Database, wish: dict[str, str], left: list[str]
) -> None:
    rows = (
        record(0),
        record(1, question="q"),
        record(2, question="q", variant="w"),
        record(3, question="q", tenant="globex"),
        record(4, question="q", app="default/other", tenant="globex", variant="w"),
    )
    await database.write(Batch(predictions=rows))

    forgotten = await database.forget(Forgotten(app=APP, **wish))

    found = [stored.record for stored in (await database.search(Query())).found]
    assert len(found) == len(rows)
    assert [r.id for r in found if r.question] == left
    assert forgotten == 4 - len(left)


async def test_a_sweep_deletes_what_is_old_of_one_app_in_bounded_batches(
    database: Database,
) -> None:
    rows = tuple(record(n) for n in range(6))
    other = record(10, app="default/other", unix_ms=NOON_MS)
    await database.write(Batch(predictions=(*rows, other), feedback=(feedback(1, 0),)))

    first = await database.sweep(APP, NOON_MS + 4000, 3)
    second = await database.sweep(APP, NOON_MS + 4000, 3)
    third = await database.sweep(APP, NOON_MS + 4000, 3)

    assert (first, second, third) == (4, 1, 0)
    assert await names(database) == ["p-5", "p-4", "p-10"]
    assert await database.feedback(["p-0"]) == ()


async def test_a_row_that_the_database_cannot_hold_is_refused_and_leaves_no_trace(
    database: Database,
) -> None:
    impossible = record(1, app=None)

    with pytest.raises(BatchRefused):
        await database.write(Batch(predictions=(RECORD, impossible)))

    assert await names(database) == []
    assert (await database.write(Batch(predictions=(RECORD,)))).predictions == 1


# What only PostgreSQL, or only one kind at a time, has to show.

MANY = """
INSERT INTO predictions
SELECT 'g-' || n, timestamptz '2025-01-01' + n * interval '1 minute', 'default/app-' || n % 400,
    md5((n % 500)::text), '', 'tenant-' || n % 500, 'subject-' || n % 5000,
    jsonb_build_object('text', 'word' || n % 900, 'number', n % 5000),
    jsonb_build_object('label', 'label-' || n % 5000), '', 1, 1, 1, n * 1000, 1.0, '', '{}',
    to_tsvector('simple', 'common word' || n % 900 || ' rare' || n),
    CASE WHEN n % 10 = 0 THEN n / 50000.0 END
FROM generate_series(1, 50000) AS n
"""
PLANS = [
    ({"text": "common word77"}, "predictions_words"),
    ({"fields": (("number", 77),)}, "predictions_inputs"),
    ({"fields": (("label", "label-77"),)}, "predictions_prediction"),
    ({"since_ms": 1_735_700_000_000, "until_ms": 1_735_800_000_000}, "predictions_time"),
    ({}, "predictions_time"),
    ({"cursor": "MTczNTgwMDAwMDAwMCBnLTk="}, "predictions_time"),
    ({"app": "default/app-3"}, "predictions_app"),
    ({"variant": "28dd2c7955ce926456240b2ff0100bde"}, "predictions_variant"),
    ({"tenant": "tenant-77"}, "predictions_tenant"),
    ({"subject": "subject-77"}, "predictions_subject"),
    ({"least_score": 0.99}, "predictions_score"),
    ({"most_score": 0.01}, "predictions_score"),
    ({"least_cost_nanos": 49_900_000}, "predictions_cost"),
]


@pytest.fixture(scope="session")
def many(postgres_server: Postgres) -> str:
    """Return the URL of a database with 50,000 predictions."""
    url = postgres_server.new_database()

    async def fill() -> None:
        database = PostgresDatabase(url)
        await database.open()
        await database.close()

    asyncio.run(fill())
    postgres_server.ask(MANY, url)
    postgres_server.ask("ANALYZE predictions", url)
    return url


@pytest.mark.parametrize(("wishes", "index"), PLANS, ids=[str(wishes) for wishes, _ in PLANS])
def test_each_search_has_an_index(
    many: str, postgres: Postgres, wishes: dict[str, object], index: str
) -> None:
    query = Query(**wishes)  # type: ignore[arg-type]
    statement, values = statements.searching(query, pgrows.Dialect())

    with psycopg.connect(many) as connection:
        rows = connection.execute("EXPLAIN " + pgrows.named(statement), values).fetchall()

    plan = "\n".join(row[0] for row in rows)
    assert index in plan
    assert "Seq Scan" not in plan


async def migrated(url: str, last: int | None) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await postgres.migrate(connection, last)


@pytest.mark.parametrize("version", range(1, len(migrations.known("postgres")) + 1))
async def test_postgres_is_migrated_from_every_version_and_keeps_its_rows(
    postgres_server: Postgres, version: int
) -> None:
    url = postgres_server.new_database()
    await migrated(url, version)
    row = MANY.replace("50000)", "1)")
    if version == 1:
        row = row.replace(",\n    CASE WHEN n % 10 = 0 THEN n / 50000.0 END", "")
    postgres_server.ask(row, url)

    database = PostgresDatabase(url)
    await database.open()
    written = await database.write(Batch(predictions=(RECORD,), feedback=(FEEDBACK,)))

    assert written == Counts(predictions=1, feedback=1)
    assert await names(database) == ["p-0", "g-1"]
    assert await database.version() == len(migrations.known("postgres"))
    await database.close()


@pytest.mark.parametrize("version", range(1, len(migrations.known("sqlite")) + 1))
async def test_sqlite_is_migrated_from_every_version_and_keeps_its_rows(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "predictions.sqlite"
    with sqlite3.connect(path, isolation_level=None) as old:
        sqlite.migrate(old, version)
        old.execute(
            "INSERT INTO predictions (id, created, app, variant, request_id, tenant, subject,"
            " inputs, error, input_tokens, output_tokens, calls, duration_ms, cached, degraded,"
            " words) VALUES ('old', 1, 'a', 'v', '', '', '', '{}', '', 1, 1, 1, 1, '', '[]', 'ada')"
        )
    old.close()

    database = SQLite(path)
    await database.open()
    await database.write(Batch(predictions=(RECORD,), feedback=(FEEDBACK,)))

    assert await names(database) == ["p-0", "old"]
    assert await names(database, text="ada") == ["old"]
    assert await database.version() == len(migrations.known("sqlite"))
    await database.close()


def test_processes_that_migrate_at_once_do_each_step_once(postgres: Postgres) -> None:
    url = postgres.new_database()
    command = [*worker_process.COMMAND, "store", "migrate", "--url", url]

    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=60)[0] for process in processes]

    assert told == ["The tables have version 3.\n"] * 3
    applied = postgres.ask("SELECT number FROM store_migrations ORDER BY 1", url)
    assert applied == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("INSERT INTO store_migrations VALUES (99, 'later', 'x')", "have version 99, this worker"),
        ("UPDATE store_migrations SET sha256 = 'x' WHERE number = 1", "Migration 1 of the tables"),
    ],
    ids=["newer", "changed"],
)
async def test_tables_that_this_version_does_not_know_are_not_written_to(
    database: Database, tmp_path: Path, postgres_server: Postgres, change: str, says: str
) -> None:
    again: Database
    if isinstance(database, PostgresDatabase):
        postgres_server.ask(change, database._url)
        again = PostgresDatabase(database._url)
    else:
        with sqlite3.connect(tmp_path / "predictions.sqlite") as connection:
            connection.execute(
                change.replace("VALUES (99, 'later', 'x')", "VALUES (99, 'l', 'x', 1)")
            )
        connection.close()
        again = SQLite(tmp_path / "predictions.sqlite")

    with pytest.raises(StoreError, match=says):
        await again.open()
    with pytest.raises(StoreError):
        await again.write(Batch(predictions=(RECORD,)))
    await again.close()


TROUBLES = [
    ("postgresql://dspy:{password}@127.0.0.1:1/test", "Nothing listens where PostgreSQL should"),
    ("postgresql://dspy:wrong@127.0.0.1:{port}/postgres", "refuses the user or the password"),
    ("postgresql://dspy@127.0.0.1:{port}/postgres", "wants a password and the URL has none"),
    ("postgresql://dspy:{password}@127.0.0.1:{port}/nothing", "does not have the database"),
    ("postgresql://dspy:{password}@127.0.0.1:{port}/postgres?sslmode=require", "offers no TLS"),
    ("postgresql://dspy:{password}@nowhere.invalid/postgres", "host name is not known"),
    ("mysql://127.0.0.1/x", "is not like postgresql://"),
    ("host=127.0.0.1 password={password}", "is not like postgresql://"),
    ("postgresql://%zz", "is not like postgresql://"),
]


@pytest.mark.parametrize(("url", "says"), TROUBLES, ids=[says for _, says in TROUBLES])
async def test_what_is_wrong_with_a_url_is_told_without_it(
    postgres: Postgres, url: str, says: str
) -> None:
    database = PostgresDatabase(url.format(port=postgres.port, password="s3cret-Pa55"))

    with pytest.raises(StoreError) as caught:
        await database.open()

    told = str(caught.value)
    assert says in told
    assert not any(part in told for part in ("127.0.0.1", "s3cret", "nowhere", str(postgres.port)))


async def test_one_pod_at_a_time_sweeps(postgres: Postgres) -> None:
    url = postgres.new_database()
    database = PostgresDatabase(url)
    await database.open()
    await database.write(Batch(predictions=(RECORD,)))
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [pgsql.SWEEP_LOCK])
        assert await database.sweep(APP, NOON_MS + 1, 10) is None

    assert await database.sweep(APP, NOON_MS + 1, 10) == 1
    await database.close()


async def test_a_server_that_goes_away_and_comes_back_is_used_again(postgres: Postgres) -> None:
    database = PostgresDatabase(postgres.new_database())
    await database.open()
    await database.write(Batch(predictions=(RECORD,)))
    postgres.kill()
    with pytest.raises(StoreError):
        await database.write(Batch(predictions=(record(1),)))
    with pytest.raises(StoreError, match="Nothing listens where PostgreSQL should"):
        await database.open()

    postgres.start()
    await database.open()

    assert await database.write(Batch(predictions=(RECORD, record(1)))) == Counts(
        predictions=1, feedback=0
    )
    await database.close()


async def test_a_subject_is_erased_while_others_write(postgres_server: Postgres) -> None:
    """Rows of a transaction that the erasure cannot see yet must not survive it."""
    url = postgres_server.new_database()
    writers = [PostgresDatabase(url) for _ in range(2)]
    for writer in writers:
        await writer.open()
    erasure = Erasure(
        subject_sha256=notes.subject_sha256("customer-7"), tenant=None, unix_ms=NOON_MS + 10**9
    )

    async def write(writer: PostgresDatabase, first: int) -> None:
        for number in range(first, first + 30):
            await writer.write(
                Batch(predictions=tuple(record(number * 100 + n) for n in range(20)))
            )

    async def erase() -> None:
        await asyncio.sleep(0.1)
        await writers[0].erase(erasure, "customer-7")

    await asyncio.gather(write(writers[0], 0), write(writers[1], 50), erase())

    assert await names(writers[0]) == []
    for writer in writers:
        await writer.close()
