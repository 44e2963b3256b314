-- Each rank of a gang is an attempt of its own, so the rank belongs to the key.
CREATE TABLE attempts_with_ranks (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    rank INTEGER NOT NULL,              -- 0 but for the further ranks of gangs
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    live INTEGER NOT NULL,              -- 1 while the controller has anything left to do about it
    record BLOB NOT NULL,
    PRIMARY KEY (job, number, rank)
) WITHOUT ROWID;
INSERT INTO attempts_with_ranks SELECT job, number, 0, node, state, live, record FROM attempts;
DROP TABLE attempts;
ALTER TABLE attempts_with_ranks RENAME TO attempts;
CREATE INDEX attempts_live ON attempts (job) WHERE live = 1;
