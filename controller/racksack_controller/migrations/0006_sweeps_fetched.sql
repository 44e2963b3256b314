-- Whether the owner of a sweep has its results; revived, a sweep is fetched anew.
ALTER TABLE sweeps ADD COLUMN fetched INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sweeps_unfetched ON sweeps (owner, id) WHERE fetched = 0;
