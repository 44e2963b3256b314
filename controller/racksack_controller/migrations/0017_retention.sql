-- Results that are to be removed by `keep: returns`, and when their owners were told.
CREATE TABLE returns_doomed (
    id INTEGER PRIMARY KEY,
    at_s REAL NOT NULL
) WITHOUT ROWID;
