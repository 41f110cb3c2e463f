-- +goose Up
-- Who is counted for an object is asked when the vendor says that it has changed.
CREATE TABLE objects_by_object (
  object   TEXT NOT NULL,
  key      TEXT NOT NULL,
  bucket   TEXT NOT NULL,
  currency TEXT NOT NULL,
  doc      BLOB NOT NULL,
  PRIMARY KEY (object, key, bucket, currency)
) WITHOUT ROWID;
INSERT INTO objects_by_object SELECT object, key, bucket, currency, doc FROM objects;
DROP TABLE objects;
ALTER TABLE objects_by_object RENAME TO objects;
