-- Predictions; times are milliseconds since 1970.
CREATE TABLE predictions (
    number        INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    created       INTEGER NOT NULL,
    app           TEXT NOT NULL,
    variant       TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    inputs        TEXT NOT NULL,
    prediction    TEXT,
    error         TEXT NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    calls         INTEGER NOT NULL,
    cost_nanos    INTEGER,
    duration_ms   REAL NOT NULL,
    cached        TEXT NOT NULL,
    degraded      TEXT NOT NULL,
    words         TEXT NOT NULL
);

CREATE INDEX predictions_time ON predictions (created, id);
CREATE INDEX predictions_variant ON predictions (variant, created, id);
CREATE INDEX predictions_subject ON predictions (subject, created, id) WHERE subject <> '';
CREATE INDEX predictions_cost ON predictions (cost_nanos) WHERE cost_nanos IS NOT NULL;

CREATE VIRTUAL TABLE predictions_words USING fts5 (
    words, content = 'predictions', content_rowid = 'number',
    tokenize = 'unicode61 remove_diacritics 0'
);
CREATE TRIGGER predictions_added AFTER INSERT ON predictions BEGIN
    INSERT INTO predictions_words (rowid, words) VALUES (new.number, new.words);
END;
CREATE TRIGGER predictions_gone AFTER DELETE ON predictions BEGIN
    INSERT INTO predictions_words (predictions_words, rowid, words)
    VALUES ('delete', old.number, old.words);
END;
