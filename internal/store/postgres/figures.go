package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// figures are how the store stands, as this node knows. Times are microseconds; 0 = none.
type figures struct {
	height, signed, signedAt, open, unresolved, oldest atomic.Int64
}

// Figures tells how the store stands: what waits, on this node; the rest, of all nodes, as of a second ago at most.
func (db *DB) Figures() store.Figures {
	f := &db.figures
	queued, actions := db.queue.Waiting()
	return store.Figures{
		Queued: queued, Actions: actions,
		Height: f.height.Load(), Signed: f.signed.Load(), SignedAt: codec.FromMicros(f.signedAt.Load()),
		Open: f.open.Load(), Unresolved: f.unresolved.Load(), Oldest: codec.FromMicros(f.oldest.Load()),
	}
}

// signedUpTo notes the last signed head.
func (f *figures) signedUpTo(h audit.Head) {
	f.signed.Store(h.Seq)
	f.signedAt.Store(h.At.UnixMicro())
}

// readFigures reads how the store stands.
func (db *DB) readFigures(ctx context.Context) error {
	var height, open, unresolved, oldest int64
	var doc []byte
	err := db.reads.QueryRow(ctx, `SELECT (SELECT seq FROM books WHERE one = 1), count(*), count(*) FILTER (WHERE state = $1),
		coalesce(min(at) FILTER (WHERE state = $1), 0), (SELECT doc FROM heads ORDER BY seq DESC LIMIT 1)
		FROM reservations WHERE state < 2`, int64(ledger.Unresolved)).Scan(&height, &open, &unresolved, &oldest, &doc)
	if err != nil {
		return fmt.Errorf("read how the store stands: %w", err)
	}
	f := &db.figures
	f.height.Store(max(height, f.height.Load()))
	f.open.Store(open)
	f.unresolved.Store(unresolved)
	f.oldest.Store(oldest)
	if doc == nil {
		return nil
	}
	var head audit.Head
	if err := json.Unmarshal(doc, &head); err != nil {
		return fmt.Errorf("decode the last signed head: %w", err)
	}
	f.signedUpTo(head)
	return nil
}
