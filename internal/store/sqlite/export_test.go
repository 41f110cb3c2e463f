package sqlite

import (
	"context"
	"fmt"

	"github.com/keybrake/keybrake/internal/store"
)

// run executes a statement on the writer's connection.
func (db *DB) run(query string) error {
	return db.Update(context.Background(), store.LaneControl, func(t store.Tx) error {
		_, err := t.(*tx).exec(query)
		return err
	})
}

// SetApplicationID marks the file as another program's.
func (db *DB) SetApplicationID(id int) error {
	return db.run(fmt.Sprintf("PRAGMA application_id = %d", id))
}

// SetSchemaVersion pretends that a newer program was here.
func (db *DB) SetSchemaVersion(v int) error {
	return db.run(fmt.Sprintf("INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1)", v))
}

// SetMaxPages lets the disk look full.
func (db *DB) SetMaxPages(n int) error {
	return db.pragma(fmt.Sprintf("PRAGMA max_page_count = %d", n))
}

// SetReadOnly makes every write fail.
func (db *DB) SetReadOnly(on bool) error { return db.pragma(fmt.Sprintf("PRAGMA query_only = %t", on)) }

// pragma runs beside the writer: some settings cannot change inside a transaction.
func (db *DB) pragma(query string) error {
	_, err := db.writer.conn.ExecContext(context.Background(), query)
	return err
}
