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
