-- The power of nodes: where each is between off and on, and the story of how it got there.

CREATE TABLE power (
    node TEXT PRIMARY KEY,
    record BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE power_events (
    id INTEGER PRIMARY KEY,
    at_s REAL NOT NULL,
    node TEXT NOT NULL,
    kind TEXT NOT NULL,
    way TEXT NOT NULL,
    sentence TEXT NOT NULL
);
CREATE INDEX power_events_node ON power_events (node, id);
CREATE INDEX power_events_at ON power_events (at_s);
