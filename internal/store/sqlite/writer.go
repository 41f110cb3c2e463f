package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/mark"
	"github.com/keybrake/keybrake/internal/store/queue"
	"github.com/keybrake/keybrake/internal/store/record"
)

// repeat is what two calls that ask for the same thing share.
type repeat struct {
	key         policy.KeyID
	fingerprint [32]byte
}

// writer owns the only connection that writes.
type writer struct {
	db    *DB
	conn  *sql.Conn
	stmts statements

	queue *queue.Queue

	// What the writer knows of the committed state; only its goroutine touches these.
	chain   audit.Chain
	next    ledger.ReservationID
	open    map[ledger.ReservationID]*ledger.Reservation
	pending map[repeat][]ledger.ReservationID // the open ones whose outcome is unknown, oldest first
	// unresolved are all of those, oldest first.
	unresolved []ledger.ReservationID
	versions   map[policy.KeyID]int64
	indexed    int64 // the search index covers the audit up to here
	thinning   record.Thinning
	mark       *mark.Mark // nil until the store is open
}

var _ queue.Engine = (*writer)(nil)

func newWriter(ctx context.Context, db *DB) (*writer, error) {
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{
		db: db, conn: conn,
		open: make(map[ledger.ReservationID]*ledger.Reservation), pending: make(map[repeat][]ledger.ReservationID), versions: make(map[policy.KeyID]int64),
	}
	w.queue = queue.New(queue.Options{Engine: w, MaxBatch: db.batch, Wait: db.wait, Every: indexEvery})
	if err := w.stmts.prepare(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := w.load(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

// Tick is called between two transactions, also where nobody writes.
func (w *writer) Tick() {
	w.probe()
	w.index()
	w.flushMark()
}

// Broken implements queue.Engine.
func (w *writer) Broken() error { return w.db.trouble.Broken() }

// Apart implements queue.Engine: whatever the error was, a smaller transaction may pass.
func (w *writer) Apart(error) bool { return true }

func (w *writer) close() error {
	w.stmts.close()
	err := w.conn.Close()
	if w.mark != nil {
		err = errors.Join(err, w.mark.Close())
	}
	return err
}

// Commit implements queue.Engine.
func (w *writer) Commit(units []*queue.Unit) (err error) {
	ctx := context.Background()
	begun := time.Now()
	var flush time.Duration
	if tell := w.db.observer.Batch; tell != nil {
		defer func() { tell(len(units), time.Since(begun), flush, err) }()
	}
	if err := w.stmts.begin(ctx); err != nil {
		return w.failed("begin", err)
	}
	committed := false
	defer func() {
		if !committed {
			w.rollback(ctx)
		}
	}()
	defer w.db.trouble.Recover(&err)
	f := newFacts(ctx, w)
	b := &store.Batch{Now: w.db.Now(), Book: ledger.NewBook(f, w.next), Chain: w.chain, Facts: f}
	for _, u := range units {
		if err := u.Decide(b); err != nil {
			return w.failed("decide", err)
		}
	}
	changes := b.Book.Changes()
	if err := w.write(ctx, b, changes); err != nil {
		return w.failed("write", err)
	}
	decided := time.Now()
	err = w.stmts.commit(ctx)
	flush = time.Since(decided)
	if err != nil {
		return w.unflushed(err)
	}
	committed = true
	w.adopt(b, changes)
	w.remember()
	return nil
}

// failed wraps an engine's error and decides whether the engine can go on. A full disk can: space comes
// back. A failed read, write or flush cannot: what is on the disk is no longer known.
func (w *writer) failed(what string, err error) error {
	w.db.look(what, err)
	if engineFault(err) {
		w.db.trouble.Stuck(err)
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, what, err)
}

// unflushed is failed for a commit. One that a full disk stopped is taken back; after any other nobody knows.
func (w *writer) unflushed(err error) error {
	if primary(err) == sqlite3.SQLITE_FULL {
		return w.failed("commit", err)
	}
	return fmt.Errorf("%w: %w", store.ErrUncertain, w.failed("commit", err))
}

// look breaks the store down if the error says that the disk cannot be trusted.
func (db *DB) look(what string, err error) {
	switch primary(err) {
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		db.trouble.Break(fmt.Errorf("%s: %w (restart after looking at the disk)", what, err))
	}
}

// primary is SQLite's primary result code in an error; 0 if there is none.
func primary(err error) int {
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		return se.Code() & 0xff
	}
	return 0
}

func (w *writer) rollback(ctx context.Context) {
	// SQLite may have rolled back by itself (disk full); then this fails and nothing is lost.
	_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
}

// adopt makes the committed state the writer's own.
func (w *writer) adopt(b *store.Batch, c ledger.Changes) {
	w.chain, w.next = b.Chain, c.Next
	w.db.trouble.Stuck(nil)
	if n := len(b.Entries); n > 0 {
		w.db.last.Store(b.Now.UnixMicro())
	}
	for _, group := range [][]*ledger.Reservation{c.Created, c.Updated} {
		for _, r := range group {
			w.track(r)
		}
	}
	w.publish()
	w.db.mu.Lock()
	if len(w.db.accounts) > maxCachedAccounts {
		clear(w.db.accounts)
	}
	maps.Copy(w.db.accounts, c.Accounts)
	w.db.mu.Unlock()
	for _, j := range b.Joins {
		delete(w.versions, j.Key)
	}
}

// track keeps what is open at hand.
func (w *writer) track(r *ledger.Reservation) {
	at := repeat{r.Key, r.Fingerprint}
	if r.State.Open() {
		w.open[r.ID] = r
	} else {
		delete(w.open, r.ID)
	}
	w.count(r)
	i, has := slices.BinarySearch(w.pending[at], r.ID)
	switch {
	case r.State == ledger.Unresolved && !has:
		w.pending[at] = slices.Insert(w.pending[at], i, r.ID)
	case r.State != ledger.Unresolved && has && len(w.pending[at]) == 1:
		delete(w.pending, at)
	case r.State != ledger.Unresolved && has:
		w.pending[at] = slices.Delete(w.pending[at], i, i+1)
	}
}

// Admit implements store.DB.
func (db *DB) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	return db.writer.queue.Admit(ctx, a)
}

// Resolve implements store.DB.
func (db *DB) Resolve(ctx context.Context, r *store.Resolution) (store.Resolved, error) {
	return db.writer.queue.Resolve(ctx, r)
}

// Log implements store.DB.
func (db *DB) Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error) {
	return db.writer.queue.Log(ctx, records...)
}

// Update implements store.DB.
func (db *DB) Update(ctx context.Context, lane store.Lane, f func(store.Tx) error) error {
	return db.writer.queue.Update(ctx, lane, f)
}

// Peek implements store.DB.
func (db *DB) Peek(ctx context.Context, keys []ledger.AccountKey) ([]ledger.Account, error) {
	out := make([]ledger.Account, len(keys))
	var missing []int
	db.mu.RLock()
	for i, k := range keys {
		a, ok := db.accounts[k]
		if !ok {
			missing = append(missing, i)
		}
		out[i] = a
	}
	db.mu.RUnlock()
	if len(missing) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	for _, i := range missing {
		k := keys[i]
		a, err := scanAccount(db.account.QueryRowContext(ctx, string(k.Key), string(k.Resource), int64(k.Per), int64(k.Unit), k.Label))
		if err != nil {
			return nil, fmt.Errorf("read account: %w", err)
		}
		out[i] = a
	}
	return out, nil
}

// Attached implements store.DB.
func (db *DB) Attached(ctx context.Context, key policy.KeyID, account policy.AccountID, idem string) (*ledger.Reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, db.wait)
	defer cancel()
	var row reservationRow
	err := db.attached.QueryRowContext(ctx, string(key), idemValue(account, idem)).Scan(row.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	}
	return row.decode()
}
