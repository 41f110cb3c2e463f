-- +goose Up
-- What operators and the server itself did belongs to no call. There is little of it among millions of calls, and it is
-- looked for when somebody asks who did what. Calls are in neither index, so they cost nothing there.
CREATE INDEX audit_deeds ON audit(seq) WHERE call = 0;
CREATE INDEX audit_deeds_of_key ON audit(key, seq) WHERE call = 0;
