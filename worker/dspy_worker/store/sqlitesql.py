"""The statements of the store in SQLite."""

from __future__ import annotations

from dspy_worker.store import statements

MIGRATIONS = """
CREATE TABLE IF NOT EXISTS store_migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
)
"""
APPLIED = "SELECT number, sha256 FROM store_migrations"
APPLY = "INSERT INTO store_migrations (number, name, sha256) VALUES (?, ?, ?)"

_COLUMNS = ", ".join(statements.COLUMNS)
_FEEDBACK_COLUMNS = ", ".join(statements.FEEDBACK_COLUMNS)
_VALUES = _COLUMNS.replace("created", "unix_ms").replace(", ", ", :")
_FEEDBACK_VALUES = _FEEDBACK_COLUMNS.replace("created", "unix_ms").replace(", ", ", :")
_NOT_ERASED = """
NOT EXISTS (
    SELECT 1 FROM erasures e
    WHERE e.subject_sha256 = :subject_sha256 AND (e.tenant IS NULL OR e.tenant = :tenant)
      AND :unix_ms <= e.erased
)
"""
# Only names of this file and of `statements` go into the statements, never a value.
PREDICTION = f"""
INSERT INTO predictions ({_COLUMNS}, words)
SELECT :{_VALUES}, :words WHERE {_NOT_ERASED}
ON CONFLICT (id) DO NOTHING
"""
FEEDBACK = f"""
INSERT INTO feedback ({_FEEDBACK_COLUMNS})
SELECT :{_FEEDBACK_VALUES} WHERE {_NOT_ERASED}
ON CONFLICT (id) DO UPDATE SET
    prediction_id = excluded.prediction_id, created = excluded.created, app = excluded.app,
    variant = excluded.variant, tenant = excluded.tenant, subject = excluded.subject,
    score = excluded.score, label = excluded.label, correction = excluded.correction,
    comment = excluded.comment, source = excluded.source
WHERE excluded.created >= feedback.created
"""
SCORE = """
UPDATE predictions
SET score = (SELECT avg(f.score) FROM feedback f WHERE f.prediction_id = predictions.id)
WHERE id = ?
"""
REMEMBER_ERASURE = """
INSERT INTO erasures (subject_sha256, tenant, erased)
SELECT :subject_sha256, :tenant, :unix_ms
WHERE NOT EXISTS (
    SELECT 1 FROM erasures
    WHERE subject_sha256 = :subject_sha256 AND tenant IS :tenant AND erased >= :unix_ms
)
"""
_OF_SUBJECT = "subject = :subject AND subject <> '' AND (:tenant IS NULL OR tenant = :tenant)"
FEEDBACK_ABOUT = f"""
SELECT id, prediction_id FROM feedback
WHERE ({_OF_SUBJECT}) OR prediction_id IN (SELECT id FROM predictions WHERE {_OF_SUBJECT})
"""  # noqa: S608
FORGET_FEEDBACK = "DELETE FROM feedback WHERE id = ?"
ERASE_PREDICTIONS = f"DELETE FROM predictions WHERE {_OF_SUBJECT}"  # noqa: S608
SWEEP_FEEDBACK = """
DELETE FROM feedback WHERE id IN (
    SELECT id FROM feedback WHERE app = :app AND created < :before ORDER BY created LIMIT :most
)
"""
SWEEP_PREDICTIONS = """
DELETE FROM predictions WHERE number IN (
    SELECT number FROM predictions WHERE app = :app AND created < :before
    ORDER BY created LIMIT :most
)
"""
FEEDBACK_OF = f"""
SELECT {_FEEDBACK_COLUMNS} FROM feedback
WHERE prediction_id IN (SELECT value FROM json_each(?)) ORDER BY created, id
"""  # noqa: S608
COUNTS = """
SELECT
    (SELECT count(*) FROM predictions WHERE :app = '' OR app = :app) AS predictions,
    (SELECT count(*) FROM feedback WHERE :app = '' OR app = :app) AS feedback
"""
VERSION = "SELECT coalesce(max(number), 0) AS number FROM store_migrations"
DUMPS = (
    ("predictions", f"SELECT {_COLUMNS} FROM predictions ORDER BY created, id"),  # noqa: S608
    ("feedback", f"SELECT {_FEEDBACK_COLUMNS} FROM feedback ORDER BY created, id"),  # noqa: S608
    ("erasures", "SELECT subject_sha256, tenant, erased FROM erasures ORDER BY erased"),
)
