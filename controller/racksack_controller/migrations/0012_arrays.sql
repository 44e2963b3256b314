-- How many jobs an array has. They are saved in parts, so until as many are there the array is not whole.
CREATE TABLE arrays (
    submission TEXT PRIMARY KEY,
    size INTEGER NOT NULL
) WITHOUT ROWID;
