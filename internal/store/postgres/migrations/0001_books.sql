-- +goose Up
-- Texts are ordered by their bytes, as in every engine, whatever the database's locale. What comes from outside and must be
-- found again byte by byte is BYTEA: a text takes neither a zero byte nor what is not UTF-8.

-- One row. Whoever writes locks it first, so that all nodes' transactions are in one order: a stop, a lowered cap and an
-- admission can never pass each other, and there is one chain. It holds what the next transaction goes on from.
CREATE TABLE books (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  writes      BIGINT NOT NULL,   -- transactions so far: a node whose memory is of this one need not read again
  control     BIGINT NOT NULL,   -- changes so far of what nodes keep in memory: keys, brakes, upstreams, rates, operators
  seq         BIGINT NOT NULL,   -- number of the last audit record
  hash        BYTEA  NOT NULL,   -- its hash
  at          BIGINT NOT NULL,   -- when it was written, in microseconds: no later transaction is before it
  reservation BIGINT NOT NULL    -- number of the next reservation
);

CREATE TABLE meta (
  name  TEXT COLLATE "C" PRIMARY KEY,
  value TEXT COLLATE "C" NOT NULL
);
-- The search index covers the audit up to here. Not in books: it is filled beside the calls, under this row's lock.
INSERT INTO meta (name, value) VALUES ('indexed', '0');
-- The oldest schema whose programs may run on this one (migrations/README.md).
INSERT INTO meta (name, value) VALUES ('compatible', '1');

CREATE TABLE upstreams (
  id   TEXT COLLATE "C" PRIMARY KEY,
  name TEXT COLLATE "C" NOT NULL UNIQUE,
  doc  BYTEA NOT NULL            -- vault's encoding; the secret in it is sealed
);

CREATE TABLE policies (
  digest TEXT COLLATE "C" PRIMARY KEY,
  yaml   BYTEA NOT NULL          -- canonical; shared by all keys that have it
);

CREATE TABLE keys (
  place    BIGINT GENERATED ALWAYS AS IDENTITY, -- oldest first
  id       TEXT COLLATE "C" PRIMARY KEY,
  name     TEXT COLLATE "C" NOT NULL,
  upstream TEXT COLLATE "C" NOT NULL,
  version  BIGINT NOT NULL,      -- grows with every change
  live     BOOLEAN NOT NULL,
  policy   TEXT COLLATE "C" NOT NULL REFERENCES policies(digest),
  doc      BYTEA NOT NULL,       -- vault's encoding: digests, never secrets
  changed  BIGINT NOT NULL       -- books.control of the last change
);
CREATE UNIQUE INDEX keys_live_name ON keys(name) WHERE live;
CREATE INDEX keys_changed ON keys(changed);

CREATE TABLE brakes (
  scope  TEXT COLLATE "C" PRIMARY KEY,       -- all, upstream:ID, key:ID, freeze:ID; no row = normal
  mode   BIGINT NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  actor  TEXT COLLATE "C" NOT NULL,
  at     BIGINT NOT NULL
);

CREATE TABLE rates (
  currency TEXT COLLATE "C" PRIMARY KEY,
  id       TEXT COLLATE "C" NOT NULL,
  value    BIGINT NOT NULL,
  source   TEXT COLLATE "C" NOT NULL,
  as_of    BIGINT NOT NULL
);

-- A running total per cap and window; a new window is a new row.
CREATE TABLE accounts (
  key      TEXT COLLATE "C" NOT NULL,
  resource TEXT COLLATE "C" NOT NULL,
  per      BIGINT NOT NULL,
  unit     BIGINT NOT NULL,
  label    TEXT COLLATE "C" NOT NULL,
  held     BIGINT NOT NULL CHECK (held >= 0),
  settled  BIGINT NOT NULL CHECK (settled >= 0),
  PRIMARY KEY (key, resource, per, unit, label)
);
CREATE INDEX accounts_window ON accounts(per, label); -- all totals of a window are read when it begins

-- What a principal was counted for on one object of the vendor.
CREATE TABLE objects (
  object   BYTEA NOT NULL,       -- the vendor's name for it: any bytes
  key      TEXT COLLATE "C" NOT NULL,
  bucket   TEXT COLLATE "C" NOT NULL,
  currency TEXT COLLATE "C" NOT NULL,
  doc      BYTEA NOT NULL,
  PRIMARY KEY (object, key, bucket, currency)
);

CREATE TABLE reservations (
  id          BIGINT PRIMARY KEY,
  key         TEXT COLLATE "C" NOT NULL,
  state       BIGINT NOT NULL,   -- 0 reserved, 1 unknown, 2 settled, 3 released
  at          BIGINT NOT NULL,   -- microseconds
  node        TEXT COLLATE "C" NOT NULL,     -- who sends it: only that node, or whoever takes over after it, may call it unknown
  idem        BYTEA,             -- account, newline, the agent's idempotency key; NULL once released
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
  key  TEXT COLLATE "C" NOT NULL,
  call BIGINT NOT NULL,          -- number of the call's intent record; 0 = belongs to no call
  hash BYTEA NOT NULL,
  body BYTEA NOT NULL
);
CREATE INDEX audit_deeds ON audit(seq) WHERE call = 0;
CREATE INDEX audit_deeds_of_key ON audit(key, seq) WHERE call = 0;
CREATE TABLE audit_by_key (
  key TEXT COLLATE "C" NOT NULL,
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
  file  TEXT COLLATE "C" NOT NULL
);

CREATE TABLE tokens (
  name     TEXT COLLATE "C" PRIMARY KEY,
  digest   BYTEA NOT NULL UNIQUE,
  operator TEXT COLLATE "C" NOT NULL,
  role     TEXT COLLATE "C" NOT NULL,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL,      -- 0 = never
  used     BIGINT NOT NULL       -- roughly
);
CREATE TABLE operators (
  id       TEXT COLLATE "C" PRIMARY KEY,
  name     TEXT COLLATE "C" NOT NULL UNIQUE,
  role     TEXT COLLATE "C" NOT NULL,
  issuer   TEXT COLLATE "C" NOT NULL,
  subject  TEXT COLLATE "C" NOT NULL,
  email    TEXT COLLATE "C" NOT NULL,
  created  BIGINT NOT NULL,
  disabled BIGINT NOT NULL       -- 0 = not
);
CREATE UNIQUE INDEX operators_subject ON operators(issuer, subject) WHERE subject <> '';
CREATE TABLE passes (
  digest   BYTEA PRIMARY KEY,
  kind     TEXT COLLATE "C" NOT NULL,
  operator TEXT COLLATE "C" NOT NULL,
  token    TEXT COLLATE "C" NOT NULL,
  created  BIGINT NOT NULL,
  seen     BIGINT NOT NULL,
  expires  BIGINT NOT NULL,
  origin   TEXT COLLATE "C" NOT NULL,
  agent    TEXT COLLATE "C" NOT NULL
);
CREATE TABLE creations (
  digest  BYTEA PRIMARY KEY,
  request BYTEA NOT NULL,
  answer  BYTEA NOT NULL,
  at      BIGINT NOT NULL
);
CREATE INDEX creations_at ON creations(at);
CREATE TABLE alerts (
  id            TEXT COLLATE "C" PRIMARY KEY,
  kind          TEXT COLLATE "C" NOT NULL,
  subject       TEXT COLLATE "C" NOT NULL,
  key           TEXT COLLATE "C" NOT NULL,
  severity      TEXT COLLATE "C" NOT NULL,
  title         TEXT COLLATE "C" NOT NULL,
  text          TEXT COLLATE "C" NOT NULL,
  first         BIGINT NOT NULL,
  last          BIGINT NOT NULL,
  resolved      BIGINT NOT NULL,
  told          BIGINT NOT NULL,
  told_severity TEXT COLLATE "C" NOT NULL,
  acked         BIGINT NOT NULL,
  acked_by      TEXT COLLATE "C" NOT NULL
);
CREATE INDEX alerts_first ON alerts(first);
CREATE UNIQUE INDEX alerts_open ON alerts(kind, subject) WHERE resolved = 0;
CREATE TABLE messages (
  id       TEXT COLLATE "C" PRIMARY KEY,
  target   TEXT COLLATE "C" NOT NULL,
  body     BYTEA NOT NULL,
  created  BIGINT NOT NULL,
  due      BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  done     BIGINT NOT NULL,
  error    TEXT COLLATE "C" NOT NULL
);
CREATE INDEX messages_created ON messages(created);
CREATE INDEX messages_waiting ON messages(due) WHERE done = 0;

-- Who serves this store. A node writes its row with each look at the store, and what it has seen of the operators' actions.
CREATE TABLE nodes (
  id       TEXT COLLATE "C" PRIMARY KEY,     -- "node_" and base32 digits, new with each start
  name     TEXT COLLATE "C" NOT NULL,        -- the operator's name for it, or the machine's
  version  TEXT COLLATE "C" NOT NULL,
  started  BIGINT NOT NULL,
  alive    BIGINT NOT NULL,      -- when its writer was there last, by the store's clock: its calls are not taken over
  seen     BIGINT NOT NULL,      -- when it said last what it acts on, by the store's clock
  braked   BIGINT NOT NULL,      -- books.control of which it obeys the brakes
  control  BIGINT NOT NULL,      -- books.control that it acts on
  lease    BIGINT NOT NULL,      -- microseconds that it may act after it was seen; 0 = it does not act on what it keeps
  calls    BIGINT NOT NULL,      -- answered since it started
  in_flight BIGINT NOT NULL,     -- calls on their way to upstreams when it was seen
  ended    BIGINT NOT NULL       -- 0 = it has not said goodbye
);
