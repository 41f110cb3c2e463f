package postgres_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// machine is a clock that is off by a number of hours, which may change.
type machine struct{ off atomic.Int64 }

func (m *machine) now() time.Time { return time.Now().Add(time.Duration(m.off.Load()) * time.Hour) }

// apart opens two nodes on one database whose machines' clocks are more than two days apart.
func apart(t *testing.T) (url string, nodes [2]*postgres.DB, clocks [2]*machine) {
	t.Helper()
	url = postgrestest.Database(t)
	for i, hours := range [...]int64{-30, 31} {
		clocks[i] = &machine{}
		clocks[i].off.Store(hours)
		nodes[i] = node(t, postgres.Options{URL: url, Machine: clocks[i].now})
	}
	return url, nodes, clocks
}

// present reports whether a time is that of the server, whose machine is this one.
func present(at time.Time) bool { return time.Since(at).Abs() < 10*time.Minute }

// noon is a zone in which no day ends while the test runs.
func noon() *time.Location {
	return time.FixedZone("noon", int((12*time.Hour - time.Since(time.Now().UTC().Truncate(24*time.Hour))).Seconds()))
}

// TestANodeTellsTheServersTimeWhateverItsMachinesClockSays, from its first moment on, and after the machine was suspended,
// or its clock was set in a way that even shows in what passes.
func TestANodeTellsTheServersTimeWhateverItsMachinesClockSays(t *testing.T) {
	_, nodes, clocks := apart(t)
	for i, db := range nodes {
		if now := db.Now(); !present(now) {
			t.Errorf("node %d begins at %s", i, now)
		}
	}
	clocks[0].off.Store(50)
	clocks[1].off.Store(-4)
	for i, db := range nodes {
		for until := time.Now().Add(time.Minute); !present(db.Now()); time.Sleep(10 * time.Millisecond) { // it has nothing to do, and finds out all the same
			if time.Now().After(until) {
				t.Fatalf("node %d whose machine was elsewhere is at %s", i, db.Now())
			}
		}
	}
}

// TestWindowsAndRecordsAreOfTheServersTime: nodes whose clocks are days apart count in the same windows, and what they
// write is in the order in which they wrote it.
func TestWindowsAndRecordsAreOfTheServersTime(t *testing.T) {
	_, nodes, _ := apart(t)
	version, zone := storetest.Key(t, nodes[0], "key_1"), noon()
	caps := []policy.Cap{storetest.DayCap("refunds", 1000)}
	ask := func(i int, cents int64) store.Admitted {
		t.Helper()
		a := admission(version, caps, cents)
		a.Reserve.Zone = zone
		a.Ended = func(now time.Time) *policy.Failure {
			if !present(now) {
				t.Errorf("node %d looks whether a key has ended at %s", i, now)
			}
			return nil
		}
		out, err := nodes[i].Admit(t.Context(), a)
		must(t, err)
		if !present(out.Entry.At) {
			t.Errorf("node %d writes a record of %s", i, out.Entry.At)
		}
		return out
	}
	first := ask(1, 60_000)
	if got := ask(0, 60_000); got.Verdict != policy.Deny || len(got.Full) != 1 {
		t.Errorf("node 0 has a window of its own: %+v", got)
	}
	second := ask(0, 40_000)
	for i := range nodes {
		if got := ask(i, 1); got.Verdict != policy.Deny {
			t.Errorf("node %d lets through what the day has no room for", i)
		}
	}
	for _, r := range []*ledger.Reservation{first.Reservation, second.Reservation} {
		if r == nil || r.Holds[0].Account != first.Reservation.Holds[0].Account || !present(r.At) || !present(r.FirstSent) {
			t.Errorf("reservation %+v, want one of today as the server has it", r)
		}
	}
	settled, err := nodes[0].Resolve(t.Context(), storetest.Settle(first.Reservation))
	must(t, err)
	if !present(settled.Entry.At) {
		t.Errorf("an outcome of %s", settled.Entry.At)
	}
	var before time.Time
	must(t, nodes[1].View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			if e.At.Before(before) {
				t.Errorf("record %d is of %s, the one before of %s", e.Seq, e.At, before)
			}
			before = e.At
			return nil
		})
	}))
}

// TestAnIdempotencyKeyAgesByTheServersTime: neither of two nodes finds a call of the other's of a moment ago too old to
// attach to.
func TestAnIdempotencyKeyAgesByTheServersTime(t *testing.T) {
	_, nodes, _ := apart(t)
	version := storetest.Key(t, nodes[0], "key_1")
	ask := func(i int, resend ledger.ReservationID) store.Admitted {
		t.Helper()
		a := admission(version, nil, 100)
		a.Reserve.IdemKey, a.AttachFor, a.Resend = "k", 23*time.Hour, resend
		out, err := nodes[i].Admit(t.Context(), a)
		must(t, err)
		return out
	}
	first := ask(1, 0).Reservation
	_, err := nodes[1].Resolve(t.Context(), storetest.Settle(first))
	must(t, err)
	for i := range nodes {
		if got := ask(i, 0); got.InUse == nil || got.InUse.ID != first.ID || got.Detached {
			t.Errorf("node %d finds a call of a moment ago too old: %+v", i, got)
		}
		if got := ask(i, first.ID); got.Stale || got.Reservation == nil {
			t.Errorf("node %d does not attach to a call of a moment ago: %+v", i, got)
		}
	}
}

// TestNodesAreSilentByTheServersTime: a node is not taken for dead because its clock is behind, or another one's ahead.
func TestNodesAreSilentByTheServersTime(t *testing.T) {
	_, nodes, _ := apart(t)
	version := storetest.Key(t, nodes[0], "key_1")
	var sent [2]store.Admitted
	for i, db := range nodes {
		must(t, db.Beat(t.Context(), store.Beat{Lease: time.Second}))
		var err error
		sent[i], err = db.Admit(t.Context(), admission(version, nil, 100))
		must(t, err)
	}
	for i, db := range nodes {
		must(t, db.TakeOver())
		all, err := db.Nodes(t.Context())
		must(t, err)
		for _, n := range all.Nodes {
			if !n.Ended.IsZero() || !present(n.Seen) || !present(n.Started) || !present(all.Now) {
				t.Errorf("node %d sees %+v at %s", i, n, all.Now)
			}
		}
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			for _, a := range sent {
				if r, err := tx.Reservation(a.Reservation.ID); err != nil || r.State != ledger.Reserved {
					t.Errorf("after node %d looked, reservation %d is %v (%v)", i, a.Reservation.ID, r, err)
				}
			}
			return nil
		}))
	}
}
