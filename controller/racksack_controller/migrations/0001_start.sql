-- The store of one spool: the durable truth about jobs, attempts and nodes.
-- `record` columns hold the whole record as JSON; the other columns exist to be searched by.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    submission TEXT NOT NULL,           -- one job file, once: see docs/file-protocol.md
    array_index INTEGER,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    submitted_at_s REAL NOT NULL,
    ended_at_s REAL,
    fetched INTEGER NOT NULL DEFAULT 0,
    record BLOB NOT NULL
);
CREATE UNIQUE INDEX jobs_submission ON jobs (submission, ifnull(array_index, -1));
CREATE INDEX jobs_active ON jobs (id) WHERE ended_at_s IS NULL;
CREATE INDEX jobs_ended ON jobs (ended_at_s);
CREATE INDEX jobs_unfetched ON jobs (owner, id) WHERE fetched = 0;
CREATE INDEX jobs_name ON jobs (name, id);

CREATE TABLE attempts (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    live INTEGER NOT NULL,              -- 1 while the controller has anything left to do about it
    record BLOB NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE INDEX attempts_live ON attempts (job) WHERE live = 1;

CREATE TABLE nodes (
    name TEXT PRIMARY KEY,
    record BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at_s REAL NOT NULL,
    job INTEGER,
    node TEXT,
    sentence TEXT NOT NULL
);
CREATE INDEX events_job ON events (job, id) WHERE job IS NOT NULL;
CREATE INDEX events_node ON events (node, id) WHERE node IS NOT NULL;

CREATE TABLE uploads (
    upload TEXT PRIMARY KEY,            -- folder name below incoming/
    owner TEXT NOT NULL,
    digest TEXT NOT NULL,
    at_s REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE snapshot_owners (
    digest TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (digest, owner)
) WITHOUT ROWID;


-- What the scheduler has learnt: what owners used of late (fair share), and how long and large programs ran.
CREATE TABLE usage (
    owner TEXT PRIMARY KEY,
    record BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE history (
    key TEXT PRIMARY KEY,               -- owner, project and entrypoint as JSON
    record BLOB NOT NULL
) WITHOUT ROWID;
