package sim

import (
	"context"
	"slices"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// unit is one caller's work in the store's queue.
type unit struct {
	admission  *store.Admission
	resolution *store.Resolution
	records    []*audit.Record
	update     func(store.Tx) error
	lane       store.Lane
	told
}

// told is what a store says to a unit.
type told struct {
	admitted store.Admitted
	resolved store.Resolved
	entries  []audit.Entry
	err      error
}

// order is the place of a kind of work in a batch: what is given back can be used by the next.
func (u *unit) order() int {
	if u.resolution != nil {
		return 0
	}
	return 1
}

// folded counts the denials that records stand for.
func (u *unit) folded() (n int64) {
	for _, r := range u.records {
		n += r.Count
	}
	return n
}

// copy is the work without its answer, as it was before a store completed its records.
func (u *unit) copy() *unit {
	c := &unit{update: u.update, lane: u.lane}
	for _, r := range u.records {
		c.records = append(c.records, copyRecord(r))
	}
	if u.resolution != nil {
		r := *u.resolution
		r.Record = copyRecord(r.Record)
		c.resolution = &r
	}
	if u.admission != nil {
		a := *u.admission
		a.Record = copyRecord(a.Record)
		if a.Reserve != nil {
			reserve := *a.Reserve
			a.Reserve = &reserve
		}
		c.admission = &a
	}
	return c
}

func copyRecord(r *audit.Record) *audit.Record {
	if r == nil {
		return nil
	}
	c := *r
	c.Failures, c.Caps = slices.Clip(c.Failures), slices.Clip(c.Caps)
	return &c
}

// ask has a store do the work and keeps what it answers.
func (u *unit) ask(ctx context.Context, db store.DB) {
	switch {
	case u.update != nil:
		u.err = db.Update(ctx, u.lane, u.update)
	case u.resolution != nil:
		u.resolved, u.err = db.Resolve(ctx, u.resolution)
	case u.admission != nil:
		u.admitted, u.err = db.Admit(ctx, u.admission)
	default:
		u.entries, u.err = db.Log(ctx, u.records...)
	}
}

// decide has a batch do the work.
func (u *unit) decide(b *store.Batch) (err error) {
	switch {
	case u.resolution != nil:
		u.resolved, err = b.Resolve(u.resolution)
	case u.admission != nil:
		u.admitted, err = b.Admit(u.admission)
	default:
		for _, r := range u.records {
			u.entries = append(u.entries, b.Log(r))
		}
	}
	return err
}
