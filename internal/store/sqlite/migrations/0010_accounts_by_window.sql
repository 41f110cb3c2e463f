-- +goose Up
-- All totals of a window are read when it begins. The index costs a new window's first call of a key, and no other.
CREATE INDEX accounts_window ON accounts(per, label);
