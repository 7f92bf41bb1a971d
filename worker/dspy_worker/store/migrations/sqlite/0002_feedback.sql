-- Feedback, the score that follows from it, and what was erased.
CREATE TABLE feedback (
    id            TEXT PRIMARY KEY,
    prediction_id TEXT NOT NULL,
    created       INTEGER NOT NULL,
    app           TEXT NOT NULL,
    variant       TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    score         REAL,
    label         TEXT,
    correction    TEXT,
    comment       TEXT,
    source        TEXT NOT NULL
);

CREATE INDEX feedback_prediction ON feedback (prediction_id);
CREATE INDEX feedback_app ON feedback (app, created);
CREATE INDEX feedback_subject ON feedback (subject) WHERE subject <> '';

ALTER TABLE predictions ADD COLUMN score REAL;
CREATE INDEX predictions_score ON predictions (score) WHERE score IS NOT NULL;

-- Who was erased, by hash, so that older rows do not come back from a journal or a backup.
CREATE TABLE erasures (
    subject_sha256 TEXT NOT NULL,
    tenant         TEXT,
    erased         INTEGER NOT NULL
);
CREATE INDEX erasures_subject ON erasures (subject_sha256);
