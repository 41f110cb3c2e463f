package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	// accounts are the running totals of the present windows, of which at holds those whose totals were read. Most keys
	// of a great many do nothing in an hour or a day, and then there is no total to read or to keep.
	accounts map[ledger.AccountKey]ledger.Account
	at       windows
	read     map[windowName]bool
	// dirty are keys that a record was about since their caps were read; a reading that broke off leaves the rest.
	dirty    map[policy.KeyID]bool
	versions map[policy.KeyID]int64 // of the policies that were in force then
	ring     uint64                 // the ring's generation when the windows were looked at
	// turned is when that was, and turns when the first of them ends.
	turned, turns time.Time
	due           due
	// allowed and refused are all keys' calls.
	allowed, refused meter
	activity         map[policy.KeyID]*activity
	vendors          map[policy.UpstreamID]*traffic
	// last is the record before the next one, and damage where one does not follow from the one before.
	last   audit.Entry
	damage string
	// verified is when the whole record was checked last and found as it was written; zero: not by this process.
	verified time.Time
}

// traffic is how an upstream answered lately.
type traffic struct{ calls, failed meter }

// answered takes in how a call ended at its upstream.
func (f *figures) answered(at time.Time, r *audit.Sketch) {
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
	t.calls.add(at, 1)
	if r.UpstreamStatus == 0 || r.UpstreamStatus >= 500 {
		t.failed.add(at, 1)
	}
}

// link holds a record against the one before it.
func (f *figures) link(e *audit.Entry) {
	if f.last.Seq != 0 && e.Seq == f.last.Seq+1 && audit.Link(f.last.Hash, e.Bytes) != e.Hash {
		f.damage = fmt.Sprintf("record %d does not follow from the one before it", e.Seq)
	}
	f.last = audit.Entry{Seq: e.Seq, Hash: e.Hash}
}

// found takes in what a check of the whole record found: if all of it is as it was written, what was not has been mended.
func (f *figures) found(v Verification, now time.Time) {
	if !v.OK || v.Partial {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.damage, f.verified = "", now
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
			f.read = nil
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
	f.at = windows{now: now}
	return f.readCaps(ctx, s)
}

// count takes a record in. Only calls count: their intents, and denials with what was folded.
func (f *figures) count(e *audit.Entry) {
	var r audit.Sketch
	if !r.Read(e.Bytes) {
		return // verification is what tells of it
	}
	var allowed, refused int64
	switch r.Kind {
	case audit.KindIntent:
		allowed = 1
	case audit.KindDenied:
		refused = 1
	case audit.KindFolded:
		refused = r.Count
	case audit.KindOutcome:
		f.answered(e.At, &r)
		return
	default:
		return
	}
	if e.Key != "" {
		a := f.acted(e.Key)
		a.call(e.At, allowed+refused)
		a.denied.add(e.At, refused)
		if r.Kind == audit.KindIntent && r.Access == policy.Write {
			a.repeats.count(e.At, &r)
		}
	}
	f.allowed.add(e.At, allowed)
	f.refused.add(e.At, refused)
}

// readCaps reads the totals of windows that are new, and those of keys that changed.
func (f *figures) readCaps(ctx context.Context, s *Service) error {
	if err := f.readWindows(ctx, s); err != nil {
		return fmt.Errorf("read the caps: %w", err)
	}
	for id := range f.dirty {
		k, ok := s.Ring.Key(id)
		if !ok || !k.Revoked.IsZero() {
			delete(f.activity, id)
			delete(f.dirty, id)
			continue
		}
		var accounts []ledger.AccountKey
		for _, c := range k.Policy.Caps {
			accounts = append(accounts, f.accountOf(k, c))
		}
		states, err := s.Store.Peek(ctx, accounts)
		if err != nil {
			return fmt.Errorf("read the caps of %s: %w", k.Name, err)
		}
		for i, a := range accounts {
			f.accounts[a] = states[i]
		}
		delete(f.dirty, id)
	}
	return nil
}

// readWindows brings the totals to the windows that the keys' caps are in now. While no key changes and no window ends there
// is nothing to do.
func (f *figures) readWindows(ctx context.Context, s *Service) error {
	generation := s.Ring.Generation()
	if f.read != nil && f.ring == generation && f.at.now.Before(f.turns) && !f.at.now.Before(f.turned) {
		return nil
	}
	present := make(map[windowName]bool)
	known := make(map[*policy.Policy]bool) // most keys share a policy with others
	if f.versions == nil {
		f.versions = make(map[policy.KeyID]int64)
	}
	s.Ring.Each(func(k *vault.Key) bool {
		if !k.Revoked.IsZero() {
			delete(f.versions, k.ID)
			return true
		}
		if had, ok := f.versions[k.ID]; had != k.Version {
			f.versions[k.ID] = k.Version
			if ok { // its record came before the new policy did
				f.dirty[k.ID] = true
			}
		}
		if !known[k.Policy] {
			known[k.Policy] = true
			for _, c := range k.Policy.Caps {
				present[windowName{c.Per, f.at.of(c.Per, k.Policy.Timezone).label}] = true
			}
		}
		return true
	})
	if err := f.turn(ctx, s, present); err != nil {
		return err
	}
	f.ring, f.turned, f.turns = generation, f.at.now, f.at.next()
	return nil
}

// turn lets go of the totals of windows that are over and reads those of windows that have begun.
func (f *figures) turn(ctx context.Context, s *Service, present map[windowName]bool) error {
	if f.read == nil {
		f.read, f.accounts = make(map[windowName]bool), make(map[ledger.AccountKey]ledger.Account)
	}
	var over bool
	for w := range f.read {
		if !present[w] {
			delete(f.read, w)
			over = true
		}
	}
	if over {
		maps.DeleteFunc(f.accounts, func(k ledger.AccountKey, _ ledger.Account) bool { return !f.read[windowName{k.Per, k.Label}] })
	}
	for w := range present {
		if f.read[w] {
			continue
		}
		err := s.Store.View(ctx, func(tx store.Tx) error {
			return tx.AccountsIn(w.per, w.label, func(k ledger.AccountKey, a ledger.Account) error {
				f.accounts[k] = a
				return nil
			})
		})
		if err != nil {
			return err
		}
		f.read[w] = true
	}
	return nil
}

// accountOf is the running total that a key's cap has in the present window.
func (f *figures) accountOf(k *vault.Key, c policy.Cap) ledger.AccountKey {
	return ledger.AccountKey{
		Key: k.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: f.at.of(c.Per, k.Policy.Timezone).label,
	}
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

// next is when the first of the windows that were found ends.
func (w *windows) next() time.Time {
	next := w.now.Add(time.Hour)
	for _, f := range w.found {
		if !f.resets.IsZero() && f.resets.Before(next) {
			next = f.resets
		}
	}
	return next
}

// windowName names a window as the books do: the same day in two time zones has one name.
type windowName struct {
	per   policy.Window
	label string
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

// usedAt is how much of each cap of a key is used, in thousandths.
func (f *figures) usedAt(k *vault.Key) (used []int) {
	for _, c := range k.Policy.Caps {
		a := f.accounts[f.accountOf(k, c)]
		used = append(used, permille(a.Held+a.Settled, c.Limit))
	}
	return used
}

// capAt is a cap of a key as it stands.
func (f *figures) capAt(k *vault.Key, i int) SpendCap {
	c := k.Policy.Caps[i]
	a := f.accounts[f.accountOf(k, c)]
	return SpendCap{
		Resource: string(c.Resource), Per: c.Per.String(), Unit: c.Unit.String(), Limit: figure(c.Unit, c.Limit),
		Held: figure(c.Unit, a.Held), Settled: figure(c.Unit, a.Settled), Left: figure(c.Unit, ledger.Left(a, c.Limit)),
		ResetsAt: utc(f.at.of(c.Per, k.Policy.Timezone).resets),
	}
}

// active are the keys that have a total in a present window, by name.
func (f *figures) active(s *Service) (keys []*vault.Key) {
	known := make(map[policy.KeyID]bool)
	for a := range f.accounts {
		if known[a.Key] {
			continue
		}
		known[a.Key] = true
		if k, ok := s.Ring.Key(a.Key); ok {
			keys = append(keys, k)
		}
	}
	for id := range f.activity { // also of those that no cap concerns
		if k, ok := s.Ring.Key(id); ok && !known[id] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b *vault.Key) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return keys
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
