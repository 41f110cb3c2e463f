package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/queue"
)

const (
	// tickEvery is how often the writer is looked after while nobody writes.
	tickEvery = time.Second
	// pauseFirst and pauseLast are how long a transaction that met a conflict, or found nobody, waits before it is begun
	// again: twice as long each time.
	pauseFirst, pauseLast = time.Millisecond, 100 * time.Millisecond
)

// writer makes the transactions that write: those of calls and of operators on one connection, stops on another, so that
// a stop waits for the transaction that holds the lock and for nothing else. It implements queue.Engine.
type writer struct {
	db     *DB
	calls  *session
	brakes *session
	// freezing is held while a session freezes the books.
	freezing sync.Mutex

	// mine are the reservations that are on the wire of this node, as it left them. They tell what a batch will
	// have to read; what they say decides nothing. Only the calls' goroutine touches them.
	mine map[ledger.ReservationID]*ledger.Reservation
	// unsent are reservations that were committed after their callers had been told that they were not.
	unsent []*ledger.Reservation
}

var _ queue.Engine = (*writer)(nil)

func newWriter(db *DB) *writer {
	return &writer{
		db: db, calls: &session{db: db}, brakes: &session{db: db},
		mine: make(map[ledger.ReservationID]*ledger.Reservation),
	}
}

// Broken implements queue.Engine.
func (w *writer) Broken() error { return w.db.trouble.Broken() }

// undecided is the error of one unit, which need not be the others'.
type undecided struct{ err error }

func (e *undecided) Error() string { return e.err.Error() }
func (e *undecided) Unwrap() error { return e.err }

// Apart implements queue.Engine: where PostgreSQL is not to be had, it is not to be had for one alone either.
func (w *writer) Apart(err error) bool {
	_, one := errors.AsType[*undecided](err)
	return one
}

// Tick implements queue.Engine.
func (w *writer) Tick() {
	w.db.flushMark()
	if !w.db.trouble.IsStuck() && len(w.unsent) == 0 && w.calls.doubt == nil {
		return
	}
	// Readiness is red while PostgreSQL is not to be had, so nobody may send the call that would find out that it is back.
	_ = w.Control(store.LaneControl, func(store.Tx) error { return nil }) // kept for Check
	_ = w.releaseUnsent()                                                 // tried again at the next tick
}

// patiently runs a transaction until it is through: again after a conflict or a lost connection, and at last not beyond
// the store's wait. An attempt that says that it has begun is not run again: it has called something that is not ours.
func (w *writer) patiently(s *session, what string, attempt func(ctx context.Context) (begun bool, err error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), w.db.wait)
	defer cancel()
	connecting := time.Now().Add(reach)
	for pause := pauseFirst; ; pause = min(2*pause, pauseLast) {
		begun, err := w.once(ctx, s, attempt)
		if err == nil {
			w.db.trouble.Stuck(nil)
			return nil
		}
		_, behind := errors.AsType[*backwards](err)
		if behind {
			err = w.freeze(ctx, s)
		}
		again := lost(err) || s.gone() && time.Now().Before(connecting)
		switch {
		case behind && err == nil && !begun: // and now it is told that all money is frozen
		case begun || !again || ctx.Err() != nil || errors.Is(err, errUnfit):
			return w.db.unavailable(what, err)
		}
		rest(ctx, pause)
	}
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// once runs one attempt and finds out what became of it if nobody said.
func (w *writer) once(ctx context.Context, s *session, attempt func(ctx context.Context) (bool, error)) (begun bool, err error) {
	if err := w.settle(ctx, s, false); err != nil && !errors.Is(err, errNotCommitted) && !errors.Is(err, errNoTrace) {
		return false, err
	}
	begun, err = attempt(ctx)
	if !errors.Is(err, errUncertain) {
		return begun, err
	}
	// The callers are waiting for this very transaction: as long as they can.
	for pause := pauseFirst; ; pause = min(2*pause, pauseLast) {
		settled := w.settle(ctx, s, true)
		_, behind := errors.AsType[*backwards](settled)
		switch {
		case settled == nil:
			return begun, nil
		case errors.Is(settled, errNotCommitted):
			return begun, fmt.Errorf("%w: %w", errGone, settled)
		case behind || ctx.Err() != nil || errors.Is(settled, errNoTrace):
			return begun, fmt.Errorf("%w: %w", errUncertain, settled)
		}
		rest(ctx, pause)
	}
}

// Commit implements queue.Engine.
func (w *writer) Commit(units []*queue.Unit) (err error) {
	if err := w.releaseUnsent(); err != nil {
		return err
	}
	return w.commit(units)
}

func (w *writer) commit(units []*queue.Unit) (err error) {
	begun := time.Now()
	var flush time.Duration
	if tell := w.db.observer.Batch; tell != nil {
		defer func() { tell(len(units), time.Since(begun), flush, err) }()
	}
	err = w.patiently(w.calls, "commit", func(ctx context.Context) (bool, error) {
		return false, w.batch(ctx, units, &flush)
	})
	if err == nil {
		w.letGo(units)
	}
	return err
}

// letGo forgets calls whose outcome was told, also where the store knows nothing of them, or had it from another node before.
func (w *writer) letGo(units []*queue.Unit) {
	for _, u := range units {
		if r := u.Resolution(); r != nil {
			delete(w.mine, r.Reservation)
		}
	}
}

// batch is one attempt at a transaction of calls: two round trips, if everything was foreseen.
func (w *writer) batch(ctx context.Context, units []*queue.Unit, flush *time.Duration) error {
	s := w.calls
	f := newFacts(ctx)
	wanted, windows, about := newWants(), make(labels), w.db.Now()
	for _, u := range units {
		wanted.of(u, about, windows, w.mine)
	}
	before, err := s.begin(ctx, func(b *pgx.Batch) {
		f.readBrakes(b)
		f.read(b, wanted)
	})
	if err != nil {
		if _, behind := errors.AsType[*backwards](err); behind || s.gone() || lost(err) {
			return err
		}
		return &undecided{err} // a row that one of them needs cannot be read, say
	}
	f.conn = s.conn
	batch, changes, err := w.decide(f, before, units)
	if err != nil {
		s.rollback()
		return err
	}
	after := *before
	after.chain, after.next = batch.Chain, changes.Next
	writes := &pgx.Batch{}
	if err := queueWrites(writes, batch, changes, w.db.node); err != nil {
		s.rollback()
		return &undecided{err}
	}
	if len(batch.Freezes)+len(batch.Joins) > 0 {
		after.control++
	}
	if err := f.queueJoins(writes, batch.Joins, after.control); err != nil {
		s.rollback()
		return &undecided{err}
	}
	if before.outside {
		writes.Queue(openPart, w.db.openPartValues()...)
	}
	if writes.Len() == 0 { // nothing was decided that must be kept
		s.rollback()
		return nil
	}
	decided := time.Now()
	err = s.commit(ctx, writes, before, &after, changes.Created)
	*flush = time.Since(decided)
	switch {
	case errors.Is(err, errUncertain):
		s.doubt.then = func() { w.adopt(&after, changes) }
		return err
	case err != nil:
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && !lost(refused) {
			return &undecided{err}
		}
		return err
	}
	w.adopt(&after, changes)
	return nil
}

// decide does the units' work in memory.
func (w *writer) decide(f *facts, at *locked, units []*queue.Unit) (b *store.Batch, c ledger.Changes, err error) {
	defer w.db.trouble.Recover(&err)
	if err := f.lookFurther(units); err != nil {
		return nil, c, fmt.Errorf("read what is decided by: %w", err)
	}
	b = &store.Batch{Now: at.now, Node: w.db.label, Book: ledger.NewBook(f, at.next), Chain: at.chain, Facts: f}
	if at.outside {
		b.Log(w.db.joining())
	}
	for _, u := range units {
		if err := u.Decide(b); err != nil {
			if f.conn.IsClosed() {
				return nil, c, fmt.Errorf("decide: %w: %w", errGone, err)
			}
			return nil, c, &undecided{fmt.Errorf("decide: %w", err)}
		}
	}
	return b, b.Book.Changes(), nil
}

// adopt remembers what was committed.
func (w *writer) adopt(after *locked, c ledger.Changes) {
	for _, r := range c.Created {
		w.mine[r.ID] = r
	}
	for _, r := range c.Updated {
		if _, is := w.mine[r.ID]; !is {
			continue
		}
		w.mine[r.ID] = r
		if r.State != ledger.Reserved { // another node may settle it later, of which this one would not hear
			delete(w.mine, r.ID)
		}
	}
	w.db.advance(after)
	w.db.cache(c.Accounts)
}

// cache keeps running totals as a transaction left them.
func (db *DB) cache(accounts map[ledger.AccountKey]ledger.Account) {
	now := time.Now()
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(db.accounts) > maxCachedAccounts {
		clear(db.accounts)
	}
	for k, a := range accounts {
		db.accounts[k] = cachedAccount{a, now}
	}
}

// Control implements queue.Engine.
func (w *writer) Control(lane store.Lane, f func(store.Tx) error) error {
	s := w.calls
	if lane == store.LaneBrake {
		s = w.brakes
	}
	var asked error // what f answered, which is the caller's
	err := w.patiently(s, "update", func(ctx context.Context) (bool, error) {
		begun, err := w.control(ctx, s, f)
		if refused, ok := errors.AsType[*undecided](err); ok && !s.gone() {
			asked = refused.err
			return true, nil
		}
		return begun, err
	})
	if err == nil {
		err = asked
	}
	return err
}

// gone reports whether the session's connection has ended.
func (s *session) gone() bool { return s.conn == nil || s.conn.IsClosed() }

// control is one attempt at an operator's action. Once f was called it is the last: what f has told its caller cannot be
// taken back. An undecided error is f's own.
func (w *writer) control(ctx context.Context, s *session, f func(store.Tx) error) (begun bool, err error) {
	before, err := s.begin(ctx, nil)
	if err != nil {
		return false, err
	}
	t := &tx{ctx: ctx, q: s.conn, db: w.db, writes: true, now: before.now, chain: before.chain, controlNow: before.control}
	if err := w.guarded(t, func(u store.Tx) error {
		if before.outside {
			if err := t.join(); err != nil {
				return err
			}
		}
		return f(u)
	}); err != nil {
		s.rollback()
		return true, &undecided{err}
	}
	after := *before
	after.chain = t.chain
	if t.control {
		after.control++
	}
	adopt := func() { w.adoptControl(t, &after) }
	if s.astray {
		name, timeline := s.store, s.timeline
		adopt = func() {
			w.db.know(name, timeline, &after)
			w.adoptControl(t, &after)
		}
	}
	err = s.commit(ctx, &pgx.Batch{}, before, &after, nil)
	switch {
	case errors.Is(err, errUncertain):
		s.doubt.then = adopt
	case err == nil:
		adopt()
	}
	return true, err
}

// guarded runs an action and turns a broken invariant into the end of all writing, as in a batch.
func (w *writer) guarded(t *tx, f func(store.Tx) error) (err error) {
	defer w.db.trouble.Recover(&err)
	return f(t)
}

func (w *writer) adoptControl(t *tx, after *locked) {
	w.db.advance(after)
	if t.signed != nil {
		w.db.figures.SignedUpTo(*t.signed)
	}
	w.db.mu.Lock()
	for _, k := range t.touchedAccounts {
		delete(w.db.accounts, k)
	}
	w.db.mu.Unlock()
	if t.touchedBooks {
		if err := w.db.loadBooks(t.ctx); err != nil {
			_ = w.db.unavailable("read back", err) // kept for Check
		}
	}
}

// queueJoins adds customers to keys' own lists, in the transaction of the calls that created them. A key keeps its version:
// a longer list refuses nothing that the shorter one let through, so calls on their way need not be judged anew. Other
// nodes read the row again, because it was changed.
func (f *facts) queueJoins(b *pgx.Batch, joins []store.Join, control int64) error {
	docs := make(map[string][]byte)
	for _, j := range joins {
		key := string(j.Key)
		doc, read := docs[key]
		if !read {
			if err := f.conn.QueryRow(f.ctx, `SELECT doc FROM keys WHERE id = $1`, key).Scan(&doc); err != nil {
				return fmt.Errorf("add %s to %s: %w", j.Customer, j.Key, err)
			}
		}
		doc, err := store.JoinCustomer(doc, j.Customer)
		if err != nil {
			return fmt.Errorf("add %s to %s: %w", j.Customer, j.Key, err)
		}
		docs[key] = doc
	}
	for key, doc := range docs {
		b.Queue(`UPDATE keys SET doc = $2, changed = $3 WHERE id = $1`, key, doc, control)
	}
	return nil
}
