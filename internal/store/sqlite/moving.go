package sqlite

import (
	"context"
	"iter"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/move"
)

// source is a store's rows as of one moment.
type source struct{ t *tx }

// Moving reads everything in the store and then calls f with its rows as of one moment: for a move to another engine. Damage
// is an error.
func (db *DB) Moving(ctx context.Context, f func(move.Source) error) error {
	if err := db.readAll(func() bool { return ctx.Err() == nil }); err != nil {
		return err
	}
	if err := db.IndexNow(); err != nil { // the other engine goes on from where the index reaches
		return err
	}
	return db.View(ctx, func(t store.Tx) error { return f(source{t.(*tx)}) })
}

// FreezeBooks freezes all money with a reason, until an operator resumes it.
func (db *DB) FreezeBooks(ctx context.Context, why string) error {
	return db.Update(ctx, store.LaneBrake, func(t store.Tx) error { return store.FreezeBooks(t, why) })
}

// Rows implements move.Source.
func (s source) Rows(table *move.Table) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		rows, err := s.t.q.QueryContext(s.t.ctx, table.Select("rowid"))
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		scanned := make([]any, len(table.Columns))
		targets := make([]any, len(scanned))
		for i := range scanned {
			targets[i] = &scanned[i]
		}
		for rows.Next() {
			err := rows.Scan(targets...)
			var row []any
			if err == nil {
				row, err = table.Row(scanned)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// Archives is the folder of the archive files.
func (db *DB) Archives() string { return db.archives }
