-- Feedback, the score that follows from it, and what was erased.
CREATE TABLE feedback (
    id            text PRIMARY KEY,
    prediction_id text NOT NULL,
    created       timestamptz NOT NULL,
    app           text NOT NULL,
    variant       text NOT NULL,
    tenant        text NOT NULL,
    subject       text NOT NULL,
    score         double precision,
    label         text,
    correction    jsonb,
    comment       text,
    source        text NOT NULL
);

-- No foreign key: feedback may be written before its prediction, which waits in another pod.
CREATE INDEX feedback_prediction ON feedback (prediction_id);
CREATE INDEX feedback_app ON feedback (app, created);
CREATE INDEX feedback_subject ON feedback (subject) WHERE subject <> '';

ALTER TABLE predictions ADD COLUMN score double precision;
CREATE INDEX predictions_score ON predictions (score) WHERE score IS NOT NULL;

-- Who was erased, by hash, so that older rows do not come back from a journal or a backup.
CREATE TABLE erasures (
    subject_sha256 text NOT NULL,
    tenant         text,
    erased         timestamptz NOT NULL
);
CREATE INDEX erasures_subject ON erasures (subject_sha256);
