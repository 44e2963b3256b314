-- Whether those who are to be told of a sweep's end were told, or given up; revived, a sweep's next end is told anew.
ALTER TABLE sweeps ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE sweeps SET told = 1 WHERE ended_at_s IS NOT NULL;
CREATE INDEX sweeps_untold ON sweeps (ended_at_s) WHERE told = 0;
