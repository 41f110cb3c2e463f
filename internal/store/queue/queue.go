// Package queue is the group commit that every engine shares: the callers' work waits here, what waits together becomes one
// transaction, and each caller is told when it is durable or has failed. Whoever waits too long can withdraw.
//
// What a transaction is belongs to the engine.
package queue

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// Limits, each with its reason.
const (
	// MaxBatch is the default of Options.MaxBatch: it bounds how long one transaction keeps others waiting.
	MaxBatch = 256
	// DefaultWait is the default of Options.Wait. It stays far below the SDKs' 80 s, so that agents get an answer they can
	// act on.
	DefaultWait = 5 * time.Second

	// queueLength bounds memory when the engine stalls; more callers are told ErrBusy at once.
	queueLength = 4096
	// laneLength bounds the actions of operators that wait, for stops and for everything else each.
	laneLength = 64
)

// Engine does the work. Its methods are called from one goroutine, or from two with Options.OwnBrakes.
type Engine interface {
	// Commit decides the units, in this order, and makes them durable in one transaction. On an error nothing is.
	Commit(units []*Unit) error
	// Apart reports whether the units of a transaction that failed with an error may fare better one by one: if one of
	// them is damaged, say.
	Apart(err error) bool
	// Control runs one operator's action as a transaction of its own. On an error nothing is written.
	Control(lane store.Lane, f func(store.Tx) error) error
	// Broken says why the engine takes nothing more; nil = it does.
	Broken() error
	// Tick is called now and then, between two transactions.
	Tick()
}

// Options make a Queue.
type Options struct {
	Engine Engine
	// MaxBatch is the most callers in one transaction; 0 = the default. 1 switches group commit off, which only a
	// benchmark wants.
	MaxBatch int
	// Wait is how long work may wait for its turn before it is withdrawn with ErrBusy; 0 = the default. Work that the
	// engine has taken up is waited for, however long that takes.
	Wait time.Duration
	// Every is how often Engine.Tick is called.
	Every time.Duration
	// OwnBrakes gives the brake lane a goroutine of its own, for an engine that can begin a second transaction while one
	// runs.
	OwnBrakes bool
}

// Queue is where work waits. Safe for concurrent use.
type Queue struct {
	engine    Engine
	max       int
	wait      time.Duration
	every     time.Duration
	ownBrakes bool

	brakes   chan *action
	controls chan *action
	resolves chan *Unit
	calls    chan *Unit
	asides   chan func()
	quit     chan struct{}
	stopped  chan struct{}
	once     sync.Once

	batches atomic.Int64 // taken so far
}

// New makes a Queue. Work can be queued at once; it is served by Run.
func New(o Options) *Queue {
	if o.MaxBatch == 0 {
		o.MaxBatch = MaxBatch
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	return &Queue{
		engine: o.Engine, max: o.MaxBatch, wait: o.Wait, every: o.Every, ownBrakes: o.OwnBrakes,
		brakes: make(chan *action, laneLength), controls: make(chan *action, laneLength),
		resolves: make(chan *Unit, queueLength), calls: make(chan *Unit, queueLength),
		asides: make(chan func(), 1),
		quit:   make(chan struct{}), stopped: make(chan struct{}),
	}
}

// Run serves the lanes until Stop: brakes first, then operators, then resolutions with admissions. What was queued before
// Stop is finished.
func (q *Queue) Run() {
	defer close(q.stopped)
	if !q.ownBrakes {
		q.serve(q.brakes)
		return
	}
	var own sync.WaitGroup
	own.Go(q.serveOwnBrakes)
	q.serve(nil)
	own.Wait()
}

// serve is Run with the brakes that it has to serve; nil: another goroutine does.
func (q *Queue) serve(brakes chan *action) {
	tick := time.NewTicker(q.every)
	defer tick.Stop()
	for {
		select {
		case a := <-brakes:
			q.control(store.LaneBrake, a)
			continue
		default:
		}
		select {
		case a := <-brakes:
			q.control(store.LaneBrake, a)
		case a := <-q.controls:
			q.control(store.LaneControl, a)
		case u := <-q.resolves:
			q.batch(u)
		case u := <-q.calls:
			q.batch(u)
		case <-tick.C:
			q.engine.Tick()
		case f := <-q.asides:
			f()
		case <-q.quit:
			q.drain(brakes)
			return
		}
	}
}

func (q *Queue) drain(brakes chan *action) {
	for {
		select {
		case a := <-brakes:
			q.control(store.LaneBrake, a)
		case a := <-q.controls:
			q.control(store.LaneControl, a)
		case u := <-q.resolves:
			q.batch(u)
		case u := <-q.calls:
			q.batch(u)
		default:
			return
		}
	}
}

func (q *Queue) serveOwnBrakes() {
	for {
		select {
		case a := <-q.brakes:
			q.control(store.LaneBrake, a)
		case <-q.quit:
			q.serveBrakes()
			return
		}
	}
}

// serveBrakes serves the brakes that wait.
func (q *Queue) serveBrakes() {
	for {
		select {
		case a := <-q.brakes:
			q.control(store.LaneBrake, a)
		default:
			return
		}
	}
}

// control runs one operator's action, unless it was withdrawn.
func (q *Queue) control(lane store.Lane, a *action) {
	if !a.take() {
		return
	}
	defer close(a.done)
	if broken := q.engine.Broken(); broken != nil { // since it was queued
		a.err = fmt.Errorf("%w: %w", store.ErrUnavailable, broken)
		return
	}
	a.err = q.engine.Control(lane, a.f)
}

// batch takes what is waiting, resolutions first, and commits it as one transaction. If the batch cannot
// be decided (one unit's rows are damaged, say), each unit is tried alone, so that one cannot fail the
// others.
func (q *Queue) batch(first *Unit) {
	units := q.collect(first)
	if len(units) == 0 {
		return
	}
	q.batches.Add(1)
	err := q.commit(units)
	if err != nil && len(units) > 1 && q.engine.Broken() == nil && q.engine.Apart(err) {
		for _, u := range units {
			if !q.ownBrakes {
				q.serveBrakes() // so many transactions are too long for one who wants to stop them
			}
			u.finish(q.commit([]*Unit{u}))
		}
		return
	}
	for _, u := range units {
		u.finish(err)
	}
}

func (q *Queue) commit(units []*Unit) error {
	if broken := q.engine.Broken(); broken != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, broken)
	}
	return q.engine.Commit(units)
}

func (q *Queue) collect(first *Unit) []*Unit {
	units := make([]*Unit, 0, q.max)
	add := func(u *Unit) {
		if u.take() {
			units = append(units, u)
		}
	}
	add(first) // it was taken from its queue, so it must be in this batch; its place is settled below
	// The callers of the batch before have just been woken and are about to ask for more. Letting them run
	// for a moment costs microseconds and saves them a transaction of their own.
	for had := -1; had < len(units) && len(units) < q.max; {
		had = len(units)
		runtime.Gosched()
		fill(q.resolves, q.max-len(units), add)
		fill(q.calls, q.max-len(units), add)
	}
	// What is given back can be used by the next: resolutions go first, in the order in which they came.
	slices.SortStableFunc(units, func(a, b *Unit) int { return a.order() - b.order() })
	return units
}

func fill(queue chan *Unit, n int, add func(*Unit)) {
	for range n {
		select {
		case u := <-queue:
			add(u)
		default:
			return
		}
	}
}

// Stop takes nothing more and returns when what was queued is done. A second call does nothing.
func (q *Queue) Stop() {
	q.once.Do(func() { close(q.quit) })
	<-q.stopped
}

// Stopped is closed when Run has ended.
func (q *Queue) Stopped() <-chan struct{} { return q.stopped }

// Aside has f called between two transactions, unless something else waits for that already, and reports whether it will.
func (q *Queue) Aside(f func()) bool {
	select {
	case q.asides <- f:
		return true
	default:
		return false
	}
}

// Waiting is the work of calls and the actions of operators that nobody has taken up yet.
func (q *Queue) Waiting() (calls, actions int) {
	return len(q.calls) + len(q.resolves), len(q.brakes) + len(q.controls)
}

// Batches is how many transactions of calls have been begun.
func (q *Queue) Batches() int64 { return q.batches.Load() }

// Closing is closed once Stop is called.
func (q *Queue) Closing() <-chan struct{} { return q.quit }

// Admit is store.DB's.
func (q *Queue) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	u := &Unit{admission: a}
	if err := q.submit(ctx, u, q.calls); err != nil {
		return store.Admitted{}, err // and not what was decided before the transaction failed
	}
	return u.admitted, nil
}

// Resolve is store.DB's.
func (q *Queue) Resolve(ctx context.Context, r *store.Resolution) (store.Resolved, error) {
	u := &Unit{resolution: r}
	if err := q.submit(ctx, u, q.resolves); err != nil {
		return store.Resolved{}, err
	}
	return u.resolved, nil
}

// Log is store.DB's.
func (q *Queue) Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error) {
	u := &Unit{records: records}
	if err := q.submit(ctx, u, q.calls); err != nil {
		return nil, err
	}
	return u.entries, nil
}

// submit queues a unit and waits for it. A unit that was not taken up when ctx ends or the wait is over
// is withdrawn: then nothing of it will ever be written.
func (q *Queue) submit(ctx context.Context, u *Unit, queue chan *Unit) error {
	if err := q.accepts(ctx); err != nil {
		return err
	}
	u.done = make(chan struct{})
	select {
	case queue <- u:
	default:
		return fmt.Errorf("%w: %d calls are waiting", store.ErrBusy, queueLength)
	}
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	if err := q.await(ctx, &u.ticket, timer.C); err != nil {
		return err
	}
	return u.err
}

// accepts says why no work can be queued; nil = it can. Work that nobody wants any more is not: an engine with nothing else
// to do might take it up before it is withdrawn.
func (q *Queue) accepts(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrBusy, err)
	}
	if err := q.engine.Broken(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	select {
	case <-q.quit: // or callers who never stop asking would keep the store from closing
		return fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	default:
		return nil
	}
}

// await waits for queued work to be done. Work that is still untouched when ctx ends, at over or at the end of
// Run is withdrawn, which is the error. What was taken up is waited for: it may be durable already.
func (q *Queue) await(ctx context.Context, t *ticket, over <-chan time.Time) error {
	var err error
	select {
	case <-t.done:
		return nil
	case <-over:
		err = fmt.Errorf("%w: waited %s", store.ErrBusy, q.wait)
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", store.ErrBusy, ctx.Err())
	case <-q.stopped:
		err = fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	}
	if t.take() {
		return err
	}
	<-t.done
	return nil
}

// Update is store.DB's.
func (q *Queue) Update(ctx context.Context, lane store.Lane, f func(store.Tx) error) error {
	if err := q.accepts(ctx); err != nil {
		return err
	}
	a := &action{f: f, ticket: ticket{done: make(chan struct{})}}
	if lane == store.LaneBrake {
		select {
		case q.brakes <- a:
		default:
			return fmt.Errorf("%w: %d stops are waiting", store.ErrBusy, laneLength)
		}
		// Not withdrawn while anybody wants it: a stop that comes late is still a stop.
		return q.served(ctx, a, nil)
	}
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	select {
	case q.controls <- a:
		return q.served(ctx, a, timer.C)
	case <-timer.C:
		return fmt.Errorf("%w: waited %s", store.ErrBusy, q.wait)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrBusy, ctx.Err())
	case <-q.stopped:
		return fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	}
}

// served waits for an action and returns what came of it.
func (q *Queue) served(ctx context.Context, a *action, over <-chan time.Time) error {
	if err := q.await(ctx, &a.ticket, over); err != nil {
		return err
	}
	return a.err
}
