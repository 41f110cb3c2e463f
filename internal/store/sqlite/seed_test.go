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

// intents are calls that bring one payment intent to a total, on a key with a cap per day.
type intents struct {
	t       *testing.T
	db      *sqlite.DB
	version int64
}

func newIntents(t *testing.T, now *time.Time) intents {
	t.Helper()
	db := open(t, sqlite.Options{Clock: func() time.Time { return *now }})
	return intents{t, db, storetest.Key(t, db, "key_1")}
}

func (in intents) confirm(cents int64) *ledger.Reservation {
	in.t.Helper()
	e := storetest.USD("payment_intents", cents)
	e.Object, e.Mode = "pi_1", policy.Total
	a := storetest.Admission("key_1", in.version, []policy.Cap{storetest.DayCap("payment_intents", 1000)}, e)
	a.AllowRepeat = true
	got, err := in.db.Admit(in.t.Context(), a)
	if err != nil || got.Verdict != policy.Allow {
		in.t.Fatalf("%+v %v", got, err)
	}
	return got.Reservation
}

func (in intents) resolve(r *ledger.Reservation, fate ledger.State) {
	in.t.Helper()
	resolution := storetest.Settle(r)
	if fate == ledger.Released {
		resolution.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
	}
	if _, err := in.db.Resolve(in.t.Context(), resolution); err != nil {
		in.t.Fatal(err)
	}
}

// TestASeededCapCountsWhatWasHandedToAnOlderReservation: yesterday's confirmation of an intent is unknown,
// today's raised its amount and was refused. What today's held stays counted, today, by yesterday's.
func TestASeededCapCountsWhatWasHandedToAnOlderReservation(t *testing.T) {
	for _, c := range []struct {
		name                     string
		settledYesterday, beside bool
	}{
		{"an open heir", false, false}, {"a settled heir", true, false},
		{"an open heir, beside calls", false, true}, {"a settled heir, beside calls", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
			in := newIntents(t, &now)
			old := in.confirm(100_00)
			if c.settledYesterday {
				in.resolve(old, ledger.Settled)
			}
			now = now.Add(24 * time.Hour)
			raised := in.confirm(300_00)
			if c.settledYesterday { // one more on the wire that wants as much, so that the refused one must leave it
				now = now.Add(time.Minute)
			}
			same := in.confirm(300_00)
			in.resolve(raised, ledger.Released)
			if c.settledYesterday {
				in.resolve(same, ledger.Settled)
			}
			want := recount(t, in.db, storetest.DayCap("payment_intents", 1000), now)
			seeding := store.Seeding{Key: "key_1", Caps: []policy.Cap{allPerDay}, Zone: zone}
			if c.beside {
				if err := in.db.Seed(t.Context(), &seeding); err != nil {
					t.Fatal(err)
				}
			} else if err := in.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.Seed(seeding) }); err != nil {
				t.Fatal(err)
			}
			got := peek(t, in.db, allPerDay, now)
			if got != want || want == (ledger.Account{}) {
				t.Errorf("the new cap counts %+v where the old one counts %+v", got, want)
			}
		})
	}
}

// TestASeedingCountsWhatIsHandedOverWhileItRuns: the reservation that holds the most is refused after it was read
// and before it got its hold, and leaves what it held to one that has been served already.
func TestASeedingCountsWhatIsHandedOverWhileItRuns(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	in := newIntents(t, &now)
	in.confirm(100_00)
	seeding := store.Seeding{Key: "key_1", Caps: []policy.Cap{allPerDay}, Zone: zone}
	if err := in.db.Seed(t.Context(), &seeding); err != nil {
		t.Fatal(err)
	}
	raised := in.confirm(300_00)
	in.confirm(300_00)
	in.db.SeedAround(t, &seeding, func() { in.resolve(raised, ledger.Released) })
	want := recount(t, in.db, storetest.DayCap("payment_intents", 1000), now)
	if got := peek(t, in.db, allPerDay, now); got != want || want.Held != 300_000_000 {
		t.Errorf("the new cap counts %+v where the old one counts %+v", got, want)
	}
}

// allPerDay counts what DayCap on one bucket counts, where no other bucket is used.
var allPerDay = policy.Cap{Resource: policy.AllResources, Per: policy.PerDay, Unit: policy.UnitUSD, Limit: 1 << 40}

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
