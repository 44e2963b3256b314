-- What people are to be told, until each channel has it. A row that was sent stays for a while, so that it is not made twice.
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    key TEXT NOT NULL,
    made_at_s REAL NOT NULL,
    notice TEXT NOT NULL, -- JSON
    settled_at_s REAL, -- when it was sent, or given up
    UNIQUE (channel, key)
);
CREATE INDEX notices_pending ON notices (channel, id) WHERE settled_at_s IS NULL;
CREATE INDEX notices_settled ON notices (settled_at_s) WHERE settled_at_s IS NOT NULL;
