package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup writes the store as it is now, whole and compact, to a file that does not exist yet, while calls go on, and
// reads the copy back. It returns the number of the last record in it. Calls do not wait for it; the log beside the store
// grows by what is written meanwhile.
//
// It goes through SQLite: a copy of the file alone would lack what is still in the log, and closing it would drop locks.
func (db *DB) Backup(ctx context.Context, path string) (seq int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // before SQLite makes it wider
	if err != nil {
		return 0, fmt.Errorf("write the backup: %w", err)
	}
	if err := f.Close(); err != nil {
		return 0, fmt.Errorf("write the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	from, err := sql.Open("sqlite", dsn(db.path, "rw", "synchronous(FULL)", readerCache))
	if err != nil {
		return 0, fmt.Errorf("read the store: %w", err)
	}
	defer from.Close() //nolint:errcheck // it was only read
	if _, err := from.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return 0, fmt.Errorf("write the backup: %w", err)
	}
	if seq, err = readBack(ctx, path); err != nil {
		return 0, fmt.Errorf("read the backup back: %w", err)
	}
	return seq, flushFile(path)
}

// readBack checks a copy: a backup that cannot be restored is none.
func readBack(ctx context.Context, path string) (seq int64, err error) {
	copied, err := sql.Open("sqlite", dsn(path, "ro", "query_only(1)", readerCache))
	if err != nil {
		return 0, err
	}
	defer copied.Close() //nolint:errcheck // it was only read
	var found string
	if err := copied.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return 0, err
	}
	if found != "ok" {
		return 0, errors.New(found)
	}
	return seq, copied.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM audit").Scan(&seq)
}

// flushFile makes a file and its name durable.
func flushFile(path string) error {
	for _, name := range []string{path, filepath.Dir(path)} {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("flush %s: %w", name, err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("flush %s: %w", name, err)
		}
	}
	return nil
}
