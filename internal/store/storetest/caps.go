package storetest

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// noon is a time for tests of windows, and midnight the end of its day.
var (
	noon     = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	midnight = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
)

// dayCapOf is how DayCap(refunds, 100) is recorded.
func dayCapOf(held, settled int64) audit.Cap {
	limit := 100 * dollar
	return audit.Cap{
		Resource: "refunds", Per: "day", Unit: policy.UnitUSD, Limit: limit,
		Held: held, Settled: settled, Left: limit - held - settled, ResetsAt: midnight,
	}
}

// callsOf is how three calls in all are recorded, of which so many are held and settled.
func callsOf(held, settled int64) audit.Cap {
	return audit.Cap{Resource: "*", Per: "total", Unit: policy.UnitCalls, Limit: 3, Held: held, Settled: settled, Left: 3 - held - settled}
}

const dollar = int64(money.Dollar)

// threeCaps are two that a refund counts in and one that it does not.
var threeCaps = []policy.Cap{DayCap("refunds", 100), {Resource: "*", Per: policy.PerTotal, Unit: policy.UnitCalls, Limit: 3}, DayCap("payouts", 5)}

func outcomeCaps(t *testing.T, open Open) {
	partly := func(r *store.Resolution) { r.Fate.Moved[0].Amount.Minor = 1500 }
	for name, test := range map[string]struct {
		fate func(*store.Resolution)
		want []audit.Cap
	}{
		"all of it moved":       {func(*store.Resolution) {}, []audit.Cap{dayCapOf(0, 20*dollar), callsOf(0, 1)}},
		"a part of it moved":    {partly, []audit.Cap{dayCapOf(0, 15*dollar), callsOf(0, 1)}},
		"it is not known":       {fate(ledger.Fate{State: ledger.Unresolved}), []audit.Cap{dayCapOf(20*dollar, 0), callsOf(1, 0)}},
		"the vendor refused":    {fate(ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}), []audit.Cap{dayCapOf(0, 0), callsOf(0, 1)}},
		"nothing was sent":      {fate(ledger.Fate{State: ledger.Released, Proof: ledger.ProofNotSent}), []audit.Cap{dayCapOf(0, 0), callsOf(0, 0)}},
		"it was settled before": {func(*store.Resolution) {}, []audit.Cap{dayCapOf(0, 20*dollar), callsOf(0, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, func() time.Time { return noon })
			defer func() { must(t, db.Close()) }()
			key := policy.KeyID("key_" + name)
			a := admit(t, db, Admission(key, Key(t, db, key), threeCaps, USD("refunds", 2000)))
			if name == "it was settled before" {
				resolve(t, db, Settle(a.Reservation))
			}
			r := Settle(a.Reservation)
			test.fate(r)
			done := resolve(t, db, r)
			got := last(t, db)
			if diff := cmp.Diff(test.want, got.Caps); got.Kind != audit.KindOutcome || diff != "" {
				t.Errorf("record of kind %s (-want +got):\n%s", got.Kind, diff)
			}
			if len(done.Caps) != len(test.want) || done.Caps[0].Left != test.want[0].Left || done.Caps[1].Held != test.want[1].Held {
				t.Errorf("told: %+v", done.Caps)
			}
		})
	}
}

func lateOutcomeCaps(t *testing.T, open Open) {
	t.Run("the process that sent it ended", func(t *testing.T) {
		clock := func() time.Time { return noon }
		db := open(t, clock)
		admit(t, db, Admission("key_1", Key(t, db, "key_1"), threeCaps, USD("refunds", 2000)))
		must(t, db.Close())
		db = open(t, clock)
		defer func() { must(t, db.Close()) }()
		for _, rec := range records(t, db) {
			if rec.Kind == audit.KindOutcome && rec.Key == "key_1" {
				if diff := cmp.Diff([]audit.Cap{dayCapOf(20*dollar, 0), callsOf(1, 0)}, rec.Caps); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
		}
		t.Error("no outcome was recorded")
	})
	t.Run("a cap was added meanwhile", func(t *testing.T) {
		db := open(t, func() time.Time { return noon })
		defer func() { must(t, db.Close()) }()
		a := admit(t, db, Admission("key_added", Key(t, db, "key_added"), nil, USD("refunds", 2000)))
		seed(t, db, &store.Seeding{Key: "key_added", Caps: threeCaps[:1], Zone: time.UTC})
		resolve(t, db, Settle(a.Reservation))
		if diff := cmp.Diff([]audit.Cap{dayCapOf(0, 20*dollar)}, last(t, db).Caps); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("the day has ended meanwhile", func(t *testing.T) {
		now := noon
		db := open(t, func() time.Time { return now })
		defer func() { must(t, db.Close()) }()
		a := admit(t, db, Admission("key_night", Key(t, db, "key_night"), threeCaps, USD("refunds", 2000)))
		now = midnight.Add(time.Minute)
		resolve(t, db, Settle(a.Reservation))
		if diff := cmp.Diff([]audit.Cap{dayCapOf(0, 20*dollar), callsOf(0, 1)}, last(t, db).Caps); diff != "" {
			t.Errorf("it counts in the day of its hold (-want +got):\n%s", diff)
		}
	})
}

func fate(f ledger.Fate) func(*store.Resolution) { return func(r *store.Resolution) { r.Fate = f } }

func last(t testing.TB, db store.DB) *audit.Record {
	t.Helper()
	rs := records(t, db)
	return rs[len(rs)-1]
}

func refusedCaps(t *testing.T, open Open) {
	db := open(t, func() time.Time { return noon })
	defer func() { must(t, db.Close()) }()
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 100), {Resource: "*", Per: policy.PerTotal, Unit: policy.UnitCalls, Limit: 3}}
	admit(t, db, Admission("key_1", version, caps, USD("refunds", 9000)))
	admit(t, db, Admission("key_1", version, caps, USD("refunds", 2000)))
	if diff := cmp.Diff([]audit.Cap{dayCapOf(90*dollar, 0)}, last(t, db).Caps); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func retryCaps(t *testing.T, open Open) {
	now := noon
	db := open(t, func() time.Time { return now })
	defer func() { must(t, db.Close()) }()
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 100)}
	first := admit(t, db, withIdem(Admission("key_1", version, caps, USD("refunds", 2000)), "k", 1))
	resolve(t, db, Settle(first.Reservation))
	retry := func() store.Admitted {
		a := Admission("key_1", version, caps, USD("refunds", 2000))
		a.Resend = first.Reservation.ID
		return admit(t, db, a)
	}
	want := dayCapOf(0, 20*dollar)
	if got := retry(); len(got.Caps) != 1 || got.Caps[0].Settled != want.Settled || got.Caps[0].Left != want.Left {
		t.Errorf("the same day: %+v", got.Caps)
	}
	if diff := cmp.Diff([]audit.Cap{want}, last(t, db).Caps); diff != "" {
		t.Errorf("the same day (-want +got):\n%s", diff)
	}
	now = midnight.Add(time.Hour)
	if got := retry(); len(got.Caps) != 1 || got.Caps[0].Settled != 0 || got.Caps[0].Left != caps[0].Limit {
		t.Errorf("the next day, which it does not count in: %+v", got.Caps)
	}
}

func accountsIn(t *testing.T, open Open) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	db := open(t, func() time.Time { return now })
	defer func() { must(t, db.Close()) }()
	caps := []policy.Cap{DayCap("charges", 100)}
	for _, key := range []policy.KeyID{"key_1", "key_2"} {
		version := Key(t, db, key)
		admit(t, db, Admission(key, version, caps, USD("charges", 500)))
	}
	now = now.Add(24 * time.Hour)
	in := func(per policy.Window, at time.Time) map[policy.KeyID]int64 {
		out := map[policy.KeyID]int64{}
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			return tx.AccountsIn(per, ledger.Label(per, at, time.UTC), func(k ledger.AccountKey, a ledger.Account) error {
				if whole, err := tx.Account(k); err != nil || whole != a {
					t.Errorf("%v: %v in the window, %v, %v alone", k, a, whole, err)
				}
				out[k.Key] += a.Held
				return nil
			})
		}))
		return out
	}
	yesterday := now.Add(-24 * time.Hour)
	if got, want := in(policy.PerDay, yesterday), (map[policy.KeyID]int64{"key_1": int64(5 * money.Dollar), "key_2": int64(5 * money.Dollar)}); !maps.Equal(got, want) {
		t.Errorf("yesterday: %v, want %v", got, want)
	}
	if got := in(policy.PerDay, now); len(got) > 0 {
		t.Errorf("today, without a call: %v", got)
	}
	if got := in(policy.PerMonth, yesterday); len(got) > 0 {
		t.Errorf("a month that no cap counts: %v", got)
	}
}
