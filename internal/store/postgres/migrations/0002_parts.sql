-- +goose Up
-- A node's part in the record: label is its name there, and open says that it has begun it and that it is not closed. A
-- program that does not know them writes records without a node, which belong to no part.
ALTER TABLE nodes ADD COLUMN label TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN open BOOLEAN NOT NULL DEFAULT false;
