package admin

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// meter counts by the minute, over the last hour.
type meter struct {
	minute int64 // the latest one counted, in minutes since 1970
	counts [trafficMinutes]uint32
}

// add counts n at a moment. Records come in the order of their numbers, which is nearly that of time.
func (m *meter) add(at time.Time, n int64) {
	minute := at.Unix() / 60
	m.turn(minute)
	if minute > m.minute-trafficMinutes {
		at := &m.counts[minute%trafficMinutes]
		*at = uint32(min(int64(*at)+n, math.MaxUint32))
	}
}

// turn forgets the minutes that are an hour and more before one.
func (m *meter) turn(minute int64) {
	if minute-m.minute >= trafficMinutes {
		m.counts = [trafficMinutes]uint32{}
	} else {
		for i := m.minute + 1; i <= minute; i++ {
			m.counts[i%trafficMinutes] = 0
		}
	}
	m.minute = max(m.minute, minute)
}

// at is how many there were in a minute.
func (m *meter) at(minute int64) int64 {
	if minute > m.minute || minute <= m.minute-trafficMinutes {
		return 0
	}
	return int64(m.counts[minute%trafficMinutes])
}

// last is how many there were in the last minutes, of which the present one is one.
func (m *meter) last(now time.Time, minutes int64) (n int64) {
	m.turn(now.Unix() / 60)
	for i := range min(minutes, trafficMinutes) {
		if at := now.Unix()/60 - i; at > m.minute-trafficMinutes {
			n += int64(m.counts[((at%trafficMinutes)+trafficMinutes)%trafficMinutes])
		}
	}
	return n
}

// activity is what a key did lately: when it last called, its calls and refusals, and what it repeats.
type activity struct {
	last          time.Time // zero: not within what was followed
	looked        bool      // the record was looked through for a call before that
	calls, denied meter
	repeats       repeats
}

// call counts n calls at a moment.
func (a *activity) call(at time.Time, n int64) {
	if at.After(a.last) {
		a.last = at
	}
	a.calls.add(at, n)
}

// hour is how many calls the last hour had.
func (a *activity) hour(now time.Time) int64 { return a.calls.last(now, trafficMinutes) }

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

// lately is the activity of a key that is only looked at: none is made for one that did nothing.
func (f *figures) lately(key policy.KeyID) *activity {
	if a := f.activity[key]; a != nil {
		return a
	}
	return new(activity)
}

// lastLooked is how many of a key's newest records are looked through for its last call.
const lastLooked = 20

// lastCall is when a key last called; zero if it never did, or did much else since. For a key that is revoked it is looked for
// each time: there is no end to those, and nobody asks for them often.
func (f *figures) lastCall(ctx context.Context, s *Service, k *vault.Key) (time.Time, error) {
	key, a := k.ID, f.lately(k.ID)
	if !a.last.IsZero() || a.looked {
		return a.last, nil
	}
	if k.Revoked.IsZero() {
		a = f.acted(key)
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
