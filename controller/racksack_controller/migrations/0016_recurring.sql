-- Recurring jobs: what is submitted anew, and when next (NULL while it is paused).
CREATE TABLE recurring (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    submission TEXT NOT NULL UNIQUE,
    due_at_s REAL,
    record TEXT NOT NULL
);
CREATE INDEX recurring_due ON recurring (due_at_s) WHERE due_at_s IS NOT NULL;
CREATE INDEX recurring_owner ON recurring (owner);
