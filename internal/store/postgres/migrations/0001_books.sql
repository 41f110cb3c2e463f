-- +goose Up
-- One row. Whoever writes locks it first, so that all nodes' transactions are in one order: a stop, a lowered cap and an
-- admission can never pass each other, and there is one chain. It holds what the next transaction goes on from.
CREATE TABLE books (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  writes      BIGINT NOT NULL,   -- transactions so far: a node whose memory is of this one need not read again
  control     BIGINT NOT NULL,   -- actions of operators so far: a node that knows this one knows all keys, brakes, upstreams, rates
  seq         BIGINT NOT NULL,   -- number of the last audit record
  hash        BYTEA  NOT NULL,   -- its hash
  at          BIGINT NOT NULL,   -- when it was written, in microseconds: no later transaction is before it
  reservation BIGINT NOT NULL,   -- number of the next reservation
  indexed     BIGINT NOT NULL    -- the search index covers the audit up to here
);

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE upstreams (
  id   TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  doc  BYTEA NOT NULL            -- vault's encoding; the secret in it is sealed
);

CREATE TABLE policies (
  digest TEXT PRIMARY KEY,
  yaml   BYTEA NOT NULL          -- canonical; shared by all keys that have it
);

CREATE TABLE keys (
  place    BIGINT GENERATED ALWAYS AS IDENTITY, -- oldest first
  id       TEXT PRIMARY KEY,
  name     TEXT NOT NULL,
  upstream TEXT NOT NULL,
  version  BIGINT NOT NULL,      -- grows with every change
  live     BOOLEAN NOT NULL,
  policy   TEXT NOT NULL REFERENCES policies(digest),
  doc      BYTEA NOT NULL,       -- vault's encoding: digests, never secrets
  changed  BIGINT NOT NULL       -- books.control of the last change
);
CREATE UNIQUE INDEX keys_live_name ON keys(name) WHERE live;
CREATE INDEX keys_changed ON keys(changed);

CREATE TABLE brakes (
  scope  TEXT PRIMARY KEY,       -- all, upstream:ID, key:ID, freeze:ID; no row = normal
  mode   BIGINT NOT NULL,
  reason TEXT NOT NULL,
  actor  TEXT NOT NULL,
  at     BIGINT NOT NULL
);

CREATE TABLE rates (
  currency TEXT PRIMARY KEY,
  id       TEXT NOT NULL,
  value    BIGINT NOT NULL,
  source   TEXT NOT NULL,
  as_of    BIGINT NOT NULL
);

-- A running total per cap and window; a new window is a new row.
CREATE TABLE accounts (
  key      TEXT NOT NULL,
  resource TEXT NOT NULL,
  per      BIGINT NOT NULL,
  unit     BIGINT NOT NULL,
  label    TEXT NOT NULL,
  held     BIGINT NOT NULL CHECK (held >= 0),
  settled  BIGINT NOT NULL CHECK (settled >= 0),
  PRIMARY KEY (key, resource, per, unit, label)
);

-- What a principal was counted for on one object of the vendor.
CREATE TABLE objects (
  object   TEXT NOT NULL,
  key      TEXT NOT NULL,
  bucket   TEXT NOT NULL,
  currency TEXT NOT NULL,
  doc      BYTEA NOT NULL,
  PRIMARY KEY (object, key, bucket, currency)
);

CREATE TABLE reservations (
  id          BIGINT PRIMARY KEY,
  key         TEXT NOT NULL,
  state       BIGINT NOT NULL,   -- 0 reserved, 1 unknown, 2 settled, 3 released
  at          BIGINT NOT NULL,   -- microseconds
  node        TEXT NOT NULL,     -- who sends it: only that node, or whoever takes over after it, may call it unknown
  idem        TEXT,              -- account, newline, the agent's idempotency key; NULL once released
  fingerprint BYTEA NOT NULL,
  fixed       BYTEA NOT NULL,    -- what never changes
  moving      BYTEA NOT NULL     -- what its fate changes
);
CREATE UNIQUE INDEX reservations_idem ON reservations(key, idem) WHERE idem IS NOT NULL;
CREATE INDEX reservations_open ON reservations(id) WHERE state < 2;
CREATE INDEX reservations_unknown ON reservations(key, fingerprint, id) WHERE state = 1;
CREATE INDEX reservations_key ON reservations(key, id);

-- The chain, filled in one order by all nodes. Search goes by the tables below, which are filled behind, by number.
CREATE TABLE audit (
  seq  BIGINT PRIMARY KEY,
  at   BIGINT NOT NULL,
  key  TEXT NOT NULL,
  call BIGINT NOT NULL,          -- number of the call's intent record; 0 = belongs to no call
  hash BYTEA NOT NULL,
  body BYTEA NOT NULL
);
CREATE INDEX audit_deeds ON audit(seq) WHERE call = 0;
CREATE INDEX audit_deeds_of_key ON audit(key, seq) WHERE call = 0;
CREATE TABLE audit_by_key (
  key TEXT NOT NULL,
  seq BIGINT NOT NULL,
  PRIMARY KEY (key, seq)
);
CREATE TABLE audit_by_call (
  call BIGINT NOT NULL,
  seq  BIGINT NOT NULL,
  PRIMARY KEY (call, seq)
);
CREATE TABLE heads (
  seq BIGINT PRIMARY KEY,
  doc BYTEA NOT NULL
);
CREATE TABLE archives (
  first BIGINT PRIMARY KEY,
  last  BIGINT NOT NULL,
  hash  BYTEA NOT NULL,
  begun BIGINT NOT NULL,
  ended BIGINT NOT NULL,
  file  TEXT NOT NULL
);

CREATE TABLE tokens (
  name     TEXT PRIMARY KEY,
  digest   BYTEA NOT NULL UNIQUE,
  operator TEXT NOT NULL,
  role     TEXT NOT NULL,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL,      -- 0 = never
  used     BIGINT NOT NULL       -- roughly
);
CREATE TABLE operators (
  id       TEXT PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  role     TEXT NOT NULL,
  issuer   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  email    TEXT NOT NULL,
  created  BIGINT NOT NULL,
  disabled BIGINT NOT NULL       -- 0 = not
);
CREATE UNIQUE INDEX operators_subject ON operators(issuer, subject) WHERE subject <> '';
CREATE TABLE passes (
  digest   BYTEA PRIMARY KEY,
  kind     TEXT NOT NULL,
  operator TEXT NOT NULL,
  token    TEXT NOT NULL,
  created  BIGINT NOT NULL,
  seen     BIGINT NOT NULL,
  expires  BIGINT NOT NULL,
  origin   TEXT NOT NULL,
  agent    TEXT NOT NULL
);
CREATE TABLE creations (
  digest  BYTEA PRIMARY KEY,
  request BYTEA NOT NULL,
  answer  BYTEA NOT NULL,
  at      BIGINT NOT NULL
);
CREATE INDEX creations_at ON creations(at);
CREATE TABLE alerts (
  id            TEXT PRIMARY KEY,
  kind          TEXT NOT NULL,
  subject       TEXT NOT NULL,
  key           TEXT NOT NULL,
  severity      TEXT NOT NULL,
  title         TEXT NOT NULL,
  text          TEXT NOT NULL,
  first         BIGINT NOT NULL,
  last          BIGINT NOT NULL,
  resolved      BIGINT NOT NULL,
  told          BIGINT NOT NULL,
  told_severity TEXT NOT NULL,
  acked         BIGINT NOT NULL,
  acked_by      TEXT NOT NULL
);
CREATE INDEX alerts_first ON alerts(first);
CREATE UNIQUE INDEX alerts_open ON alerts(kind, subject) WHERE resolved = 0;
CREATE TABLE messages (
  id       TEXT PRIMARY KEY,
  target   TEXT NOT NULL,
  body     BYTEA NOT NULL,
  created  BIGINT NOT NULL,
  due      BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  done     BIGINT NOT NULL,
  error    TEXT NOT NULL
);
CREATE INDEX messages_created ON messages(created);
CREATE INDEX messages_waiting ON messages(due) WHERE done = 0;

-- Who serves this store. A node writes its row with each look at the store, and what it has seen of the operators' actions.
CREATE TABLE nodes (
  id       TEXT PRIMARY KEY,     -- "node_" and base32 digits, new with each start
  name     TEXT NOT NULL,        -- the operator's name for it, or the machine's
  version  TEXT NOT NULL,
  started  BIGINT NOT NULL,
  seen     BIGINT NOT NULL,      -- by the store's clock
  control  BIGINT NOT NULL,      -- books.control that it acts on
  lease    BIGINT NOT NULL,      -- microseconds that it may act after it was seen
  calls    BIGINT NOT NULL,      -- passed since it started
  ended    BIGINT NOT NULL       -- 0 = it has not said goodbye, and nobody has taken over from it
);
