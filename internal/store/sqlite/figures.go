package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// figures are what the writer tells of its state after each transaction. Times are microseconds; 0 = none.
type figures struct {
	height, signed, signedAt, open, unresolved, oldest atomic.Int64
}

// Figures tells how the store stands, as of its last transaction.
func (db *DB) Figures() store.Figures {
	f := &db.figures
	queued, actions := db.writer.queue.Waiting()
	return store.Figures{
		Queued: queued, Actions: actions,
		Height: f.height.Load(), Signed: f.signed.Load(), SignedAt: fromMicros(f.signedAt.Load()),
		Open: f.open.Load(), Unresolved: f.unresolved.Load(), Oldest: fromMicros(f.oldest.Load()),
	}
}

// publish tells how the committed state stands.
func (w *writer) publish() {
	f := &w.db.figures
	f.height.Store(w.chain.Seq)
	f.open.Store(int64(len(w.open)))
	f.unresolved.Store(int64(len(w.unresolved)))
	oldest := int64(0)
	if len(w.unresolved) > 0 {
		oldest = w.open[w.unresolved[0]].FirstSent.UnixMicro()
	}
	f.oldest.Store(oldest)
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

// signedUpTo notes the last signed head.
func (f *figures) signedUpTo(h audit.Head) {
	f.signed.Store(h.Seq)
	f.signedAt.Store(h.At.UnixMicro())
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
	w.db.figures.signedUpTo(h)
	return nil
}

// Safety says what can be lost of what was acknowledged.
func (db *DB) Safety() store.Safety {
	return store.Safety{Why: "one file on one disk: what was acknowledged survives a crash, but not the loss of the disk"}
}
