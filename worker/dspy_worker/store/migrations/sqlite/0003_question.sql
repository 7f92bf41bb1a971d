-- The name of the question in the cache, as a digest, so that a worker that starts knows whether it
-- may give the answer again.
ALTER TABLE predictions ADD COLUMN question TEXT NOT NULL DEFAULT '';
