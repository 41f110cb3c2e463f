package sqlite_test

import (
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// TestASeededCapCountsWhatWasHandedToAnOlderReservation: yesterday's confirmation of an intent is unknown,
// today's raised its amount and was refused. What today's held stays counted, today, by yesterday's.
func TestASeededCapCountsWhatWasHandedToAnOlderReservation(t *testing.T) {
	for name, settledYesterday := range map[string]bool{"an open heir": false, "a settled heir": true} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
			db := open(t, sqlite.Options{Clock: func() time.Time { return now }})
			version := storetest.Key(t, db, "key_1")
			confirm := func(cents int64, mode policy.CountMode) *ledger.Reservation {
				t.Helper()
				e := storetest.USD("payment_intents", cents)
				e.Object, e.Mode = "pi_1", mode
				a := storetest.Admission("key_1", version, []policy.Cap{storetest.DayCap("payment_intents", 1000)}, e)
				a.AllowRepeat = true
				got, err := db.Admit(t.Context(), a)
				if err != nil || got.Verdict != policy.Allow {
					t.Fatalf("%+v %v", got, err)
				}
				return got.Reservation
			}
			refuse := func(r *ledger.Reservation) {
				t.Helper()
				refused := storetest.Settle(r)
				refused.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
				if _, err := db.Resolve(t.Context(), refused); err != nil {
					t.Fatal(err)
				}
			}
			old := confirm(100_00, policy.Total)
			if settledYesterday {
				if _, err := db.Resolve(t.Context(), storetest.Settle(old)); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(24 * time.Hour)
			raised := confirm(300_00, policy.Total)
			if settledYesterday { // one more on the wire that wants as much, so that the refused one must leave it
				now = now.Add(time.Minute)
			}
			same := confirm(300_00, policy.Total)
			refuse(raised)
			if settledYesterday {
				if _, err := db.Resolve(t.Context(), storetest.Settle(same)); err != nil {
					t.Fatal(err)
				}
			}
			want := recount(t, db, storetest.DayCap("payment_intents", 1000), now)
			added := policy.Cap{Resource: policy.AllResources, Per: policy.PerDay, Unit: policy.UnitUSD, Limit: 1 << 40}
			if err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.SeedCap("key_1", added, zone) }); err != nil {
				t.Fatal(err)
			}
			got := peek(t, db, added, now)
			if got != want || want == (ledger.Account{}) {
				t.Errorf("the new cap counts %+v where the old one counts %+v", got, want)
			}
		})
	}
}

func peek(t *testing.T, db *sqlite.DB, c policy.Cap, at time.Time) ledger.Account {
	t.Helper()
	as, err := db.Peek(t.Context(), []ledger.AccountKey{{
		Key: "key_1", Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, at, zone),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return as[0]
}

// recount is what the books say when they are added up from all reservations; the running total must agree.
func recount(t *testing.T, db *sqlite.DB, c policy.Cap, at time.Time) ledger.Account {
	t.Helper()
	var rs []*ledger.Reservation
	err := db.View(t.Context(), func(tx store.Tx) error {
		return tx.ReservationsSince("key_1", time.Time{}, func(r *ledger.Reservation) error {
			rs = append(rs, r)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	k := ledger.AccountKey{Key: "key_1", Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, at, zone)}
	sum := ledger.Recount([]policy.Cap{c}, zone, rs)[k]
	if got := peek(t, db, c, at); got != sum {
		t.Errorf("the running total is %+v, the reservations add up to %+v", got, sum)
	}
	return sum
}
