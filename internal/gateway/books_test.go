package gateway_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// account reads how one cap stands now.
func (w *world) account(k policy.KeyID, resource policy.Resource, per policy.Window, unit policy.Unit) ledger.Account {
	w.t.Helper()
	accounts, err := w.Store.Peek(context.Background(), []ledger.AccountKey{{
		Key: k, Resource: resource, Per: per, Unit: unit, Label: ledger.Label(per, w.Store.Now(), time.UTC),
	}})
	must(w.t, err)
	return accounts[0]
}

// wantUSD fails the test unless the cap per day on the resource holds and has settled so many cents.
func (w *world) wantUSD(k policy.KeyID, resource policy.Resource, heldCents, settledCents int64) {
	w.t.Helper()
	const cent = 10_000 // micro-dollars
	got := w.account(k, resource, policy.PerDay, policy.UnitUSD)
	if want := (ledger.Account{Held: heldCents * cent, Settled: settledCents * cent}); got != want {
		w.t.Fatalf("%s per day: held %d settled %d micro-dollars, want %d and %d", resource, got.Held, got.Settled, want.Held, want.Settled)
	}
}

// reservations reads all of a key, oldest first.
func (w *world) reservations(k policy.KeyID) (out []*ledger.Reservation) {
	w.t.Helper()
	must(w.t, w.Store.View(context.Background(), func(tx store.Tx) error {
		out = nil
		return tx.ReservationsSince(k, time.Time{}, func(r *ledger.Reservation) error {
			out = append(out, r)
			return nil
		})
	}))
	return out
}

// last is the newest reservation of a key.
func (w *world) last(k policy.KeyID) *ledger.Reservation {
	w.t.Helper()
	rs := w.reservations(k)
	if len(rs) == 0 {
		w.t.Fatal("there is no reservation")
	}
	return rs[len(rs)-1]
}

// checkBooks holds every account against what its reservations say (I-07).
func (w *world) checkBooks() {
	w.t.Helper()
	for _, k := range w.keys {
		want := ledger.Recount(k.Policy.Caps, k.Policy.Timezone, w.reservations(k.ID))
		for _, c := range k.Policy.Caps {
			if c.Per == policy.PerCall {
				continue
			}
			now := ledger.AccountKey{Key: k.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit,
				Label: ledger.Label(c.Per, w.Store.Now(), k.Policy.Timezone)}
			if _, ok := want[now]; !ok {
				want[now] = ledger.Account{}
			}
		}
		for key, account := range want {
			got, err := w.Store.Peek(context.Background(), []ledger.AccountKey{key})
			must(w.t, err)
			if got[0] != account {
				w.t.Errorf("account %v: %+v, its reservations say %+v", key, got[0], account)
			}
		}
	}
}

// entries reads the audit log, oldest first.
func (w *world) entries() (out []audit.Entry) {
	w.t.Helper()
	must(w.t, w.Store.View(context.Background(), func(tx store.Tx) error {
		out = nil
		return tx.EachRecord(1, func(e audit.Entry) error {
			out = append(out, e)
			return nil
		})
	}))
	return out
}

// records returns the audit log decoded, oldest first.
func (w *world) records() []*audit.Record {
	w.t.Helper()
	var out []*audit.Record
	for _, e := range w.entries() {
		r, err := audit.Decode(e.Bytes)
		must(w.t, err)
		out = append(out, r)
	}
	return out
}

// outcome returns the last outcome record, once it is written: a read's comes behind its answer.
func (w *world) outcome() *audit.Record {
	w.t.Helper()
	for range 2000 {
		records := w.records()
		for i := len(records) - 1; i >= 0; i-- {
			if records[i].Kind == audit.KindIntent {
				break // it has none yet
			}
			if records[i].Kind == audit.KindOutcome {
				return records[i]
			}
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatal("there is no outcome record")
	return nil
}

// lastOf returns the newest record of a kind.
func (w *world) lastOf(kind audit.Kind) *audit.Record {
	w.t.Helper()
	records := w.records()
	for i := len(records) - 1; i >= 0; i-- {
		if records[i].Kind == kind {
			return records[i]
		}
	}
	w.t.Fatalf("there is no %s record", kind)
	return nil
}

func sequence(entries []audit.Entry) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// checkRecord verifies the chain, and that every call has its one intent (or denial, or is counted in a
// fold) and every intent its one outcome.
func (w *world) checkRecord() {
	w.t.Helper()
	must(w.t, w.Store.SignHead(context.Background()))
	entries := w.entries()
	var heads []audit.Head
	must(w.t, w.Store.View(context.Background(), func(tx store.Tx) (err error) {
		heads, err = tx.Heads(0)
		return err
	}))
	report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), sequence(entries), heads, w.signer.PublicKey())
	must(w.t, err)
	if !report.OK {
		w.t.Errorf("the audit chain does not verify: %v", report.Problem)
	}
	var calls int64
	outcomes := make(map[int64]int)
	for _, r := range w.records() {
		switch r.Kind {
		case audit.KindIntent:
			calls++
			outcomes[r.Seq] += 0
			w.checkEnd(r)
		case audit.KindDenied:
			calls++
		case audit.KindFolded:
			calls += r.Count
		case audit.KindOutcome:
			outcomes[r.Ref]++
		}
	}
	if w.partial.Load() {
		return
	}
	if calls != w.calls.Load() {
		w.t.Errorf("%d calls were made and %d are on record", w.calls.Load(), calls)
	}
	for seq, n := range outcomes {
		if n != 1 {
			w.t.Errorf("the call of record %d has %d outcome records", seq, n)
		}
	}
}

// checkEnd holds against the key that a call was admitted before its end, and before that of the text that was sent.
func (w *world) checkEnd(r *audit.Record) {
	w.t.Helper()
	k, ok := w.Ring.Key(r.Key)
	if !ok {
		return // a test removed it
	}
	i := slices.IndexFunc(k.Credentials, func(c vault.Credential) bool { return string(c.Last4[:]) == r.Credential })
	if i < 0 {
		w.t.Errorf("record %d names a text …%s that the key %s does not have", r.Seq, r.Credential, k.Name)
	} else if ended := k.Ended(&k.Credentials[i], r.At); ended != nil {
		w.t.Errorf("record %d admits a call at %s: %s", r.Seq, r.At, ended.Message)
	}
}

// errDisk is what a flakyStore answers when told to fail.
var errDisk = errors.New("disk I/O error")

// flakyStore is a real store whose verbs can be made to fail, and that can be watched.
type flakyStore struct {
	store.DB
	failAdmit, failResolve, failLog, failPeek, failAttached atomic.Bool

	mu          sync.Mutex
	beforeAdmit func(*store.Admission)
	afterAdmit  func(*store.Admission, *store.Admitted) // runs once the admission is durable
}

func (f *flakyStore) onAdmitting(do func(*store.Admission)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beforeAdmit = do
}

func (f *flakyStore) onAdmitted(do func(*store.Admission, *store.Admitted)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.afterAdmit = do
}

func (f *flakyStore) Admit(ctx context.Context, a *store.Admission) (store.Admitted, error) {
	if f.failAdmit.Load() {
		return store.Admitted{}, errors.Join(store.ErrUnavailable, errDisk)
	}
	f.mu.Lock()
	before, after := f.beforeAdmit, f.afterAdmit
	f.mu.Unlock()
	if before != nil {
		before(a)
	}
	out, err := f.DB.Admit(ctx, a)
	if after != nil && err == nil {
		after(a, &out)
	}
	return out, err
}

func (f *flakyStore) Resolve(ctx context.Context, r *store.Resolution) (store.Resolved, error) {
	if f.failResolve.Load() {
		return store.Resolved{}, errors.Join(store.ErrUnavailable, errDisk)
	}
	return f.DB.Resolve(ctx, r)
}

func (f *flakyStore) Log(ctx context.Context, records ...*audit.Record) ([]audit.Entry, error) {
	if f.failLog.Load() {
		return nil, errors.Join(store.ErrUnavailable, errDisk)
	}
	return f.DB.Log(ctx, records...)
}

func (f *flakyStore) Peek(ctx context.Context, keys []ledger.AccountKey) ([]ledger.Account, error) {
	if f.failPeek.Load() {
		return nil, errors.Join(store.ErrUnavailable, errDisk)
	}
	return f.DB.Peek(ctx, keys)
}

func (f *flakyStore) Attached(ctx context.Context, key policy.KeyID, account policy.AccountID, idem string) (*ledger.Reservation, error) {
	if f.failAttached.Load() {
		return nil, errors.Join(store.ErrUnavailable, errDisk)
	}
	return f.DB.Attached(ctx, key, account, idem)
}
