-- Values that points of sweeps report while they run, in columns as sweep_segments has them (`step` is one of them); and
-- the verdicts at rungs, saved in the transaction of the values that they rest on.
CREATE TABLE sweep_reports (
    id INTEGER PRIMARY KEY,
    sweep INTEGER NOT NULL,
    run INTEGER NOT NULL,
    lowest INTEGER NOT NULL,            -- the least and the greatest point of this row
    highest INTEGER NOT NULL,
    points INTEGER NOT NULL,            -- how many reports
    seconds_bytes INTEGER NOT NULL,
    columns TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX sweep_reports_sweep ON sweep_reports (sweep, run, lowest);

CREATE TABLE sweep_rungs (
    sweep INTEGER NOT NULL,
    run INTEGER NOT NULL,
    point INTEGER NOT NULL,
    rung INTEGER NOT NULL,
    value REAL,                         -- NULL: it was no number
    stop INTEGER NOT NULL,
    PRIMARY KEY (sweep, run, point, rung)
) WITHOUT ROWID;
