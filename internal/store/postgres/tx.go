package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// tx implements store.Tx: of an operator's action on the connection that holds the lock of books or, if it does not
// write, on a snapshot (REPEATABLE READ, READ ONLY). Between two statements of f no rows may be open: the connection does
// one thing at a time, so what is read for f is read page by page.
type tx struct {
	ctx context.Context
	q   *pgx.Conn
	db  *DB

	writes bool // false: read-only
	now    time.Time
	chain  audit.Chain
	// controlNow is the number of changes before this one. What this one changes is stamped with the next.
	controlNow int64

	// What the engine must know when f has returned.
	control             bool // something has changed that nodes keep in memory (store.Changed)
	touchedReservations []*ledger.Reservation
	touchedAccounts     []ledger.AccountKey
	touchedBooks        bool // the freeze of all money
	signed              *audit.Head
}

var _ store.Tx = (*tx)(nil)

var errReadOnly = errors.New("write in a read-only transaction")

// rowsPage is how many rows are read at once for a function that is called for each.
const rowsPage = 500

// lookWait is how long one statement of a read may take, of which a long one has many: a server that hangs must not hold up
// for ever whoever looks at a list. What writes has the store's wait for all of it.
const lookWait = 10 * time.Second

// look is the context of one statement that reads.
func (t *tx) look() (context.Context, context.CancelFunc) {
	if t.writes {
		return t.ctx, func() {}
	}
	return context.WithTimeout(t.ctx, lookWait)
}

// Now is the transaction's time.
func (t *tx) Now() time.Time { return t.now }

// exec runs a writing statement that nothing in the tables can refuse.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if !t.writes {
		return 0, errReadOnly
	}
	tag, err := t.q.Exec(t.ctx, query, args...)
	return tag.RowsAffected(), err
}

// put runs a writing statement that a unique index may refuse: then it is ErrExists, and the transaction is as it was
// before. (PostgreSQL would end it.)
func (t *tx) put(query string, args ...any) error {
	if !t.writes {
		return errReadOnly
	}
	batch := &pgx.Batch{}
	batch.Queue(`SAVEPOINT put`)
	batch.Queue(query, args...)
	batch.Queue(`RELEASE SAVEPOINT put`)
	err := t.q.SendBatch(t.ctx, batch).Close()
	if failed, ok := errors.AsType[*pgconn.PgError](err); ok && failed.Code == uniqueViolation {
		if _, back := t.q.Exec(t.ctx, `ROLLBACK TO SAVEPOINT put`); back != nil {
			return back
		}
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	}
	return err
}

const uniqueViolation = "23505"

// listed reads the rows of a query, each with scan.
func listed[R any](t *tx, scan func(row pgx.CollectableRow) (R, error), query string, args ...any) ([]R, error) {
	ctx, cancel := t.look()
	defer cancel()
	rows, err := t.q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, scan)
	if len(out) == 0 {
		return nil, err
	}
	return out, err
}

// one reads the only row of a query into targets; none is ErrNotFound.
func (t *tx) one(query string, args []any, targets ...any) error {
	ctx, cancel := t.look()
	defer cancel()
	err := t.q.QueryRow(ctx, query, args...).Scan(targets...)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.ErrNotFound
	}
	return err
}

// found turns a change of nothing into ErrNotFound.
func found(changed int64, err error) error {
	if err == nil && changed == 0 {
		return store.ErrNotFound
	}
	return err
}

// text is a string for a TEXT column.
func text[S ~string](s S) string { return codec.Text(s) }

// blob is bytes for a column that is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (t *tx) Meta(name string) (value string, err error) {
	return value, t.one(`SELECT value FROM meta WHERE name = $1`, []any{text(name)}, &value)
}

func (t *tx) SetMeta(name, value string) error {
	_, err := t.exec(`INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, text(name), text(value))
	return err
}

func (t *tx) Rates() ([]money.Rate, error) {
	return listed(t, scanRate, `SELECT `+rateColumns+` FROM rates ORDER BY currency`)
}

const rateColumns = `currency, id, value, source, as_of`

func scanRate(row pgx.CollectableRow) (r money.Rate, err error) {
	var asOf int64
	err = row.Scan(&r.Currency, &r.ID, &r.Value, &r.Source, &asOf)
	r.AsOf = codec.FromMicros(asOf)
	return r, err
}

func (t *tx) PutRate(r money.Rate) error {
	t.control = true
	_, err := t.exec(`INSERT INTO rates (currency, id, value, source, as_of) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (currency) DO UPDATE SET id = excluded.id, value = excluded.value, source = excluded.source, as_of = excluded.as_of`,
		text(r.Currency), text(r.ID), int64(r.Value), text(r.Source), codec.Micros(r.AsOf))
	return err
}
