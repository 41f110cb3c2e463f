package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/record"
)

const (
	// archiveKeeps is how many of the newest records never go: a start looks at some of them, and a node's mark knows one.
	archiveKeeps = 1025
	// archiveTurn is how long a node that moves records has the turn; a move takes a minute at most. It gives the turn back
	// at the end, so this is how long others wait for one that died.
	archiveTurn = 10 * time.Minute
	// archivingMeta names the setting that says whose turn it is.
	archivingMeta = "archiving"
	// unfinishedPrefix begins the name under which a node writes a file.
	unfinishedPrefix = "unfinished-"
	// folderMark is a file in the archive folder with the store's identity. A node whose folder has none must not take the
	// files that it does not find for files that were let go of.
	folderMark = "store"
)

var _ record.Tx = (*tx)(nil)

// Archive implements store.DB. All nodes write into the same folder, one at a time: another one's turn is nothing to do.
func (db *DB) Archive(ctx context.Context, before time.Time) (int64, error) {
	db.archiving.Lock()
	defer db.archiving.Unlock()
	if db.trouble.Frozen() {
		return 0, nil // nothing moves until somebody has looked at the books
	}
	mine, err := db.takeTurn(ctx)
	if err != nil || !mine {
		return 0, err
	}
	var n int64
	if err = db.prepareFolder(ctx); err == nil {
		n, err = db.mover().Archive(ctx, before)
	}
	return n, errors.Join(err, db.endTurn(context.WithoutCancel(ctx)))
}

// mover writes under a name of this node: one that was paused, goes on after its turn and writes the same stretch as
// another harms nothing.
func (db *DB) mover() *record.Mover {
	return &record.Mover{
		DB: db, Folder: db.archives, PerFile: db.perArchive, Keeps: archiveKeeps, Signer: db.signer,
		Unfinished: unfinishedPrefix + db.Node() + ".tmp", Closing: db.queue.Closing(),
	}
}

// prepareFolder makes the archive folder, or makes sure that it is the one that the files are in, and removes what nodes left
// there that did not come to the end of their turn.
func (db *DB) prepareFolder(ctx context.Context) error {
	var identity string
	var archives []store.Archive
	err := db.View(ctx, func(v store.Tx) (err error) {
		if identity, err = v.Meta("identity"); err == nil {
			archives, err = v.Archives()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look for the archive folder: %w", err)
	}
	mark := filepath.Join(db.archives, folderMark)
	has, err := os.ReadFile(mark)
	switch {
	case err == nil && string(has) == identity:
	case err == nil:
		return fmt.Errorf("the archive folder %s belongs to another store", db.archives)
	case len(archives) > 0 && !exists(archives[len(archives)-1].Path):
		return fmt.Errorf("the archive folder %s is not the one that the archive files are in: all nodes need the same one", db.archives)
	default:
		if err := os.MkdirAll(db.archives, 0o700); err != nil {
			return fmt.Errorf("make the archive folder: %w", err)
		}
		if err := os.WriteFile(mark, []byte(identity), 0o600); err != nil {
			return fmt.Errorf("mark the archive folder: %w", err)
		}
	}
	left, err := os.ReadDir(db.archives)
	if err != nil {
		return fmt.Errorf("look into the archive folder: %w", err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), unfinishedPrefix) {
			if err := os.Remove(filepath.Join(db.archives, f.Name())); err != nil {
				return fmt.Errorf("remove an unfinished archive: %w", err)
			}
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// elsewhere reports whether the archive folder is another one than the files are in.
func (t *tx) elsewhere() bool {
	identity, err := t.Meta("identity")
	has, missing := os.ReadFile(filepath.Join(t.db.archives, folderMark))
	return err != nil || missing != nil || string(has) != identity
}

func (db *DB) takeTurn(ctx context.Context) (mine bool, err error) {
	err = db.Update(ctx, store.LaneControl, func(t store.Tx) error {
		turn, err := t.Meta(archivingMeta)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		node, until, _ := strings.Cut(turn, " ")
		ends, _ := strconv.ParseInt(until, 10, 64) // nobody's turn if it is no number
		if mine = node == db.Node() || !t.Now().Before(codec.FromMicros(ends)); !mine {
			return nil
		}
		return t.SetMeta(archivingMeta, fmt.Sprint(db.Node(), " ", codec.Micros(t.Now().Add(archiveTurn))))
	})
	if err != nil {
		return false, fmt.Errorf("take the turn to archive: %w", err)
	}
	return mine, nil
}

func (db *DB) endTurn(ctx context.Context) error {
	return db.Update(ctx, store.LaneControl, func(t store.Tx) error {
		if turn, err := t.Meta(archivingMeta); err != nil || !strings.HasPrefix(turn, db.Node()+" ") {
			return err
		}
		return t.SetMeta(archivingMeta, "")
	})
}

// Border implements record.Rows.
func (t *tx) Border() (audit.Chain, error) {
	at := audit.NewChain(audit.FirstChain)
	var hash []byte
	err := t.one(`SELECT last, hash FROM archives ORDER BY first DESC LIMIT 1`, nil, &at.Seq, &hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return at, nil
	case err != nil:
		return at, fmt.Errorf("read where the archives end: %w", err)
	}
	copy(at.Hash[:], hash)
	return at, nil
}

// Registered implements record.Rows.
func (t *tx) Registered() ([]store.Archive, error) {
	return listed(t, func(row pgx.CollectableRow) (a store.Archive, err error) {
		var hash []byte
		var begun, ended int64
		err = row.Scan(&a.First, &a.Last, &hash, &begun, &ended, &a.Path)
		copy(a.Hash[:], hash)
		a.From, a.Until = codec.FromMicros(begun), codec.FromMicros(ended)
		return a, err
	}, `SELECT first, last, hash, begun, ended, file FROM archives ORDER BY first`)
}

// LaterOfCall implements record.Rows.
func (t *tx) LaterOfCall(call, to int64) ([]int64, error) {
	return listed(t, pgx.RowTo[int64], `SELECT seq FROM audit_by_call WHERE call = $1 AND seq <= $2`, call, to)
}

// Register implements record.Tx.
func (t *tx) Register(a store.Archive) error {
	_, err := t.exec(`INSERT INTO archives (first, last, hash, begun, ended, file) VALUES ($1, $2, $3, $4, $5, $6)`,
		a.First, a.Last, a.Hash[:], codec.Micros(a.From), codec.Micros(a.Until), a.Path)
	return err
}

// Oldest implements record.Tx.
func (t *tx) Oldest() (seq int64, err error) {
	return seq, t.one(`SELECT coalesce(min(seq), 0) FROM audit`, nil, &seq)
}

// Remove implements record.Tx.
func (t *tx) Remove(from, to, began int64) error {
	for _, remove := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM audit_by_key USING audit a WHERE audit_by_key.key = a.key AND audit_by_key.seq = a.seq AND a.seq >= $1 AND a.seq <= $2`, []any{from, to}},
		{`DELETE FROM audit_by_call USING audit a WHERE audit_by_call.call = a.call AND audit_by_call.seq = a.seq
			AND a.seq >= $1 AND a.seq <= $2 AND a.call >= $3`, []any{from, to, began}},
		{`DELETE FROM audit WHERE seq >= $1 AND seq <= $2`, []any{from, to}},
	} {
		if _, err := t.exec(remove.query, remove.args...); err != nil {
			return err
		}
	}
	return nil
}
