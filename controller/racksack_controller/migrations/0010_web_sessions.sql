-- Who is signed in at the page. The token itself is in the browser's cookie alone.
CREATE TABLE web_sessions (
    digest TEXT PRIMARY KEY,
    uid INTEGER NOT NULL,
    created_at_s REAL NOT NULL,
    seen_at_s REAL NOT NULL,
    browser TEXT NOT NULL
) STRICT;
