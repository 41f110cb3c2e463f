package admin

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// trafficMinutes is how far back calls per minute are known.
	trafficMinutes = 60
	// maxFollowed bounds what is read of the record for one answer. Behind a longer stretch, which only a start and a flood
	// have, minutes are told from where the reading begins.
	maxFollowed = 50_000
)

// figures are running totals over all keys, kept in memory: ten thousand keys are too many to be read for every page.
// Whatever changes a total is on record under its key, so the record says which keys must be read again.
type figures struct {
	mu   sync.Mutex
	seen int64 // number of the last record that is taken in; 0: nothing was read yet
	caps map[policy.KeyID]*standing
	// dirty are keys that a record was about since their caps were read; a reading that broke off leaves the rest.
	dirty map[policy.KeyID]bool
	// minutes counts calls by the minute that they came in, oldest first; those before the first are forgotten.
	minutes  []Minute
	activity map[policy.KeyID]*activity
	vendors  map[policy.UpstreamID]*traffic
	// last is the record before the next one, and damage where one does not follow from the one before.
	last   audit.Entry
	damage string
}

// traffic is how an upstream answered lately.
type traffic struct{ calls, failed meter }

// answered takes in how a call ended at its upstream.
func (f *figures) answered(r *audit.Record) {
	if r.Status == 0 || r.Proof == "not_sent" || r.Proof == "not_written" {
		return // it never left, or what a dead process left behind: the upstream had no say
	}
	if f.vendors == nil {
		f.vendors = make(map[policy.UpstreamID]*traffic)
	}
	t := f.vendors[r.Upstream]
	if t == nil {
		t = new(traffic)
		f.vendors[r.Upstream] = t
	}
	t.calls.add(r.At, 1)
	if r.UpstreamStatus == 0 || r.UpstreamStatus >= 500 {
		t.failed.add(r.At, 1)
	}
}

// link holds a record against the one before it.
func (f *figures) link(e *audit.Entry) {
	if f.last.Seq != 0 && e.Seq == f.last.Seq+1 && audit.Link(f.last.Hash, e.Bytes) != e.Hash {
		f.damage = fmt.Sprintf("record %d does not follow from the one before it", e.Seq)
	}
	f.last = audit.Entry{Seq: e.Seq, Hash: e.Hash}
}

// standing is how a key's caps stood when they were read.
type standing struct {
	version  int64 // of the key's policy
	accounts []ledger.AccountKey
	states   []ledger.Account
}

// Minute is the calls of one minute.
type Minute struct {
	At      time.Time `json:"at" doc:"its beginning"`
	Allowed int64     `json:"allowed"`
	Denied  int64     `json:"denied"`
}

// follow brings the figures to the present.
func (f *figures) follow(ctx context.Context, s *Service) error {
	now := s.Store.Now()
	if f.dirty == nil {
		f.dirty = make(map[policy.KeyID]bool)
	}
	err := s.Store.View(ctx, func(tx store.Tx) error {
		height, _, err := tx.Height()
		if err != nil {
			return err
		}
		from := f.seen + 1
		if f.seen == 0 {
			if from, err = tx.FirstAt(now.Add(-trafficMinutes * time.Minute)); err != nil {
				return err
			}
		}
		if height-from >= maxFollowed { // then every key is read again
			from = height - maxFollowed
			f.caps = nil
		}
		if from > height {
			return nil
		}
		return tx.EachRecord(from, func(e audit.Entry) error {
			f.dirty[e.Key] = true
			f.link(&e)
			f.count(&e)
			f.seen = e.Seq
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("follow the record: %w", err)
	}
	return f.read(ctx, s, now)
}

// count takes a record in. Only calls count: their intents, and denials with what was folded.
func (f *figures) count(e *audit.Entry) {
	r, err := audit.Decode(e.Bytes)
	if err != nil {
		return // verification is what tells of it
	}
	m := Minute{At: r.At.UTC().Truncate(time.Minute)}
	switch r.Kind {
	case audit.KindIntent:
		m.Allowed = 1
	case audit.KindDenied:
		m.Denied = 1
	case audit.KindFolded:
		m.Denied = r.Count
	case audit.KindOutcome:
		f.answered(r)
		return
	default:
		return
	}
	if e.Key != "" {
		a := f.acted(e.Key)
		a.call(r.At, m.Allowed+m.Denied)
		a.denied.add(r.At, m.Denied)
		if r.Kind == audit.KindIntent && r.Access == policy.Write {
			a.repeats.count(r)
		}
	}
	if n := len(f.minutes); n > 0 && !f.minutes[n-1].At.Before(m.At) {
		f.minutes[n-1].Allowed += m.Allowed
		f.minutes[n-1].Denied += m.Denied
		return
	}
	f.minutes = append(f.minutes, m)
	if n := len(f.minutes); n > trafficMinutes {
		f.minutes = slices.Clone(f.minutes[n-trafficMinutes:])
	}
}

// read reads the accounts of keys that changed, and of those that are not known yet or whose windows have turned.
func (f *figures) read(ctx context.Context, s *Service, now time.Time) error {
	if f.caps == nil {
		f.caps = make(map[policy.KeyID]*standing)
	}
	w := windows{now: now}
	live := map[policy.KeyID]bool{}
	for _, k := range s.Ring.Keys() {
		if !k.Revoked.IsZero() {
			continue
		}
		live[k.ID] = true
		had := f.caps[k.ID]
		if had != nil && had.version == k.Version && !f.dirty[k.ID] && w.same(k, had) {
			continue
		}
		st := &standing{version: k.Version}
		for _, c := range k.Policy.Caps {
			st.accounts = append(st.accounts, ledger.AccountKey{
				Key: k.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: w.of(c.Per, k.Policy.Timezone).label,
			})
		}
		if len(st.accounts) > 0 {
			var err error
			if st.states, err = s.Store.Peek(ctx, st.accounts); err != nil {
				return fmt.Errorf("read the caps of %s: %w", k.Name, err)
			}
		}
		f.caps[k.ID] = st
		delete(f.dirty, k.ID)
	}
	clear(f.dirty) // what is left is of keys that are no more
	for id := range f.caps {
		if !live[id] {
			delete(f.caps, id)
			delete(f.activity, id)
		}
	}
	return nil
}

// windows finds each window once, however many keys have it.
type windows struct {
	now   time.Time
	found map[windowKey]window
}

type windowKey struct {
	per  policy.Window
	zone *time.Location
}

type window struct {
	label  string
	resets time.Time
}

func (w *windows) of(per policy.Window, zone *time.Location) window {
	k := windowKey{per, zone}
	got, ok := w.found[k]
	if !ok {
		got = window{ledger.Label(per, w.now, zone), ledger.ResetsAt(per, w.now, zone)}
		if w.found == nil {
			w.found = make(map[windowKey]window)
		}
		w.found[k] = got
	}
	return got
}

// same reports whether what was read is of the windows of now.
func (w *windows) same(k *vault.Key, had *standing) bool {
	for i, c := range k.Policy.Caps {
		if had.accounts[i].Label != w.of(c.Per, k.Policy.Timezone).label {
			return false
		}
	}
	return true
}

// usedAt is how much of each cap of a key is used, in thousandths; nil where its books are not known.
func (f *figures) usedAt(k *vault.Key) (used []int) {
	st := f.caps[k.ID]
	if st == nil || st.version != k.Version {
		return nil
	}
	for i, c := range k.Policy.Caps {
		used = append(used, permille(st.states[i].Held+st.states[i].Settled, c.Limit))
	}
	return used
}

// capAt is a cap of a key, whose books are known, as it stands.
func (f *figures) capAt(k *vault.Key, i int, w *windows) SpendCap {
	c, a := k.Policy.Caps[i], f.caps[k.ID].states[i]
	return SpendCap{
		Resource: string(c.Resource), Per: c.Per.String(), Unit: c.Unit.String(), Limit: figure(c.Unit, c.Limit),
		Held: figure(c.Unit, a.Held), Settled: figure(c.Unit, a.Settled), Left: figure(c.Unit, ledger.Left(a, c.Limit)),
		ResetsAt: utc(w.of(c.Per, k.Policy.Timezone).resets),
	}
}

// permille is how much of a limit is used; all of it where there is nothing to use.
func permille(used, limit int64) int {
	if limit <= 0 {
		return 1000
	}
	hi, lo := bits.Mul64(uint64(max(used, 0)), 1000)
	if hi >= uint64(limit) {
		return 1_000_000
	}
	n, _ := bits.Div64(hi, lo, uint64(limit))
	return int(min(n, 1_000_000))
}

// closest is the place of the cap that is used most; -1 for none.
func closest(used []int) int {
	at := -1
	for i := range used {
		if at < 0 || used[i] > used[at] {
			at = i
		}
	}
	return at
}
