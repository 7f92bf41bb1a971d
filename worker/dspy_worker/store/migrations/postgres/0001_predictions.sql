-- Predictions. Each index serves one kind of search, all of them in the order of time.
CREATE TABLE predictions (
    id            text PRIMARY KEY,
    created       timestamptz NOT NULL,
    app           text NOT NULL,
    variant       text NOT NULL,
    request_id    text NOT NULL,
    tenant        text NOT NULL,
    subject       text NOT NULL,
    inputs        jsonb NOT NULL,
    prediction    jsonb,
    error         text NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    calls         bigint NOT NULL,
    cost_nanos    bigint,
    duration_ms   double precision NOT NULL,
    cached        text NOT NULL,
    degraded      text[] NOT NULL,
    words         tsvector NOT NULL
);

-- The planner guesses how rare a value is from a sample of whole documents; a hundred are too few.
ALTER TABLE predictions ALTER COLUMN inputs SET STATISTICS 1000;
ALTER TABLE predictions ALTER COLUMN prediction SET STATISTICS 1000;

CREATE INDEX predictions_time ON predictions (created, id);
CREATE INDEX predictions_app ON predictions (app, created, id);
CREATE INDEX predictions_variant ON predictions (variant, created, id);
CREATE INDEX predictions_tenant ON predictions (tenant, created, id) WHERE tenant <> '';
CREATE INDEX predictions_subject ON predictions (subject, created, id) WHERE subject <> '';
CREATE INDEX predictions_cost ON predictions (cost_nanos) WHERE cost_nanos IS NOT NULL;
CREATE INDEX predictions_words ON predictions USING gin (words);
CREATE INDEX predictions_inputs ON predictions USING gin (inputs jsonb_path_ops);
CREATE INDEX predictions_prediction ON predictions USING gin (prediction jsonb_path_ops);
