package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// seed does a whole seeding, as one who adds the caps does.
func seed(t testing.TB, db store.DB, s *store.Seeding) {
	t.Helper()
	must(t, db.Seed(t.Context(), s))
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.Seed(*s) }))
}

func seededCap(t *testing.T, open Open) {
	for name, beside := range map[string]bool{"before and in the transaction": true, "in the transaction alone": false} {
		t.Run(name, func(t *testing.T) {
			db := opened(t, open)
			key := policy.KeyID("key_" + name[:2])
			version := Key(t, db, key)
			settled := admit(t, db, Admission(key, version, nil, USD("refunds", 1000)))
			resolve(t, db, Settle(settled.Reservation))
			held := admit(t, db, Admission(key, version, nil, USD("refunds", 500)))
			added := DayCap("refunds", 20)
			seeding := store.Seeding{Key: key, Caps: []policy.Cap{added}, Zone: time.UTC}
			if beside {
				must(t, db.Seed(t.Context(), &seeding))
			}
			must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.Seed(seeding) }))
			if got := account(t, db, key, added); got != (ledger.Account{Held: 5_000_000, Settled: 10_000_000}) {
				t.Fatalf("seeded: %+v", got)
			}
			resolve(t, db, Settle(held.Reservation))
			if got := account(t, db, key, added); got != (ledger.Account{Settled: 15_000_000}) {
				t.Errorf("the open hold did not settle under the new cap: %+v", got)
			}
			if got := admit(t, db, Admission(key, version, []policy.Cap{added}, USD("refunds", 501))); got.Verdict != policy.Deny {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The caps that a key has from the start, and those that it gets, which must always say the same.
var (
	presentCaps = []policy.Cap{
		{Resource: "payment_intents", Per: policy.PerTotal, Unit: policy.UnitUSD, Limit: 1 << 50},
		{Resource: "payment_intents", Per: policy.PerTotal, Unit: policy.UnitCalls, Limit: 1 << 50},
	}
	addedCaps = []policy.Cap{
		{Resource: "*", Per: policy.PerTotal, Unit: policy.UnitUSD, Limit: 1 << 50},
		{Resource: "*", Per: policy.PerTotal, Unit: policy.UnitCalls, Limit: 1 << 50},
	}
)

// traffic is callers who take and leave money on one key, and hand it over between each other.
type traffic struct {
	db      store.DB
	caps    map[int64][]policy.Cap // by version of the key
	version atomic.Int64
	calls   atomic.Int64
}

// caller admits and resolves, some twenty calls later, until ctx ends. It tries the cases in an order of its own.
func (tr *traffic) caller(ctx context.Context, n int) error {
	var left []*ledger.Reservation // on the wire
	for working := context.WithoutCancel(ctx); ctx.Err() == nil; n += 7919 {
		v := tr.version.Load()
		e := USD("payment_intents", int64(1+n%9)*100)
		if n%3 > 0 {
			e.Object, e.Mode = policy.ObjectID(fmt.Sprint("pi_", n%20)), policy.Total
		}
		a := Admission("key_1", v, tr.caps[v], e)
		a.AllowRepeat = true
		got, err := tr.db.Admit(working, a)
		if err != nil {
			return err
		}
		if got.Stale {
			continue
		}
		tr.calls.Add(1)
		left = append(left, got.Reservation)
		i := n % 23
		if i >= len(left) {
			continue
		}
		r := Settle(left[i])
		if n%2 > 0 {
			r.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
		}
		left = slices.Delete(left, i, i+1)
		if _, err := tr.db.Resolve(working, r); err != nil {
			return err
		}
	}
	return nil
}

// more waits for so many more calls.
func (tr *traffic) more(t *testing.T, n int64) {
	for until := tr.calls.Load() + n; tr.calls.Load() < until && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
}

func (tr *traffic) same(t *testing.T, when string) {
	t.Helper()
	for i := range addedCaps {
		got, want := account(t, tr.db, "key_1", addedCaps[i]), account(t, tr.db, "key_1", presentCaps[i])
		if got != want || want == (ledger.Account{}) {
			t.Errorf("%s: cap %d counts %+v, the one that was there %+v", when, i, got, want)
		}
	}
}

// seededBesideCalls adds caps while callers go on, and lets them go on after.
func seededBesideCalls(t *testing.T, open Open) {
	tr := &traffic{db: opened(t, open)}
	version := Key(t, tr.db, "key_1")
	tr.version.Store(version)
	tr.caps = map[int64][]policy.Cap{version: presentCaps, version + 1: slices.Concat(presentCaps, addedCaps)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			if err := tr.caller(ctx, c); err != nil {
				t.Error(err)
			}
		})
	}
	tr.more(t, 400)
	seeding := store.Seeding{Key: "key_1", Caps: addedCaps, Zone: time.UTC}
	must(t, tr.db.Seed(t.Context(), &seeding))
	tr.more(t, 100) // what the transaction finds left
	must(t, tr.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		if err := tx.Seed(seeding); err != nil {
			return err
		}
		row, err := tx.Key("key_1")
		if err == nil {
			_, err = tx.PutKey(row)
		}
		return err
	}))
	tr.version.Add(1)
	tr.more(t, 200)
	stop()
	callers.Wait()
	tr.same(t, "after more calls")
	must(t, tr.db.View(t.Context(), func(tx store.Tx) error {
		waiting, err := tx.OpenReservations("key_1")
		for _, r := range waiting {
			resolve(t, tr.db, Settle(r))
		}
		return err
	}))
	tr.same(t, "after the last outcome")
}

// seededAnew ends a seeding after some of its transactions.
func seededAnew(t *testing.T, open Open) {
	const calls = 400
	var after atomic.Int64 // so many looks at the clock, one each transaction, the seeding is ended
	ctx, end := context.WithCancel(t.Context())
	defer end()
	db := open(t, func() time.Time {
		if after.Add(-1) == 0 {
			end()
		}
		return time.Now()
	})
	t.Cleanup(func() { must(t, db.Close()) })
	version := Key(t, db, "key_1")
	for range calls {
		resolve(t, db, Settle(admit(t, db, Admission("key_1", version, nil, USD("refunds", 100))).Reservation))
	}
	added := policy.Cap{Resource: "refunds", Per: policy.PerTotal, Unit: policy.UnitUSD, Limit: 1 << 50}
	seeding := store.Seeding{Key: "key_1", Caps: []policy.Cap{added}, Zone: time.UTC}
	after.Store(4)
	if err := db.Seed(ctx, &seeding); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if got := account(t, db, "key_1", added); got.Settled == 0 || got.Settled >= calls*1_000_000 {
		t.Errorf("after some transactions all or nothing is counted: %+v", got)
	}
	seeding.Done = 0
	seed(t, db, &seeding)
	if got := account(t, db, "key_1", added); got != (ledger.Account{Settled: calls * 1_000_000}) {
		t.Errorf("begun anew: %+v", got)
	}
	seeding.Done = 0
	seed(t, db, &seeding)
	if got := account(t, db, "key_1", added); got != (ledger.Account{Settled: calls * 1_000_000}) {
		t.Errorf("done twice: %+v", got)
	}
}

// seededZone moves a key's day to Tokyo, where the next one has begun at 15:00 in UTC.
func seededZone(t *testing.T, open Open) {
	now := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	db := open(t, func() time.Time { return now })
	t.Cleanup(func() { must(t, db.Close()) })
	tokyo := time.FixedZone("Asia/Tokyo", 9*3600)
	day := DayCap("refunds", 1000)
	version := Key(t, db, "key_1")
	resolve(t, db, Settle(admit(t, db, Admission("key_1", version, []policy.Cap{day}, USD("refunds", 700))).Reservation))
	now = now.Add(2 * time.Hour)
	resolve(t, db, Settle(admit(t, db, Admission("key_1", version, []policy.Cap{day}, USD("refunds", 1000))).Reservation))
	open16 := admit(t, db, Admission("key_1", version, []policy.Cap{day}, USD("refunds", 500)))
	seed(t, db, &store.Seeding{Key: "key_1", Caps: []policy.Cap{day}, Zone: tokyo})
	there := func() ledger.Account {
		t.Helper()
		as, err := db.Peek(t.Context(), []ledger.AccountKey{{Key: "key_1", Resource: "refunds", Per: day.Per, Unit: day.Unit, Label: "2026-11-23"}})
		must(t, err)
		return as[0]
	}
	if got := there(); got != (ledger.Account{Held: 5_000_000, Settled: 10_000_000}) {
		t.Errorf("the day in Tokyo: %+v", got)
	}
	resolve(t, db, Settle(open16.Reservation))
	if got := there(); got != (ledger.Account{Settled: 15_000_000}) {
		t.Errorf("after the outcome: %+v", got)
	}
	if got := account(t, db, "key_1", day); got != (ledger.Account{Settled: 22_000_000}) {
		t.Errorf("the day in UTC, which the holds were made in: %+v", got)
	}
}

func reservationsSince(t *testing.T, open Open) {
	db := opened(t, open)
	of := func(key policy.KeyID, at time.Time) (n int) {
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			n = 0
			last := ledger.ReservationID(0)
			return tx.ReservationsSince(key, at, func(r *ledger.Reservation) error {
				if n++; r.ID <= last || key != "" && r.Key != key {
					t.Errorf("reservation %d of %s after %d, asked for %q", r.ID, r.Key, last, key)
				}
				last = r.ID
				return nil
			})
		}))
		return n
	}
	since := func(at time.Time) int { return of("key_1", at) }
	start := db.Now()
	for name, at := range map[string]time.Time{"ever": {}, "the start": start, "an hour from now": start.Add(time.Hour)} {
		if n := since(at); n != 0 {
			t.Errorf("an empty store has %d reservations since %s", n, name)
		}
	}
	version := Key(t, db, "key_1")
	for n := range 5 {
		admit(t, db, Admission("key_1", version, nil, USD("refunds", 100)))
		if got := since(start); got != n+1 {
			t.Errorf("%d reservations since the start, want %d", got, n+1)
		}
	}
	if n := since(start.Add(time.Hour)); n != 0 {
		t.Errorf("%d reservations since an hour from now", n)
	}
	admit(t, db, Admission("key_3", Key(t, db, "key_3"), nil, USD("refunds", 100)))
	if one, all := since(start), of("", start); one != 5 || all != 6 {
		t.Errorf("%d of one key and %d of all, want 5 and 6", one, all)
	}
	seed(t, db, &store.Seeding{Key: "key_2", Caps: []policy.Cap{DayCap("refunds", 20)}, Zone: time.UTC})
}
