-- +goose Up
CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE upstreams (
  id   TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  doc  BLOB NOT NULL             -- vault's encoding; the secret in it is sealed
) WITHOUT ROWID;

CREATE TABLE policies (
  digest TEXT PRIMARY KEY,
  yaml   BLOB NOT NULL           -- canonical; shared by all keys that have it
) WITHOUT ROWID;

CREATE TABLE keys (
  id       TEXT PRIMARY KEY,
  name     TEXT NOT NULL,
  upstream TEXT NOT NULL,
  version  INTEGER NOT NULL,     -- grows with every change
  live     INTEGER NOT NULL,
  policy   TEXT NOT NULL REFERENCES policies(digest),
  doc      BLOB NOT NULL         -- vault's encoding: digests, never secrets
);
CREATE UNIQUE INDEX keys_live_name ON keys(name) WHERE live = 1;

CREATE TABLE tokens (
  name    TEXT PRIMARY KEY,
  digest  BLOB NOT NULL UNIQUE,
  role    TEXT NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL       -- 0 = never
) WITHOUT ROWID;

CREATE TABLE brakes (
  scope  TEXT PRIMARY KEY,       -- all, upstream:ID, key:ID, freeze:ID; no row = normal
  mode   INTEGER NOT NULL,
  reason TEXT NOT NULL,
  actor  TEXT NOT NULL,
  at     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE rates (
  currency TEXT PRIMARY KEY,
  id       TEXT NOT NULL,
  value    INTEGER NOT NULL,
  source   TEXT NOT NULL,
  as_of    INTEGER NOT NULL
) WITHOUT ROWID;

-- A running total per cap and window; a new window is a new row.
CREATE TABLE accounts (
  key      TEXT NOT NULL,
  resource TEXT NOT NULL,
  per      INTEGER NOT NULL,
  unit     INTEGER NOT NULL,
  label    TEXT NOT NULL,
  held     INTEGER NOT NULL CHECK (held >= 0),
  settled  INTEGER NOT NULL CHECK (settled >= 0),
  PRIMARY KEY (key, resource, per, unit, label)
) WITHOUT ROWID;

-- What a principal was counted for on one object of the vendor.
CREATE TABLE objects (
  key      TEXT NOT NULL,
  bucket   TEXT NOT NULL,
  object   TEXT NOT NULL,
  currency TEXT NOT NULL,
  doc      BLOB NOT NULL,
  PRIMARY KEY (key, object, bucket, currency)
) WITHOUT ROWID;

CREATE TABLE reservations (
  id     INTEGER PRIMARY KEY,
  key    TEXT NOT NULL,
  state  INTEGER NOT NULL,       -- 0 reserved, 1 unknown, 2 settled, 3 released
  at     INTEGER NOT NULL,       -- microseconds
  idem   TEXT,                   -- account, newline, the agent's idempotency key; NULL once released
  fixed  BLOB NOT NULL,          -- what never changes
  moving BLOB NOT NULL           -- what its fate changes
);
CREATE UNIQUE INDEX reservations_idem ON reservations(key, idem) WHERE idem IS NOT NULL;
CREATE INDEX reservations_open ON reservations(id) WHERE state < 2;
CREATE INDEX reservations_key ON reservations(key, id);

-- The chain. No secondary index here: it would cost every call. Search goes by the tables below, which
-- are filled behind, by number.
CREATE TABLE audit (
  seq  INTEGER PRIMARY KEY,
  at   INTEGER NOT NULL,
  key  TEXT NOT NULL,
  call INTEGER NOT NULL,         -- number of the call's intent record; 0 = belongs to no call
  hash BLOB NOT NULL,
  body BLOB NOT NULL
);
CREATE TABLE audit_by_key (
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (key, seq)
) WITHOUT ROWID;
CREATE TABLE audit_by_call (
  call INTEGER NOT NULL,
  seq  INTEGER NOT NULL,
  PRIMARY KEY (call, seq)
) WITHOUT ROWID;
CREATE TABLE heads (
  seq  INTEGER PRIMARY KEY,
  doc  BLOB NOT NULL
);
