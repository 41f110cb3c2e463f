package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
)

// tx implements store.Tx: of an operator's action on the connection that holds the lock of books or, if it does not
// write, on a snapshot (REPEATABLE READ, READ ONLY). Between two statements of f no rows may be open: the connection does
// one thing at a time.
type tx struct {
	ctx context.Context
	q   *pgx.Conn
	db  *DB

	writes bool // false: read-only
	now    time.Time
	chain  audit.Chain
	// controlNow is the number of operators' actions before this one. What this one changes is stamped with the next.
	controlNow int64
	// indexed: the search index covers the audit up to here, once this is committed.
	indexed int64

	// What the engine must know when f has returned.
	control             bool // something has changed that nodes act on: keys, upstreams, brakes, rates, operators, tokens
	touchedReservations []*ledger.Reservation
	touchedAccounts     []ledger.AccountKey
	touchedBooks        bool // the freeze of all money
	signed              *audit.Head
}

var errReadOnly = errors.New("write in a read-only transaction")

// Now is the transaction's time.
func (t *tx) Now() time.Time { return t.now }
