-- +goose Up
-- Files with records that are no longer in the table audit. What is in one of them is not in the record a second time,
-- however much of it is still to be removed here. A row is never removed: it knows what had been there.
CREATE TABLE archives (
  first   INTEGER PRIMARY KEY,   -- number of the file's first record
  last    INTEGER NOT NULL,
  hash    BLOB NOT NULL,         -- of the last one: the next record goes on from it
  begun   INTEGER NOT NULL,      -- when the first was written, in microseconds
  ended   INTEGER NOT NULL,      -- when the last was
  file    TEXT NOT NULL          -- its name in the archive folder
);
