package queue

import (
	"sync/atomic"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// ticket is a place in a queue. Either the engine's side takes the work up or whoever queued it withdraws it, never both.
type ticket struct {
	taken atomic.Bool
	done  chan struct{} // closed once the work is durable or has failed
}

// take claims the work and reports whether nobody had.
func (t *ticket) take() bool { return t.taken.CompareAndSwap(false, true) }

// Unit is one caller's work.
type Unit struct {
	admission  *store.Admission
	resolution *store.Resolution
	records    []*audit.Record
	// before is the intent record as the caller gave it: a unit that is decided a second time, because its
	// transaction failed, must not carry what the first time wrote into it.
	before  audit.Record
	decided bool

	admitted store.Admitted
	resolved store.Resolved
	entries  []audit.Entry
	err      error

	ticket
}

// Resolve is a unit that an engine gives itself, beside the queue.
func Resolve(r *store.Resolution) *Unit { return &Unit{resolution: r} }

// Admission is what the unit asks for; nil if it is none.
func (u *Unit) Admission() *store.Admission { return u.admission }

// Resolution is what the unit tells; nil if it is none.
func (u *Unit) Resolution() *store.Resolution { return u.resolution }

// Admitted is what Decide made of an admission.
func (u *Unit) Admitted() *store.Admitted { return &u.admitted }

// Decide does the unit's work in a batch. It may be done again in another batch if the transaction failed.
func (u *Unit) Decide(b *store.Batch) (err error) {
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

// order is 0 for resolutions and 1 for everything else.
func (u *Unit) order() int {
	if u.resolution != nil {
		return 0
	}
	return 1
}

func (u *Unit) finish(err error) {
	u.err = err
	close(u.done)
}

// action is what an operator wants done.
type action struct {
	f   func(store.Tx) error
	err error

	ticket
}
