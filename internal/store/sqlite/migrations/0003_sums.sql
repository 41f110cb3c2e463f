-- +goose Up
-- A reservation's own sums, over what never changes and over what its fate does, and an object's.
ALTER TABLE reservations ADD COLUMN fixed_sum INTEGER;
ALTER TABLE reservations ADD COLUMN moving_sum INTEGER;
ALTER TABLE objects ADD COLUMN sum INTEGER;
UPDATE reservations SET fixed_sum = keybrake_fixed_sum(id, key, at, fixed), moving_sum = keybrake_moving_sum(id, state, moving);
UPDATE objects SET sum = keybrake_object_sum(key, object, bucket, currency, doc);

-- The shared sum of the rows that operators' actions write; NULL: not worked out yet.
CREATE TABLE sums (
  name  TEXT PRIMARY KEY,
  value INTEGER
) WITHOUT ROWID;
INSERT INTO sums (name, value) VALUES ('control', NULL);

-- +goose StatementBegin
CREATE TRIGGER meta_in AFTER INSERT ON meta BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('meta', NEW.name, NEW.value)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER meta_out AFTER DELETE ON meta BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('meta', OLD.name, OLD.value)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER meta_changed AFTER UPDATE ON meta BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('meta', OLD.name, OLD.value)), keybrake_row('meta', NEW.name, NEW.value)) WHERE name = 'control';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER upstreams_in AFTER INSERT ON upstreams BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('upstreams', NEW.id, NEW.name, NEW.doc)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER upstreams_out AFTER DELETE ON upstreams BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('upstreams', OLD.id, OLD.name, OLD.doc)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER upstreams_changed AFTER UPDATE ON upstreams BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('upstreams', OLD.id, OLD.name, OLD.doc)), keybrake_row('upstreams', NEW.id, NEW.name, NEW.doc)) WHERE name = 'control';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER policies_in AFTER INSERT ON policies BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('policies', NEW.digest, NEW.yaml)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER policies_out AFTER DELETE ON policies BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('policies', OLD.digest, OLD.yaml)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER policies_changed AFTER UPDATE ON policies BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('policies', OLD.digest, OLD.yaml)), keybrake_row('policies', NEW.digest, NEW.yaml)) WHERE name = 'control';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER keys_in AFTER INSERT ON keys BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('keys', NEW.id, NEW.name, NEW.upstream, NEW.version, NEW.live, NEW.policy, NEW.doc)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER keys_out AFTER DELETE ON keys BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('keys', OLD.id, OLD.name, OLD.upstream, OLD.version, OLD.live, OLD.policy, OLD.doc)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER keys_changed AFTER UPDATE ON keys BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('keys', OLD.id, OLD.name, OLD.upstream, OLD.version, OLD.live, OLD.policy, OLD.doc)), keybrake_row('keys', NEW.id, NEW.name, NEW.upstream, NEW.version, NEW.live, NEW.policy, NEW.doc)) WHERE name = 'control';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER tokens_in AFTER INSERT ON tokens BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('tokens', NEW.name, NEW.digest, NEW.role, NEW.created, NEW.expires)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER tokens_out AFTER DELETE ON tokens BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('tokens', OLD.name, OLD.digest, OLD.role, OLD.created, OLD.expires)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER tokens_changed AFTER UPDATE ON tokens BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('tokens', OLD.name, OLD.digest, OLD.role, OLD.created, OLD.expires)), keybrake_row('tokens', NEW.name, NEW.digest, NEW.role, NEW.created, NEW.expires)) WHERE name = 'control';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER brakes_in AFTER INSERT ON brakes BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('brakes', NEW.scope, NEW.mode, NEW.reason, NEW.actor, NEW.at)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER brakes_out AFTER DELETE ON brakes BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('brakes', OLD.scope, OLD.mode, OLD.reason, OLD.actor, OLD.at)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER brakes_changed AFTER UPDATE ON brakes BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('brakes', OLD.scope, OLD.mode, OLD.reason, OLD.actor, OLD.at)), keybrake_row('brakes', NEW.scope, NEW.mode, NEW.reason, NEW.actor, NEW.at)) WHERE name = 'control';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER rates_in AFTER INSERT ON rates BEGIN
  UPDATE sums SET value = keybrake_add(value, keybrake_row('rates', NEW.currency, NEW.id, NEW.value, NEW.source, NEW.as_of)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER rates_out AFTER DELETE ON rates BEGIN
  UPDATE sums SET value = keybrake_take(value, keybrake_row('rates', OLD.currency, OLD.id, OLD.value, OLD.source, OLD.as_of)) WHERE name = 'control';
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER rates_changed AFTER UPDATE ON rates BEGIN
  UPDATE sums SET value = keybrake_add(keybrake_take(value, keybrake_row('rates', OLD.currency, OLD.id, OLD.value, OLD.source, OLD.as_of)), keybrake_row('rates', NEW.currency, NEW.id, NEW.value, NEW.source, NEW.as_of)) WHERE name = 'control';
END;
-- +goose StatementEnd
