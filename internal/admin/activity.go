package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// activity is what a key did lately: when it last called, and its calls of the last hour by minute.
type activity struct {
	last    time.Time // zero: not within what was followed
	looked  bool      // the record was looked through for a call before that
	minute  int64     // the latest one counted, in minutes since 1970
	minutes [trafficMinutes]int64
}

// call counts n calls at a moment. Records come in the order of their numbers, which is nearly that of time.
func (a *activity) call(at time.Time, n int64) {
	if at.After(a.last) {
		a.last = at
	}
	m := at.Unix() / 60
	a.turn(m)
	if m > a.minute-trafficMinutes {
		a.minutes[m%trafficMinutes] += n
	}
}

// turn forgets the minutes that are older than an hour before m.
func (a *activity) turn(m int64) {
	if m-a.minute >= trafficMinutes {
		a.minutes = [trafficMinutes]int64{}
	} else {
		for i := a.minute + 1; i <= m; i++ {
			a.minutes[i%trafficMinutes] = 0
		}
	}
	a.minute = max(a.minute, m)
}

// hour is how many calls the last hour had.
func (a *activity) hour(now time.Time) (n int64) {
	a.turn(now.Unix() / 60)
	for _, m := range a.minutes {
		n += m
	}
	return n
}

// acted is the activity of a key.
func (f *figures) acted(key policy.KeyID) *activity {
	if f.activity == nil {
		f.activity = make(map[policy.KeyID]*activity)
	}
	a := f.activity[key]
	if a == nil {
		a = new(activity)
		f.activity[key] = a
	}
	return a
}

// lastLooked is how many of a key's newest records are looked through for its last call.
const lastLooked = 20

// lastCall is when a key last called; zero if it never did, or did much else since.
func (f *figures) lastCall(ctx context.Context, s *Service, key policy.KeyID) (time.Time, error) {
	a := f.acted(key)
	if !a.last.IsZero() || a.looked {
		return a.last, nil
	}
	err := s.Store.View(ctx, func(tx store.Tx) error {
		page, err := tx.Query(store.RecordQuery{Key: key, Limit: lastLooked})
		if err != nil {
			return err
		}
		for i := range page.Entries {
			r, err := audit.Decode(page.Entries[i].Bytes)
			if err == nil && r.Operation != "" {
				a.last = r.At
				break
			}
		}
		return nil
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("find the last call of %s: %w", key, err)
	}
	a.looked = true
	return a.last, nil
}
