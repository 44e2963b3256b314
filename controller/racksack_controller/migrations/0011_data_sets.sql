-- Named content that jobs read: each version is one snapshot. `taken_at_s`: when a job last asked for it.
CREATE TABLE data_sets (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    added_at_s REAL NOT NULL,
    taken_at_s REAL NOT NULL,
    PRIMARY KEY (owner, name, version)
) WITHOUT ROWID;
CREATE INDEX data_sets_digest ON data_sets (digest);
