-- Energy: joules by node and time (five minutes, older ones an hour), by job, and how far each node was metered.
CREATE TABLE energy (
    node TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    span_s INTEGER NOT NULL,
    joules REAL NOT NULL,
    sensor_j REAL NOT NULL,             -- the measured part; the rest is estimated
    idle_j REAL NOT NULL,               -- the part that no job used
    always_j REAL NOT NULL,             -- what it would have drawn had it never been off
    on_s REAL NOT NULL,
    known_s REAL NOT NULL,
    PRIMARY KEY (node, start_s)
) WITHOUT ROWID;
CREATE INDEX energy_time ON energy (start_s);

CREATE TABLE energy_jobs (
    job INTEGER PRIMARY KEY,
    joules REAL NOT NULL,
    sensor_j REAL NOT NULL,
    at_s REAL NOT NULL
);
CREATE INDEX energy_jobs_time ON energy_jobs (at_s);

CREATE TABLE energy_meters (
    node TEXT PRIMARY KEY,
    at_s REAL NOT NULL,
    watts REAL NOT NULL,
    idle_watts REAL
) WITHOUT ROWID;
