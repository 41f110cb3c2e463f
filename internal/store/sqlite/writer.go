package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// unit is one caller's work in the queue.
type unit struct {
	admission  *store.Admission
	resolution *store.Resolution
	records    []*audit.Record
	// before is the intent record as the caller gave it: a unit that is decided a second time, because its
	// batch failed, must not carry what the first time wrote into it.
	before  audit.Record
	decided bool

	admitted store.Admitted
	resolved store.Resolved
	entries  []audit.Entry
	err      error

	ticket
}

// repeat is what two calls that ask for the same thing share.
type repeat struct {
	key         policy.KeyID
	fingerprint [32]byte
}

// control is one operator action.
type control struct {
	f   func(store.Tx) error
	err error

	ticket
}

// writer owns the only connection that writes.
type writer struct {
	db    *DB
	conn  *sql.Conn
	stmts statements

	brakes   chan *control
	controls chan *control
	resolves chan *unit
	queue    chan *unit
	// restartLog asks the writer to copy the rest of the log while nobody writes.
	restartLog chan struct{}
	quit       chan struct{}
	stopped    chan struct{}
	once       sync.Once

	// What the writer knows of the committed state; only its goroutine touches these.
	chain   audit.Chain
	next    ledger.ReservationID
	open    map[ledger.ReservationID]*ledger.Reservation
	pending map[repeat][]ledger.ReservationID // the open ones whose outcome is unknown, oldest first
	// unresolved are all of those, oldest first.
	unresolved []ledger.ReservationID
	versions   map[policy.KeyID]int64
	indexed    int64 // the search index covers the audit up to here
	thinning   thinning
	mark       *mark // nil until the store is open

	batches atomic.Int64 // taken so far
}

func newWriter(ctx context.Context, db *DB) (*writer, error) {
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{
		db: db, conn: conn,
		brakes: make(chan *control, laneLength), controls: make(chan *control, laneLength),
		resolves: make(chan *unit, queueLength), queue: make(chan *unit, queueLength),
		restartLog: make(chan struct{}, 1),
		quit:       make(chan struct{}), stopped: make(chan struct{}),
		open: make(map[ledger.ReservationID]*ledger.Reservation), pending: make(map[repeat][]ledger.ReservationID), versions: make(map[policy.KeyID]int64),
	}
	if err := w.stmts.prepare(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := w.load(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

// run serves the lanes until the store closes: brakes first, then operators, then resolutions with
// admissions.
func (w *writer) run() {
	defer close(w.stopped)
	tick := time.NewTicker(indexEvery)
	defer tick.Stop()
	for {
		select {
		case c := <-w.brakes:
			w.control(c)
			continue
		default:
		}
		select {
		case c := <-w.brakes:
			w.control(c)
		case c := <-w.controls:
			w.control(c)
		case u := <-w.resolves:
			w.batch(u)
		case u := <-w.queue:
			w.batch(u)
		case <-tick.C:
			w.probe()
			w.index()
			w.flushMark()
		case <-w.restartLog:
			w.db.copyOnce(w.conn)
		case <-w.quit:
			w.drain()
			return
		}
	}
}

// drain finishes what was queued before the store was told to close.
func (w *writer) drain() {
	for {
		select {
		case c := <-w.brakes:
			w.control(c)
		case c := <-w.controls:
			w.control(c)
		case u := <-w.resolves:
			w.batch(u)
		case u := <-w.queue:
			w.batch(u)
		default:
			return
		}
	}
}

func (w *writer) stop() {
	w.once.Do(func() { close(w.quit) })
	<-w.stopped
}

func (w *writer) close() error {
	w.stmts.close()
	err := w.conn.Close()
	if w.mark != nil {
		err = errors.Join(err, w.mark.close())
	}
	return err
}

// batch takes what is waiting, resolutions first, and commits it as one transaction. If the batch cannot
// be decided (one unit's rows are damaged, say), each unit is tried alone, so that one cannot fail the
// others.
func (w *writer) batch(first *unit) {
	units := w.collect(first)
	if len(units) == 0 {
		return
	}
	w.batches.Add(1)
	err := w.commit(units)
	if err != nil && len(units) > 1 && w.db.broken.Load() == nil {
		for _, u := range units {
			w.serveBrakes() // so many flushes are too long for one who wants to stop them
			u.err = w.commit([]*unit{u})
			close(u.done)
		}
		return
	}
	for _, u := range units {
		u.err = err
		close(u.done)
	}
}

// serveBrakes serves the brakes that wait.
func (w *writer) serveBrakes() {
	for {
		select {
		case c := <-w.brakes:
			w.control(c)
		default:
			return
		}
	}
}

func (w *writer) collect(first *unit) []*unit {
	units := make([]*unit, 0, w.db.batch)
	add := func(u *unit) {
		if u.take() {
			units = append(units, u)
		}
	}
	add(first) // it was taken from its queue, so it must be in this batch; its place is settled below
	// The callers of the batch before have just been woken and are about to ask for more. Letting them run
	// for a moment costs microseconds and saves them a flush of their own.
	for had := -1; had < len(units) && len(units) < w.db.batch; {
		had = len(units)
		runtime.Gosched()
		fill(w.resolves, w.db.batch-len(units), add)
		fill(w.queue, w.db.batch-len(units), add)
	}
	// What is given back can be used by the next: resolutions go first, in the order in which they came.
	slices.SortStableFunc(units, func(a, b *unit) int { return a.order() - b.order() })
	return units
}

// order is 0 for resolutions and 1 for everything else.
func (u *unit) order() int {
	if u.resolution != nil {
		return 0
	}
	return 1
}

func fill(queue chan *unit, n int, add func(*unit)) {
	for range n {
		select {
		case u := <-queue:
			add(u)
		default:
			return
		}
	}
}

// commit decides the units and makes them durable. On an error nothing is.
func (w *writer) commit(units []*unit) (err error) {
	ctx := context.Background()
	if broken := w.db.broken.Load(); broken != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, *broken)
	}
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
		if r := recover(); r != nil { // a broken invariant of the ledger
			err = fmt.Errorf("%w: %v", store.ErrUnavailable, r)
			w.db.breakDown(err)
		}
		if !committed {
			w.rollback(ctx)
		}
	}()
	f := newFacts(ctx, w)
	b := &store.Batch{Now: w.db.Now(), Book: ledger.NewBook(f, w.next), Chain: w.chain, Facts: f}
	for _, u := range units {
		if err := decide(b, u); err != nil {
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
		return w.failed("commit", err)
	}
	committed = true
	w.adopt(b, changes)
	w.remember()
	return nil
}

func decide(b *store.Batch, u *unit) (err error) {
	switch {
	case u.resolution != nil:
		u.resolved, err = b.Resolve(u.resolution)
	case u.admission != nil:
		if u.decided {
			*u.admission.Record = u.before
		}
		u.before, u.decided = *u.admission.Record, true
		u.admitted, err = b.Admit(u.admission)
	default:
		u.entries = u.entries[:0]
		for _, r := range u.records {
			u.entries = append(u.entries, b.Log(r))
		}
	}
	return err
}

// failed wraps an engine's error and decides whether the engine can go on. A full disk can: space comes
// back. A failed read, write or flush cannot: what is on the disk is no longer known.
func (w *writer) failed(what string, err error) error {
	w.db.look(what, err)
	if engineFault(err) {
		w.db.stuck.Store(&err)
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, what, err)
}

// look breaks the store down if the error says that the disk cannot be trusted.
func (db *DB) look(what string, err error) {
	switch primary(err) {
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		db.breakDown(fmt.Errorf("%s: %w (restart after looking at the disk)", what, err))
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
	w.db.stuck.Store(nil)
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
	u := &unit{admission: a}
	if err := db.writer.submit(ctx, u, db.writer.queue); err != nil {
		return store.Admitted{}, err // and not what was decided before the commit failed
	}
	return u.admitted, nil
}

// Resolve implements store.DB.
func (db *DB) Resolve(ctx context.Context, r *store.Resolution) (store.Resolved, error) {
	u := &unit{resolution: r}
	if err := db.writer.submit(ctx, u, db.writer.resolves); err != nil {
		return store.Resolved{}, err
	}
	return u.resolved, nil
}

// Log implements store.DB.
func (db *DB) Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error) {
	u := &unit{records: records}
	if err := db.writer.submit(ctx, u, db.writer.queue); err != nil {
		return nil, err
	}
	return u.entries, nil
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
