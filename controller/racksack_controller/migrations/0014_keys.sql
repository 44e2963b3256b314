-- Each job and sweep has a random key, so that a return folder of the same number is not taken for its own after the
-- store was lost or restored.
UPDATE jobs SET record = CAST(json_set(CAST(record AS TEXT), '$.key', lower(hex(randomblob(8)))) AS BLOB);
UPDATE sweeps SET record = CAST(json_set(CAST(record AS TEXT), '$.key', lower(hex(randomblob(8)))) AS BLOB);

-- The elements of an array that ended otherwise than done; all of an array share its submission.
CREATE INDEX jobs_broken ON jobs (submission, id) WHERE ended_at_s IS NOT NULL AND state != 'done';
