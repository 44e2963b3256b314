-- The ledger of sweeps. A result is never a row of its own: those of many points are one segment, in columns.

CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY,             -- of the same sequence as jobs
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    submission TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    code TEXT NOT NULL,                 -- equal for sweeps whose points can stand for each other
    submitted_at_s REAL NOT NULL,
    ended_at_s REAL,
    record BLOB NOT NULL,               -- what was submitted; never changes
    progress BLOB NOT NULL              -- how far it is
);
CREATE INDEX sweeps_live ON sweeps (id) WHERE ended_at_s IS NULL;
CREATE INDEX sweeps_code ON sweeps (code, owner, id);

-- Leases: points that one attempt of a runner job has. A row goes when its points are settled.
CREATE TABLE sweep_chunks (
    sweep INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (sweep, chunk)
) WITHOUT ROWID;

-- How far the results file of an attempt has been stored. A closed one takes no more.
CREATE TABLE sweep_streams (
    attempt TEXT PRIMARY KEY,
    sweep INTEGER NOT NULL,
    position INTEGER NOT NULL,
    is_open INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sweep_segments (
    id INTEGER PRIMARY KEY,
    sweep INTEGER NOT NULL,
    run INTEGER NOT NULL,               -- 0: the main run, 1: the control run
    chunk INTEGER NOT NULL,             -- 0 once its chunk is settled
    points INTEGER NOT NULL,            -- how many
    first INTEGER,                      -- points first, first + 1, ...; NULL: the first column has their numbers
    seconds_bytes INTEGER NOT NULL,     -- of the second column: how long each took
    columns TEXT NOT NULL,              -- JSON: [[name, kind, bytes], ...] of the columns after these
    data BLOB NOT NULL
);
CREATE INDEX sweep_segments_sweep ON sweep_segments (sweep, run, chunk);

-- Points that failed: for good, or (retry_at_s) until they are tried again.
CREATE TABLE sweep_failures (
    sweep INTEGER NOT NULL,
    run INTEGER NOT NULL,
    point INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sentence TEXT NOT NULL,
    seconds REAL NOT NULL,
    node TEXT NOT NULL,
    at_s REAL NOT NULL,
    retry_at_s REAL,
    PRIMARY KEY (sweep, run, point)
) WITHOUT ROWID;

-- Parameters that a search has drawn; those of a grid follow from the point's number and are stored nowhere.
CREATE TABLE sweep_params (
    sweep INTEGER NOT NULL,
    point INTEGER NOT NULL,
    params BLOB NOT NULL,
    PRIMARY KEY (sweep, point)
) WITHOUT ROWID;
