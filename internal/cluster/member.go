// Package cluster makes one process a node among others that serve the same store: it learns of what operators did
// elsewhere, stops acting when it has not heard from the store for a while, and tells when all others act on a change.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

// Times of a node, each with its reason.
const (
	// DefaultLease bounds how long a node that is cut off may still let reads pass: with the look before it, a stop is in force
	// everywhere under a second.
	DefaultLease = 750 * time.Millisecond
	// MinLease leaves room for a few looks that take long before the node stops.
	MinLease = 300 * time.Millisecond
	// MaxLease keeps a stop under a second and a little, whatever node was just lost, and below what `keybrake kill` waits.
	MaxLease = time.Second
	// looksPerLease is how often the store is looked at within a lease, whoever woke the node: a hint may be lost.
	looksPerLease = 3.75
	// ackPoll is how often the store is asked whether all nodes act on a change.
	ackPoll = 5 * time.Millisecond
	// ackMargin is how long after the longest lease the waiting ends, if the store does not answer then.
	ackMargin = 100 * time.Millisecond
)

// Config is what a Member needs.
type Config struct {
	Store store.Shared
	// Lease is how long the node may act on what it read; 0 = DefaultLease.
	Lease time.Duration
	// Obeying is called before the brakes are read; what it returns makes the node obey them, as they are in books with
	// height records: when that has returned, no later call passes one. Neither waits for anybody.
	Obeying func() func(height int64, rows []store.BrakeRow)
	// Follow makes the node act on everything else that has changed. It returns false if it could not yet, because an operator's
	// change is just being made here: then it is told again.
	Follow func(context.Context, store.Changed) (bool, error)
	// Calls is how many calls were answered, and how many are on their way to upstreams.
	Calls func() (answered, inFlight int64)
	Log   *slog.Logger
	// clock is time since some beginning that goes on while the machine is suspended; tests have one of their own.
	clock func() time.Duration
}

// Member is this process as a node. Its methods are safe for concurrent use.
type Member struct {
	Config
	lease Lease

	looking sync.Mutex // held by the look that goes on
	braked  int64
	control int64
	lost    bool // the last look failed: told once
}

// New makes a member that does not act yet: Look must have succeeded once.
func New(c Config) *Member {
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.clock == nil {
		c.clock = elapsed
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Member{Config: c, lease: Lease{length: c.Lease, clock: c.clock}}
}

// Held reports whether the node may act.
func (m *Member) Held() bool { return m.lease.Held() }

// errBackwards: the store knows of fewer changes than this node does, so it was set back, or another server answered.
var errBackwards = errors.New("the store knows of fewer changes than this node")

// ErrLease: the node has not heard from the store for so long that it acts no more.
var ErrLease = errors.New("this node has not heard from the store within its lease, so it lets nothing pass")

// Hold takes the lease as it is. What it returns is ErrLease once that has run out, whatever renewed it since: what was read
// under it, a brake that was not pulled, is as old.
func (m *Member) Hold() (expired func() error) {
	until := m.lease.until.Load()
	return func() error {
		if !m.lease.holds(until) {
			return ErrLease
		}
		return nil
	}
}

// Run looks at the store until ctx ends.
func (m *Member) Run(ctx context.Context) {
	tick := time.NewTicker(time.Duration(float64(m.Lease) / looksPerLease))
	defer tick.Stop()
	for {
		if err := m.Look(ctx); err != nil && ctx.Err() == nil && !m.lost {
			m.lost = true
			m.Log.Warn("the store cannot be looked at; nothing passes here once the lease has run out", "lease_left", m.lease.Left(), "err", err)
		} else if err == nil && m.lost {
			m.lost = false
			m.Log.Info("the store can be looked at again")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.Store.Woken():
		}
	}
}

// Look says that the node is there, reads what has changed and acts on it. Then its lease holds from when it began.
func (m *Member) Look(ctx context.Context) error {
	m.looking.Lock()
	defer m.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.Lease)
	defer cancel()
	asked := m.clock()
	if err := m.beat(ctx); err != nil {
		return err
	}
	obey := m.Obeying()
	changed, err := m.Store.Changes(ctx, m.control)
	if err != nil {
		return err
	}
	if changed.Control < m.control {
		m.braked, m.control = 0, 0 // the next look reads everything
		return errBackwards
	}
	obey(changed.Height, changed.Brakes)
	news := changed.Control != m.braked
	m.braked = changed.Control
	m.lease.renew(asked)
	if changed.Control != m.control {
		done, err := m.Follow(ctx, changed)
		if err != nil {
			return fmt.Errorf("follow what was changed elsewhere: %w", err)
		}
		if done {
			m.control = changed.Control
		}
	}
	if news { // somebody waits to hear that it is in force here
		return m.beat(ctx)
	}
	return nil
}

func (m *Member) beat(ctx context.Context) error {
	b := store.Beat{Braked: m.braked, Control: m.control, Lease: m.Lease}
	if m.Calls != nil {
		b.Calls, b.InFlight = m.Calls()
	}
	return m.Store.Beat(ctx, b)
}

// Ack is how a node came to act on a change.
type Ack struct {
	Node, Name string
	// After is how long that took, from when the waiting began.
	After time.Duration
	// Expired: the node did not say so; its lease ran out, so that it lets nothing pass.
	Expired bool
}

// Acknowledged waits until every other node acts on all changes there are now, or can have no lease any more: on the brakes
// alone, or on everything. It returns how long each took. A lease of a node that has not read a change began before the
// change did, so it is over when its length has passed here: nobody's clock is compared with another's, and the store need
// not answer for that long. An error says that the store never told which nodes there are.
func (m *Member) Acknowledged(ctx context.Context, brakes bool) ([]Ack, error) {
	w := waiting{start: time.Now(), brakes: brakes, longest: m.Lease, done: make(map[string]bool)}
	ctx = context.WithoutCancel(ctx) // who asked may go; it is in force all the same
	for {
		err := m.ask(ctx, &w)
		switch {
		case err == nil && w.over():
			return w.acks, nil
		case err != nil && time.Since(w.start) > w.longest+ackMargin:
			if w.want == 0 {
				return nil, fmt.Errorf("ask whether all nodes act on it: %w", err)
			}
			w.expire(w.nodes)
			return w.acks, nil
		}
		time.Sleep(ackPoll)
	}
}

// waiting is for the other nodes to act on a change.
type waiting struct {
	start   time.Time
	brakes  bool
	longest time.Duration // lease
	want    int64         // the change; 0: the store has not told yet
	nodes   []store.NodeRow
	done    map[string]bool
	acks    []Ack
}

// ask asks the store once how far the nodes are.
func (m *Member) ask(ctx context.Context, w *waiting) error {
	ctx, cancel := context.WithTimeout(ctx, m.Lease)
	defer cancel()
	seen, err := m.Store.Nodes(ctx)
	if err != nil {
		return err
	}
	if w.want == 0 {
		w.want = seen.Control
	}
	w.nodes = w.nodes[:0]
	for _, n := range seen.Nodes {
		acts := n.Control
		if w.brakes {
			acts = n.Braked
		}
		switch {
		case n.Own || w.done[n.ID]:
		case n.Gone(seen.Now):
			w.done[n.ID] = true
		case acts >= w.want:
			w.done[n.ID] = true
			w.acks = append(w.acks, Ack{Node: n.ID, Name: n.Name, After: time.Since(w.start)})
		default:
			w.nodes = append(w.nodes, n)
			w.longest = max(w.longest, n.Lease)
		}
	}
	return nil
}

// over reports whether nobody is left to wait for.
func (w *waiting) over() bool {
	w.expire(slices.DeleteFunc(slices.Clone(w.nodes), func(n store.NodeRow) bool { return time.Since(w.start) < n.Lease }))
	return !slices.ContainsFunc(w.nodes, func(n store.NodeRow) bool { return !w.done[n.ID] })
}

// expire notes that the leases of nodes have run out.
func (w *waiting) expire(nodes []store.NodeRow) {
	for _, n := range nodes {
		if !w.done[n.ID] {
			w.done[n.ID] = true
			w.acks = append(w.acks, Ack{Node: n.ID, Name: n.Name, After: time.Since(w.start), Expired: true})
		}
	}
}

// Leads reports whether this node does what one of them does for all: asking vendors, telling people, archiving. It is the
// one that started first of those that are live. For a moment around a change of hands there may be two or none; what they
// do bears that.
func (m *Member) Leads(ctx context.Context) bool {
	if !m.Held() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, m.Lease)
	defer cancel()
	seen, err := m.Store.Nodes(ctx)
	if err != nil {
		return false
	}
	for _, n := range seen.Nodes {
		if n.Live(seen.Now) {
			return n.Own
		}
	}
	return false
}

// List lists the nodes.
func (m *Member) List(ctx context.Context) (store.Nodes, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Lease)
	defer cancel()
	return m.Store.Nodes(ctx)
}
