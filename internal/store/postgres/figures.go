package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// Figures tells how the store stands: what waits, on this node; the rest, of all nodes, as of a second ago at most.
func (db *DB) Figures() store.Figures { return db.figures.Figures(db.queue.Waiting()) }

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
	f.Height.Store(max(height, f.Height.Load()))
	f.Open.Store(open)
	f.Unresolved.Store(unresolved)
	f.Oldest.Store(oldest)
	if doc == nil {
		return nil
	}
	var head audit.Head
	if err := json.Unmarshal(doc, &head); err != nil {
		return fmt.Errorf("decode the last signed head: %w", err)
	}
	f.SignedUpTo(head)
	return nil
}
