-- +goose Up
-- Operators are accounts. A token belongs to one, or (operator = '') to a tool.
DROP TRIGGER tokens_in;
DROP TRIGGER tokens_out;
DROP TRIGGER tokens_changed;
ALTER TABLE tokens ADD COLUMN operator TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN used INTEGER NOT NULL DEFAULT 0; -- roughly; not in the sum

CREATE TABLE operators (
  id       TEXT PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  role     TEXT NOT NULL,
  issuer   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  email    TEXT NOT NULL,
  created  INTEGER NOT NULL,
  disabled INTEGER NOT NULL      -- 0 = not
) WITHOUT ROWID;
CREATE UNIQUE INDEX operators_subject ON operators(issuer, subject) WHERE subject <> '';

-- Sessions and invites come and go without an operator's action, so they are outside the sum.
CREATE TABLE passes (
  digest   BLOB PRIMARY KEY,
  kind     TEXT NOT NULL,
  operator TEXT NOT NULL,
  token    TEXT NOT NULL,
  created  INTEGER NOT NULL,
  seen     INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  origin   TEXT NOT NULL,
  agent    TEXT NOT NULL
) WITHOUT ROWID;

-- What creates with an idempotency key answered, for a day.
CREATE TABLE creations (
  digest  BLOB PRIMARY KEY,
  request BLOB NOT NULL,
  answer  BLOB NOT NULL,
  at      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX creations_at ON creations(at);

-- The shared sum has more in it now; it is worked out anew at this start.
UPDATE sums SET value = NULL WHERE name = 'control';
-- +goose StatementBegin
CREATE TRIGGER tokens_in AFTER INSERT ON tokens BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('tokens', NEW.name, NEW.digest, NEW.operator, NEW.role, NEW.created, NEW.expires)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER tokens_out AFTER DELETE ON tokens BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('tokens', OLD.name, OLD.digest, OLD.operator, OLD.role, OLD.created, OLD.expires)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER tokens_changed AFTER UPDATE ON tokens BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('tokens', OLD.name, OLD.digest, OLD.operator, OLD.role, OLD.created, OLD.expires)), keybrake_row('tokens', NEW.name, NEW.digest, NEW.operator, NEW.role, NEW.created, NEW.expires)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER operators_in AFTER INSERT ON operators BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('operators', NEW.id, NEW.name, NEW.role, NEW.issuer, NEW.subject, NEW.email, NEW.created, NEW.disabled)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER operators_out AFTER DELETE ON operators BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('operators', OLD.id, OLD.name, OLD.role, OLD.issuer, OLD.subject, OLD.email, OLD.created, OLD.disabled)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER operators_changed AFTER UPDATE ON operators BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('operators', OLD.id, OLD.name, OLD.role, OLD.issuer, OLD.subject, OLD.email, OLD.created, OLD.disabled)), keybrake_row('operators', NEW.id, NEW.name, NEW.role, NEW.issuer, NEW.subject, NEW.email, NEW.created, NEW.disabled)) WHERE name = 'control';
END;
-- +goose StatementEnd
