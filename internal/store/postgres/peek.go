package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

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
	b := &pgx.Batch{}
	queueAccounts(b, missing, func(k ledger.AccountKey, a ledger.Account) { read[k] = a })
	if err := db.reads.SendBatch(ctx, b).Close(); err != nil {
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
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	rows, err := db.reads.Query(ctx, `SELECT `+reservationColumns+` FROM reservations WHERE key = $1 AND idem = $2`,
		text(key), []byte(codec.IdemValue(account, idem)))
	if err != nil {
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanReservation)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	}
	return r, nil
}
