package store

import (
	"context"
	"time"
)

// Shared is a DB that several processes, its nodes, serve at once. All methods are safe for concurrent use.
type Shared interface {
	DB
	// Beat says that this node is there and what it acts on, and returns once that is as durable as an admission: so a server
	// that others no longer listen to, cut off from its standby, does not answer.
	Beat(context.Context, Beat) error
	// Changes reads what nodes keep in memory, as far as it has changed since a number of changes that the caller knows; 0:
	// all of it.
	Changes(ctx context.Context, since int64) (Changed, error)
	// Nodes lists the nodes, those that ended within the last day included, in the order in which they started.
	Nodes(context.Context) (Nodes, error)
	// Woken has a value soon after somebody changed what nodes keep. It is a hint: some are lost.
	Woken() <-chan struct{}
}

// Beat is what a node says of itself.
type Beat struct {
	// Braked is the number of changes (Changed.Control) of which the node obeys the brakes, and Control that of which it acts on
	// everything.
	Braked, Control int64
	// Lease is how long the node may act on it, from before this was sent.
	Lease time.Duration
	// Calls have been answered since it started, and InFlight are on their way to upstreams.
	Calls, InFlight int64
}

// Nodes is how the cluster stands.
type Nodes struct {
	Now     time.Time // by the store's clock
	Control int64     // the number of changes so far
	Nodes   []NodeRow
}

// NodeRow is a node as the store knows it.
type NodeRow struct {
	ID      string // new with each start
	Name    string
	Version string
	Started time.Time
	Seen    time.Time // its last beat, by the store's clock
	Ended   time.Time // when it said goodbye or was given up; zero: it was not
	Own     bool      // it is this process
	Beat
}

// Live reports whether the node seems to act, by the store's clock. Nothing that must be sure goes by it: a standby that takes
// over has another clock.
func (n *NodeRow) Live(now time.Time) bool {
	return n.Ended.IsZero() && n.Lease > 0 && now.Before(n.Seen.Add(n.Lease))
}

// goneAfter is how long after its lease a node is surely gone: clocks of the servers of one database differ by less.
const goneAfter = 10 * time.Second

// Gone reports whether the node cannot act: it never did, said goodbye, or was not seen for very long.
func (n *NodeRow) Gone(now time.Time) bool {
	return !n.Ended.IsZero() || n.Lease == 0 || now.After(n.Seen.Add(n.Lease+goneAfter))
}
