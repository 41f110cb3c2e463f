package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// looking runs a read on a pool. A connection of it that has ended since it was used last, as all have after a fail-over,
// is no reason to fail: there is another one.
func looking(ctx context.Context, read func() error) error {
	for try := 0; ; try++ {
		err := read()
		if _, refused := errors.AsType[*pgconn.PgError](err); err == nil || try == readers || ctx.Err() != nil || refused && !lost(err) || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
}

// peekFor is how old a running total may be that is told without asking: another node may have moved it since. A call that
// is let through by it is decided by Admit, and one that is refused by it was full a moment ago.
const peekFor = 100 * time.Millisecond

// Peek implements store.DB.
func (db *DB) Peek(ctx context.Context, keys []ledger.AccountKey) ([]ledger.Account, error) {
	out := make([]ledger.Account, len(keys))
	var missing []ledger.AccountKey
	fresh := time.Now().Add(-peekFor)
	db.mu.RLock()
	for i, k := range keys {
		known, ok := db.accounts[k]
		if !ok || known.at.Before(fresh) {
			missing = append(missing, k)
		}
		out[i] = known.Account
	}
	db.mu.RUnlock()
	if len(missing) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	read := make(map[ledger.AccountKey]ledger.Account, len(missing))
	for _, k := range missing {
		read[k] = ledger.Account{}
	}
	err := looking(ctx, func() error {
		b := &pgx.Batch{}
		queueAccounts(b, missing, func(k ledger.AccountKey, a ledger.Account) { read[k] = a })
		return db.reads.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	for i, k := range keys {
		if a, was := read[k]; was {
			out[i] = a
		}
	}
	return out, nil
}

// Attached implements store.DB.
func (db *DB) Attached(ctx context.Context, key policy.KeyID, account policy.AccountID, idem string) (*ledger.Reservation, error) {
	at := attachment{key, codec.IdemValue(account, idem)}
	round := db.attached.get(at)
	select {
	case <-round.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("look up idempotency key: %w", ctx.Err())
	}
	row, there := round.found[at]
	switch {
	case round.err != nil:
		return nil, fmt.Errorf("look up idempotency key: %w", round.err)
	case !there:
		return nil, store.ErrNotFound
	}
	r, err := row.Decode()
	if err != nil { // which is nobody else's
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	}
	return r, nil
}

// readAttached reads the reservations that idempotency keys belong to.
func (db *DB) readAttached(keys []attachment) (map[attachment]codec.Reservation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), db.wait)
	defer cancel()
	names, idems := make([]string, len(keys)), make([][]byte, len(keys))
	for i, k := range keys {
		names[i], idems[i] = text(k.key), []byte(k.idem)
	}
	found := make(map[attachment]codec.Reservation)
	err := looking(ctx, func() error {
		rows, err := db.reads.Query(ctx, selectAttached, names, idems)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachAttached(rows, func(at attachment, row codec.Reservation) error {
			found[at] = row
			return nil
		})
	})
	return found, err
}

// View implements store.DB.
func (db *DB) View(ctx context.Context, f func(store.Tx) error) error {
	turn, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	var conn *pgxpool.Conn
	err := looking(turn, func() (err error) {
		if conn, err = db.views.Acquire(turn); err != nil {
			return err
		}
		if _, err = conn.Exec(turn, `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
			conn.Release()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	defer conn.Release()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), reach)
		defer cancel()
		_, _ = conn.Exec(end, `ROLLBACK`) // a read has nothing to lose
	}()
	return f(&tx{ctx: ctx, q: conn.Conn(), db: db, now: db.Now()})
}
