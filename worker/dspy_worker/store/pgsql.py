"""The statements of the store in PostgreSQL."""

from __future__ import annotations

from dspy_worker.store import statements

MIGRATE_LOCK, WRITE_LOCK, SWEEP_LOCK = 0x44535059_01, 0x44535059_02, 0x44535059_03
"""Advisory locks. Writers of predictions share `WRITE_LOCK`; whoever writes feedback or erases has
it alone, so that no row is written that has not seen what concerns it."""

MIGRATIONS = """
CREATE TABLE IF NOT EXISTS store_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
APPLIED = "SELECT number, sha256 FROM store_migrations"
APPLY = "INSERT INTO store_migrations (number, name, sha256) VALUES (%s, %s, %s)"

INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    line jsonb NOT NULL, words text NOT NULL, subject_sha256 text NOT NULL
) ON COMMIT DELETE ROWS
"""
COPY = "COPY incoming (line, words, subject_sha256) FROM STDIN"
_NOT_ERASED = """
NOT EXISTS (
    SELECT FROM erasures e
    WHERE e.subject_sha256 = i.subject_sha256
      AND (e.tenant IS NULL OR e.tenant = r.tenant)
      AND to_timestamp(r.unix_ms / 1000.0) <= e.erased
)
"""
PREDICTIONS = f"""
INSERT INTO predictions (
    id, created, app, variant, request_id, tenant, subject, inputs, prediction, error,
    input_tokens, output_tokens, calls, cost_nanos, duration_ms, cached, degraded, question,
    words
)
SELECT
    r.id, to_timestamp(r.unix_ms / 1000.0), r.app, r.variant, r.request_id, r.tenant, r.subject,
    r.inputs, nullif(r.prediction, 'null'), r.error,
    r.input_tokens, r.output_tokens, r.calls, r.cost_nanos, r.duration_ms, r.cached, r.degraded,
    coalesce(r.question, ''), to_tsvector('simple', i.words)
FROM incoming i, jsonb_to_record(i.line) AS r(
    id text, unix_ms bigint, app text, variant text, request_id text, tenant text, subject text,
    inputs jsonb, prediction jsonb, error text, input_tokens bigint, output_tokens bigint,
    calls bigint, cost_nanos bigint, duration_ms double precision, cached text, degraded text[],
    question text
)
WHERE {_NOT_ERASED}
ORDER BY r.id
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - put together from this file only
FEEDBACK = f"""
INSERT INTO feedback (
    id, prediction_id, created, app, variant, tenant, subject, score, label, correction, comment,
    source
)
SELECT DISTINCT ON (r.id)
    r.id, r.prediction_id, to_timestamp(r.unix_ms / 1000.0), r.app, r.variant, r.tenant, r.subject,
    r.score, r.label, nullif(r.correction, 'null'), r.comment, r.source
FROM incoming i, jsonb_to_record(i.line) AS r(
    id text, prediction_id text, unix_ms bigint, app text, variant text, tenant text, subject text,
    score double precision, label text, correction jsonb, comment text, source text
)
WHERE {_NOT_ERASED}
ORDER BY r.id, r.unix_ms DESC
ON CONFLICT (id) DO UPDATE SET
    prediction_id = excluded.prediction_id, created = excluded.created, app = excluded.app,
    variant = excluded.variant, tenant = excluded.tenant, subject = excluded.subject,
    score = excluded.score, label = excluded.label, correction = excluded.correction,
    comment = excluded.comment, source = excluded.source
WHERE excluded.created >= feedback.created
"""  # noqa: S608 - put together from this file only
FORGET_INCOMING = "DELETE FROM incoming"
SCORES = """
UPDATE predictions p SET score = m.mean
FROM (
    SELECT i.id, avg(f.score) AS mean
    FROM unnest(%s::text[]) AS i(id) LEFT JOIN feedback f ON f.prediction_id = i.id
    GROUP BY i.id
) m
WHERE p.id = m.id AND p.score IS DISTINCT FROM m.mean
"""

REMEMBER_ERASURE = """
INSERT INTO erasures (subject_sha256, tenant, erased)
SELECT %(sha256)s, %(tenant)s, %(erased)s
WHERE NOT EXISTS (
    SELECT FROM erasures
    WHERE subject_sha256 = %(sha256)s AND tenant IS NOT DISTINCT FROM %(tenant)s
      AND erased >= %(erased)s
)
"""
_OF_SUBJECT = (
    "subject = %(subject)s AND subject <> '' AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"
)
ERASE_FEEDBACK = f"""
DELETE FROM feedback
WHERE ({_OF_SUBJECT}) OR prediction_id IN (SELECT id FROM predictions WHERE {_OF_SUBJECT})
RETURNING prediction_id
"""  # noqa: S608 - put together from this file only
ERASE_PREDICTIONS = f"DELETE FROM predictions WHERE {_OF_SUBJECT}"  # noqa: S608 - of this file only

SWEEP_FEEDBACK = """
DELETE FROM feedback WHERE id IN (
    SELECT id FROM feedback WHERE app = %(app)s AND created < %(before)s
    ORDER BY created LIMIT %(most)s
)
"""
SWEEP_PREDICTIONS = """
DELETE FROM predictions WHERE id IN (
    SELECT id FROM predictions WHERE app = %(app)s AND created < %(before)s
    ORDER BY created LIMIT %(most)s
)
"""

_COLUMNS = ", ".join(statements.COLUMNS)
_FEEDBACK_COLUMNS = ", ".join(statements.FEEDBACK_COLUMNS)
FEEDBACK_OF = f"""
SELECT {_FEEDBACK_COLUMNS} FROM feedback WHERE prediction_id = ANY(%s) ORDER BY created, id
"""  # noqa: S608 - put together from this file only
COUNTS = """
SELECT
    (SELECT count(*) FROM predictions WHERE %(app)s = '' OR app = %(app)s) AS predictions,
    (SELECT count(*) FROM feedback WHERE %(app)s = '' OR app = %(app)s) AS feedback
"""
CONNECTIONS = """
SELECT count(*) AS connections FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s
"""
VERSION = "SELECT coalesce(max(number), 0) AS number FROM store_migrations"
DUMPS = (
    ("predictions", f"SELECT {_COLUMNS} FROM predictions ORDER BY created, id"),  # noqa: S608
    ("feedback", f"SELECT {_FEEDBACK_COLUMNS} FROM feedback ORDER BY created, id"),  # noqa: S608
    ("erasures", "SELECT subject_sha256, tenant, erased FROM erasures ORDER BY erased"),
)
