package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// wholeCheck is the largest file that is checked page by page at a start. The check reads everything: five
	// million records (5 GB) would take much longer than a start may.
	wholeCheck = 64 << 20
	// tailCheck is how many of the last records are held against their hashes at every start: what was written
	// when a machine died is there, and the next record will be built upon it.
	tailCheck = 1024
)

// checkFile looks for damage in what a start builds upon, in bounded time. The whole chain is checked by
// `keybrake audit verify`.
func (db *DB) checkFile(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() <= wholeCheck {
		var found string
		if err := db.write.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
			return err
		}
		if found != "ok" {
			return errors.New(found)
		}
	}
	return nil
}

// checkRows looks for content that is not as it was written: at the end of the chain, in the brakes, and where the store
// is small in everything. What it finds is told, not refused: the store can be read, and money is frozen until somebody
// has looked. An error means that it could not be read.
func (db *DB) checkRows(ctx context.Context, path string) (damage string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if damage, err := foundDamage(db.checkTail(ctx)); err != nil || damage != "" {
		return damage, err
	}
	if info.Size() <= wholeCheck {
		return foundDamage(db.readAll(func() bool { return true }))
	}
	return foundDamage(db.View(ctx, func(v store.Tx) error {
		return errors.Join(v.(*tx).checkControl(), v.(*tx).checkBrakes())
	}))
}

// checkTail recomputes the last hashes of the chain.
func (db *DB) checkTail(ctx context.Context) error {
	rows, err := db.write.QueryContext(ctx, `SELECT seq, at, key, call, hash, body FROM audit ORDER BY seq DESC LIMIT ?`, tailCheck+1)
	if err != nil {
		return err
	}
	var after *audit.Entry
	var oldest audit.Entry
	err = eachEntry(rows, func(e audit.Entry) error {
		if after != nil {
			if e.Seq != after.Seq-1 {
				return damaged(fmt.Sprintf("record %d is missing", after.Seq-1))
			}
			if audit.Link(e.Hash, after.Bytes) != after.Hash {
				return damaged(fmt.Sprintf("record %d is not as it was written", after.Seq))
			}
		}
		after, oldest = &e, e
		return nil
	})
	if err != nil || after == nil {
		return err
	}
	return db.View(ctx, func(v store.Tx) error {
		border, err := v.(*tx).Border()
		if err == nil && oldest.Seq == border.Seq+1 && audit.Link(border.Hash, oldest.Bytes) != oldest.Hash {
			return damaged(fmt.Sprintf("record %d is not as it was written", oldest.Seq))
		}
		return err
	})
}

// probe writes something while the last transaction is known to have failed: readiness is red then, so nobody may
// send the call that would find out that space has come back.
func (w *writer) probe() {
	if !w.db.trouble.IsStuck() || w.db.trouble.Broken() != nil {
		return
	}
	ctx := context.Background()
	if err := w.stmts.begin(ctx); err != nil {
		_ = w.failed("begin", err) // kept for Check; tried again at the next tick
		return
	}
	_, err := w.stmts.setMeta.ExecContext(ctx, "probe", w.db.Now().Format(time.RFC3339Nano))
	if err == nil {
		err = w.stmts.commit(ctx)
	}
	if err != nil {
		_ = w.failed("probe", err)
		w.rollback(ctx)
		return
	}
	w.db.trouble.Stuck(nil)
}

// CheckFile reads a whole database file that no process has open, page by page, and changes nothing: nil if SQLite finds
// nothing wrong with it. It says nothing of what the rows hold.
func CheckFile(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", dsn(path, "ro", "query_only(1)", readerCache))
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only read
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return errors.New(found)
	}
	return nil
}
