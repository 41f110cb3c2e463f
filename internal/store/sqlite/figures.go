package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// Figures tells how the store stands, as of its last transaction.
func (db *DB) Figures() store.Figures { return db.figures.Figures(db.writer.queue.Waiting()) }

// publish tells how the committed state stands.
func (w *writer) publish() {
	f := &w.db.figures
	f.Height.Store(w.chain.Seq)
	f.Open.Store(int64(len(w.open)))
	f.Unresolved.Store(int64(len(w.unresolved)))
	oldest := int64(0)
	if len(w.unresolved) > 0 {
		oldest = w.open[w.unresolved[0]].FirstSent.UnixMicro()
	}
	f.Oldest.Store(oldest)
}

// count keeps the numbers of the reservations whose outcome is unknown, in order.
func (w *writer) count(r *ledger.Reservation) {
	i, has := slices.BinarySearch(w.unresolved, r.ID)
	switch unknown := r.State == ledger.Unresolved; {
	case unknown && !has:
		w.unresolved = slices.Insert(w.unresolved, i, r.ID)
	case !unknown && has:
		w.unresolved = slices.Delete(w.unresolved, i, i+1)
	}
}

// loadHead reads the last signed head that an earlier process left.
func (w *writer) loadHead(ctx context.Context) error {
	var doc []byte
	err := w.conn.QueryRowContext(ctx, `SELECT doc FROM heads ORDER BY seq DESC LIMIT 1`).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last signed head: %w", err)
	}
	var h audit.Head
	if err := json.Unmarshal(doc, &h); err != nil {
		return fmt.Errorf("decode the last signed head: %w", err)
	}
	w.db.figures.SignedUpTo(h)
	return nil
}

// Safety says what can be lost of what was acknowledged.
func (db *DB) Safety() store.Safety {
	return store.Safety{Why: "one file on one disk: what was acknowledged survives a crash, but not the loss of the disk"}
}
