package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// durable sees what each transaction made durable, at that moment.
type durable func(c *change, r *rows)

// engine is a store in memory under the real batch function. The scheduler says when what is queued becomes one
// transaction, and which of it. What is durable is kept apart from what the process sees, so that a crash can take the
// one back to the other.
type engine struct {
	b       *baton
	clock   func() time.Time
	live    *rows
	durable *rows
	seen    durable
	lost    func(folded int64)
	// panicked is told of an assertion of the product that did not hold.
	panicked func(string)
	queue    []*turn
	dead     bool  // the process has crashed: nobody is served any more
	broken   error // a flush failed, or the server is out of reach: nothing more is taken
	faulty   func() string
	// unflushed is what a doctored store acknowledged before it was durable.
	unflushed []*change
	lazy      bool
	// journal keeps what became durable, for other engines; nil: nobody wants it.
	journal *journal
	// network: the store is at the other end of one. away is what was in doubt when the server went out of reach of a
	// process that will see it again.
	network bool
	away    *change
	// server decides in place of what is in memory, which only looks whether it would have decided the same; nil: there
	// is none.
	server *server
	differ func(format string, args ...any)
}

var _ store.DB = (*engine)(nil)

// reopen starts on what is durable, as a new process would.
func (e *engine) reopen() (*engine, error) {
	n := &engine{b: e.b, clock: e.clock, seen: e.seen, lost: e.lost, panicked: e.panicked, faulty: e.faulty, lazy: e.lazy, journal: e.journal,
		network: e.network, server: e.server, differ: e.differ, durable: e.durable, live: e.durable.clone()}
	if n.journal != nil {
		n.journal.steps = append(n.journal.steps, step{at: n.time(), restart: true})
	}
	if err := n.takeOver(); err != nil || n.server == nil {
		return n, err
	}
	return n, n.restart()
}

// takeOver marks what a dead process left on the wire as unknown, as every engine does when it opens.
func (e *engine) takeOver() error {
	const why = "the process that sent it ended before the answer"
	var units []*unit
	for _, id := range e.live.open {
		r := e.live.reservations[id]
		if r.State != ledger.Reserved {
			continue
		}
		units = append(units, &unit{resolution: &store.Resolution{
			Reservation: id, Fate: ledger.Fate{State: ledger.Unresolved, Why: why},
			Record: &audit.Record{Kind: audit.KindOutcome, Ref: r.AuditSeq, Key: r.Key, Operation: r.Operation, Upstream: r.Upstream, Fate: "unknown", Reason: why},
		}})
	}
	return e.takenOver(units)
}

// takenOver makes a transaction that the store gives itself.
func (e *engine) takenOver(units []*unit) error {
	if len(units) == 0 {
		return nil
	}
	c, err := e.decide(units)
	if err != nil {
		return err
	}
	return e.flush(c)
}

// commit makes some of the queue one transaction. fault is what happens to it, one of endings.
func (e *engine) commit(turns []*turn, fault string) {
	slices.SortStableFunc(turns, func(x, y *turn) int { return x.unit.order() - y.unit.order() })
	var units []*unit
	for _, t := range turns {
		units = append(units, t.unit)
		t.unit = nil
	}
	var err error
	if e.server != nil {
		err = e.serve(units, fault)
	} else {
		err = e.transact(units, fault)
	}
	e.b.notef("commit", "store", "%d units, fault %q, error %v, chain %d %x", len(turns), fault, err != nil, e.live.chain.Seq, e.live.chain.Hash[:4])
	e.b.waiting = append(e.b.waiting, turns...)
}

// transact is one transaction. The error is one that all units have.
func (e *engine) transact(units []*unit, fault string) (err error) {
	kept := false
	switch err = e.broken; {
	case err != nil:
	case fault == unavailable:
		err = errors.New("disk full")
	default:
		written := e.write(units)
		var c *change
		if c, err = e.decide(units); err == nil {
			kept, err = e.end(c, fault)
		}
		if kept && e.journal != nil {
			e.journal.steps = append(e.journal.steps, written(c)...)
		}
	}
	for _, u := range units {
		if u.err == nil && err != nil {
			u.err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
			if !kept {
				e.lost(u.folded())
			}
		}
	}
	return err
}

// write keeps what is asked for as it is now, and returns how it goes into the journal once it is durable.
func (e *engine) write(units []*unit) func(*change) []step {
	if e.journal == nil {
		return nil
	}
	var steps []step
	if units[0].update == nil {
		for _, u := range units {
			c := u.copy()
			steps = append(steps, step{do: func(ctx context.Context, db store.DB) error {
				again := c.copy()
				again.ask(ctx, db)
				return again.err
			}})
		}
	}
	return func(c *change) []step {
		if c.action != nil {
			return []step{{at: c.at, do: c.action}}
		}
		for i := range steps {
			steps[i].at = c.at
		}
		return steps
	}
}

// decide runs the batch function, or one operator's action.
func (e *engine) decide(units []*unit) (c *change, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("broken invariant: %v", r)
			e.broken = err
			e.panicked(fmt.Sprint(r))
		}
	}()
	if u := units[0]; u.update != nil {
		return e.act(u)
	}
	b := &store.Batch{Now: e.time(), Book: ledger.NewBook(e.live, e.live.next), Chain: e.live.chain, Facts: e.live}
	for _, u := range units {
		if err := u.decide(b); err != nil {
			return nil, err
		}
	}
	return &change{ledger: b.Book.Changes(), entries: b.Entries, chain: b.Chain, freezes: b.Freezes, joins: b.Joins, at: b.Now}, nil
}

func (e *engine) act(u *unit) (*change, error) {
	staged := e.live.control.clone()
	on := &tx{rows: e.live, control: &staged, now: e.time(), chain: e.live.chain}
	t := &scribe{Tx: on}
	if err := u.update(t); err != nil {
		u.err = err // what was asked for does not go: nobody else is concerned
		return &change{chain: e.live.chain}, nil
	}
	return &change{entries: on.entries, chain: on.chain, control: &staged, at: on.now, stamps: e.network, action: t.again}, nil
}

func (e *engine) flush(c *change) error {
	if err := e.live.apply(c); err != nil {
		return err
	}
	if e.b.verbose != nil {
		for i := range c.entries {
			e.b.verbose("       record %s", c.entries[i].Bytes)
		}
	}
	if e.lazy {
		e.unflushed = append(e.unflushed, c)
		return nil
	}
	return e.keep(c)
}

// keep makes a transaction durable.
func (e *engine) keep(c *change) error {
	if err := e.durable.apply(c); err != nil {
		return err
	}
	e.seen(c, e.durable)
	return nil
}

// catchUp makes durable what a doctored store still owes.
func (e *engine) catchUp() error {
	for _, c := range e.unflushed {
		if err := e.keep(c); err != nil {
			return err
		}
	}
	e.unflushed = nil
	return nil
}

func who(ctx context.Context) string {
	if w, ok := ctx.Value(whoKey{}).(string); ok {
		return w
	}
	return "background"
}

type whoKey struct{}

var errBusy = fmt.Errorf("%w: waited too long", store.ErrBusy)

var errGone = fmt.Errorf("%w: the process has ended", store.ErrUnavailable)

// submit queues work and waits until the scheduler has made it a transaction and passed the baton back.
func (e *engine) submit(ctx context.Context, what string, u *unit) error {
	if e.dead {
		return errGone
	}
	t := e.b.line(&turn{who: who(ctx), what: what, unit: u})
	<-t.awake
	if e.dead {
		return errGone
	}
	return u.err
}

func (e *engine) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	u := &unit{admission: a}
	if err := e.submit(ctx, "admit "+a.Record.RunID, u); err != nil {
		return store.Admitted{}, err
	}
	return u.admitted, nil
}

func (e *engine) Resolve(ctx context.Context, r *store.Resolution) (store.Resolved, error) {
	u := &unit{resolution: r}
	what := "resolve " + strconv.FormatInt(int64(r.Reservation), 10)
	if r.Record != nil {
		what += " " + r.Record.RunID
	}
	if err := e.submit(ctx, what, u); err != nil {
		return store.Resolved{}, err
	}
	return u.resolved, nil
}

func (e *engine) Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error) {
	u := &unit{records: records}
	if err := e.submit(ctx, fmt.Sprintf("log %d %s %s", len(records), records[0].Kind, records[0].RunID), u); err != nil {
		return nil, err
	}
	return u.entries, nil
}

func (e *engine) Update(ctx context.Context, lane store.Lane, f func(store.Tx) error) error {
	return e.submit(ctx, "update", &unit{update: f, lane: lane})
}

// read waits for its turn and then reads what is committed; sometimes it fails. fault is what happens to it.
func (e *engine) read(ctx context.Context, what string) (fault string, err error) {
	if e.dead {
		return "", errGone
	}
	e.b.wait(who(ctx), what)
	if e.dead {
		return "", errGone
	}
	fault = e.faulty()
	if fault == unavailable || e.network && e.broken != nil {
		return unavailable, fmt.Errorf("%w: read failed", store.ErrUnavailable)
	}
	return fault, nil
}

func (e *engine) View(ctx context.Context, f func(store.Tx) error) error {
	fault, err := e.read(ctx, "view")
	if e.serves() {
		return e.looked(fault, err, func(db store.DB) error { return db.View(context.Background(), f) })
	}
	if err != nil {
		return err
	}
	staged := e.live.control
	return f(&tx{rows: e.live, control: &staged, now: e.time(), readOnly: true})
}

func (e *engine) Attached(ctx context.Context, key policy.KeyID, account policy.AccountID, idem string) (r *ledger.Reservation, err error) {
	fault, err := e.read(ctx, "attached")
	var known *ledger.Reservation
	if id, ok := e.live.idem[attachment{key, account, idem}]; ok {
		copied := *e.live.reservations[id]
		known = &copied
	}
	if e.serves() {
		err = e.looked(fault, err, func(db store.DB) (err error) {
			r, err = db.Attached(context.Background(), key, account, idem)
			return err
		})
		if err == nil || errors.Is(err, store.ErrNotFound) {
			e.same("the reservation of an idempotency key", r, known)
		}
		return r, err
	}
	if err == nil && known == nil {
		err = store.ErrNotFound
	}
	return known, err
}

func (e *engine) Peek(ctx context.Context, keys []ledger.AccountKey) (out []ledger.Account, err error) {
	fault, err := e.read(ctx, "peek")
	known := make([]ledger.Account, len(keys))
	for i, k := range keys {
		known[i] = e.live.accounts[k]
	}
	if e.serves() {
		err = e.looked(fault, err, func(db store.DB) (err error) {
			out, err = db.Peek(context.Background(), keys)
			return err
		})
		if err == nil {
			e.same("accounts", out, known)
		}
		return out, err
	}
	return known, err
}

// Seed is not simulated: operators in the simulation change limits and add no caps.
func (e *engine) Seed(context.Context, *store.Seeding) error {
	return errors.New("seeding is not simulated")
}

// Now implements store.DB. Who asks for the time waits for its turn, too: much can happen before it is told.
func (e *engine) Now() time.Time {
	if !e.dead {
		e.b.wait("clock", "now")
	}
	if e.serves() {
		return e.server.now(e.clock())
	}
	return e.time()
}

// time is the store's clock for those who have the baton.
func (e *engine) time() time.Time {
	now := e.clock().UTC().Truncate(time.Microsecond)
	if now.Before(e.live.at) {
		return e.live.at
	}
	return now
}

// SignHead is not simulated: heads are signed by what serves, beside the calls.
func (e *engine) SignHead(context.Context) error { return errors.New("signing is not simulated") }

// Archive is not simulated: the record stays where it is.
func (e *engine) Archive(context.Context, time.Time) (int64, error) { return 0, nil }

func (e *engine) Check(context.Context) error { return e.broken }
func (e *engine) Close() error                { return nil }

// pick takes some of the queue for the next transaction: an operator's action alone, brakes first, or calls in any
// number and order.
func (e *engine) pick(rng *rand.Rand) []*turn {
	take := func(i int) *turn {
		t := e.queue[i]
		e.queue = slices.Delete(e.queue, i, i+1)
		return t
	}
	for _, lane := range []store.Lane{store.LaneBrake, store.LaneControl} {
		for i, t := range e.queue {
			if t.unit.update != nil && t.unit.lane == lane && (lane == store.LaneBrake || rng.IntN(2) == 0) {
				return []*turn{take(i)}
			}
		}
	}
	n := 1 + rng.IntN(len(e.queue))
	var out []*turn
	for range n {
		i := rng.IntN(len(e.queue))
		if e.queue[i].unit.update != nil {
			if len(out) == 0 {
				return []*turn{take(i)}
			}
			continue
		}
		out = append(out, take(i))
	}
	return out
}
