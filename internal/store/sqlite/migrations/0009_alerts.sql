-- +goose Up
-- What was wrong and whom it was told. Neither moves money nor lets anybody in, so they are outside the sums.
CREATE TABLE alerts (
  id            TEXT PRIMARY KEY,
  kind          TEXT NOT NULL,
  subject       TEXT NOT NULL,
  key           TEXT NOT NULL,
  severity      TEXT NOT NULL,
  title         TEXT NOT NULL,
  text          TEXT NOT NULL,
  first         INTEGER NOT NULL,
  last          INTEGER NOT NULL,
  resolved      INTEGER NOT NULL,  -- 0 = open
  told          INTEGER NOT NULL,
  told_severity TEXT NOT NULL,
  acked         INTEGER NOT NULL,
  acked_by      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX alerts_first ON alerts(first);
CREATE UNIQUE INDEX alerts_open ON alerts(kind, subject) WHERE resolved = 0;

-- The outbox: a message waits here until its target has taken it.
CREATE TABLE messages (
  id       TEXT PRIMARY KEY,
  target   TEXT NOT NULL,
  body     BLOB NOT NULL,
  created  INTEGER NOT NULL,
  due      INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  done     INTEGER NOT NULL,       -- 0 = waits
  error    TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX messages_created ON messages(created);
CREATE INDEX messages_waiting ON messages(due) WHERE done = 0;
