package sim

import (
	"errors"
	"math/rand/v2"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// How a transaction ends, where it does not end well. The first two are those of any store.
const (
	unavailable = "unavailable" // nothing of it reached the store
	unknown     = "unknown"     // it is durable, nobody was told, and nothing is taken until the next start

	// The rest are those of a store at the other end of a network. A connection is cut before the server has the commit,
	// or after it; then there is another one at once, or none until the next start, or none for a while.
	cutBefore     = "cut before"
	cutAfter      = "cut after"
	unknownBefore = "unknown, cut before"
	awayBefore    = "away, cut before"
	awayAfter     = "away, cut after"
)

// ending is one of those in which a commit was asked for.
type ending struct {
	kept  bool // it is durable
	down  bool // the server is out of reach, so nobody can say whether it is
	again bool // it will be seen again by the same process
}

var endings = map[string]ending{
	"": {kept: true}, unknown: {kept: true, down: true},
	cutBefore: {}, cutAfter: {kept: true},
	unknownBefore: {down: true}, awayBefore: {down: true, again: true}, awayAfter: {kept: true, down: true, again: true},
}

// end ends a transaction that was decided, and reports whether it is durable.
func (e *engine) end(c *change, fault string) (kept bool, err error) {
	how := endings[fault]
	switch {
	case c.empty():
		return true, nil // nothing is sent that could be cut off
	case fault == cutBefore && c.control != nil:
		return false, errors.New("the connection was cut") // what an action has told its caller cannot be taken back
	case fault == cutAfter && c.control != nil && len(c.entries) == 0:
		return true, errors.Join(store.ErrUncertain, e.flush(c)) // it left no record to look for
	case !how.down:
		return true, e.flush(c) // a call's was done once more, if it was cut off
	}
	e.broken = errors.New("flush failed")
	err = errors.Join(e.broken, store.ErrUncertain)
	if how.kept {
		err = errors.Join(err, e.keep(c))
	}
	if how.again {
		e.away = &change{chain: e.live.chain}
		if how.kept {
			e.away = c
		}
	}
	return how.kept, err
}

// stamp is a transaction that writes nothing: a store that was in trouble makes one to see that it is not any more. It
// moves the clock of the books all the same.
func (e *engine) stamp() {
	now := e.time()
	e.live.at, e.durable.at = now, now
}

// comeBack lets the process see its server again. The store finds out what became of the transaction in doubt, and lets
// go of what that one admitted: its callers were refused, so nothing was sent.
func (e *engine) comeBack() error {
	e.b.note("back", "store", "")
	c := e.away
	e.away, e.broken = nil, nil
	if err := e.live.apply(c); err != nil {
		return err
	}
	e.stamp()
	const why = "PostgreSQL was not to be reached when the call was admitted, and it was refused"
	var units []*unit
	for _, r := range c.ledger.Created {
		units = append(units, &unit{resolution: &store.Resolution{
			Reservation: r.ID, OnWire: true, Fate: ledger.Fate{State: ledger.Released, Proof: ledger.ProofNotSent, Why: why},
			Record: &audit.Record{Kind: audit.KindOutcome, Ref: r.AuditSeq, Key: r.Key, Operation: r.Operation, Upstream: r.Upstream,
				Fate: "refused", Proof: string(ledger.ProofNotSent), Reason: why},
		}})
	}
	if err := e.takenOver(units); err != nil || e.server == nil {
		return err
	}
	return e.reached()
}

// chance draws the fault of a transaction.
func (w *world) chance(rng *rand.Rand) string {
	n := rng.IntN(1000)
	if !w.network {
		switch {
		case n < 8:
			return unavailable
		case n < 9:
			return unknown
		}
		return ""
	}
	for i, f := range []string{unavailable, unavailable, unknown, unknownBefore, awayBefore, awayAfter} {
		if n == i {
			return f
		}
	}
	switch {
	case n < 30:
		return cutBefore
	case n < 60:
		return cutAfter
	}
	return ""
}
