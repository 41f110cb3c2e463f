package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// Changes reads what nodes keep in memory, as far as it has changed since a number of changes that the caller knows: as
// one snapshot, in one round trip. With since = 0 it is everything. Safe for concurrent use; it waits for no call and no
// export.
func (db *DB) Changes(ctx context.Context, since int64) (store.Changed, error) {
	var c store.Changed
	batch := &pgx.Batch{}
	batch.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE`)
	batch.Queue(`SELECT control, seq, at FROM books WHERE one = 1`).QueryRow(func(row pgx.Row) error {
		var at int64
		err := row.Scan(&c.Control, &c.Height, &at)
		c.At = codec.FromMicros(at)
		return err
	})
	read(batch, &c.Brakes, scanBrake, selectBrakes)
	read(batch, &c.Keys, scanKey, `SELECT `+keyColumns+` FROM keys k JOIN policies p ON p.digest = k.policy WHERE k.changed > $1 ORDER BY k.place`, since)
	// The others have no number of their own: they are few, and there is nothing to read where nothing has changed.
	const changed = `(SELECT control FROM books WHERE one = 1) > $1`
	read(batch, &c.Upstreams, scanUpstream, `SELECT id, name, doc FROM upstreams WHERE `+changed+` ORDER BY name`, since)
	read(batch, &c.Rates, scanRate, `SELECT `+rateColumns+` FROM rates WHERE `+changed+` ORDER BY currency`, since)
	read(batch, &c.Operators, scanOperator, `SELECT `+operatorColumns+` FROM operators WHERE `+changed+` ORDER BY name`, since)
	read(batch, &c.Tokens, scanToken, `SELECT `+tokenColumns+` FROM tokens WHERE `+changed+` ORDER BY name`, since)
	read(batch, &c.Passes, scanPass, `SELECT `+passColumns+` FROM passes WHERE `+changed+` ORDER BY created, digest`, since)
	batch.Queue(made)
	batch.Queue(`COMMIT`)
	if err := db.pulse.SendBatch(ctx, batch).Close(); err != nil {
		return store.Changed{}, fmt.Errorf("read what has changed: %w", err)
	}
	return c, nil
}

// read queues a query whose rows go into a list.
func read[R any](batch *pgx.Batch, into *[]R, scan func(pgx.CollectableRow) (R, error), query string, args ...any) {
	batch.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, scan)
		return err
	})
}
