package storetest

import (
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// unknown makes a call whose outcome nobody knows.
func unknown(t *testing.T, db store.DB, version int64, idem string) *ledger.Reservation {
	t.Helper()
	a := Admission("key_1", version, []policy.Cap{DayCap("refunds", 1000)}, USD("refunds", 500))
	a.Reserve.IdemKey, a.AllowRepeat = idem, true
	r := Settle(admit(t, db, a).Reservation)
	r.Fate = ledger.Fate{State: ledger.Unresolved, Why: "timeout"}
	resolve(t, db, r)
	return reservation(t, db, r.Reservation)
}

// sentAgain: a look at the vendor binds nothing once the call has left again, and a fate is given once.
func sentAgain(t *testing.T, open Open) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	db := open(t, func() time.Time { return now })
	t.Cleanup(func() { must(t, db.Close()) })
	version := Key(t, db, "key_1")
	r := unknown(t, db, version, "k")
	looked := func(fate ledger.Fate, asked time.Time) store.Resolved {
		t.Helper()
		fate.Why = "looked"
		got, err := db.Resolve(t.Context(), &store.Resolution{
			Reservation: r.ID, Fate: fate, Asked: asked, Record: &audit.Record{Kind: audit.KindReconciled, Ref: r.AuditSeq},
		})
		must(t, err)
		return got
	}
	absent := ledger.Fate{State: ledger.Unresolved, Absent: now}
	if got := looked(absent, r.Sends()); got.Already || got.Entry.Seq == 0 {
		t.Fatalf("the first look: %+v", got)
	}
	if got := reservation(t, db, r.ID); !got.Absent.Equal(now) {
		t.Fatalf("it is not kept: %+v", got)
	}
	now = now.Add(time.Minute)
	again := Admission("key_1", version, nil, USD("refunds", 500))
	again.Resend = r.ID
	admit(t, db, again)
	sent := reservation(t, db, r.ID)
	if !sent.Absent.IsZero() || !sent.LastSent.Equal(now) || sent.Sends().Equal(r.Sends()) {
		t.Fatalf("sent again: %+v", sent)
	}
	height := lastSeq(t, db)
	if got := looked(ledger.Fate{State: ledger.Released, Proof: ledger.ProofAbsent}, r.Sends()); !got.Already || got.State != ledger.Unresolved {
		t.Errorf("released by a look at what was before it left again: %+v", got)
	}
	if got := lastSeq(t, db); got != height {
		t.Errorf("recorded what was not done")
	}
	if got := looked(ledger.Fate{State: ledger.Released, Proof: ledger.ProofAbsent}, sent.Sends()); got.Already || got.State != ledger.Released {
		t.Errorf("not released: %+v", got)
	}
	if got := looked(Settle(r).Fate, sent.Sends()); !got.Already || got.State != ledger.Released {
		t.Errorf("settled after it was released: %+v", got)
	}
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		rs, err := tx.Unresolved(0, 10)
		if len(rs) != 0 {
			t.Errorf("%d are still open", len(rs))
		}
		return err
	}))
}

// forgotten: after the store was set back, a number may be another call's by the time the first one's outcome is known.
func forgotten(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 1000)}
	r := admit(t, db, Admission("key_1", version, caps, USD("refunds", 500))).Reservation
	gone := *r
	gone.ID += 1000
	for name, c := range map[string]struct {
		of    *ledger.Reservation
		fate  ledger.State
		after time.Duration // made so much later than the one that is there
		lost  bool
		free  bool // the key's writes still pass
	}{
		"nothing moved, another has its number": {of: r, fate: ledger.Released, after: time.Microsecond, lost: true, free: true},
		"nothing moved, nobody has its number":  {of: &gone, fate: ledger.Released, lost: true, free: true},
		"its number is another's":               {of: r, fate: ledger.Settled, after: time.Microsecond, lost: true},
		"nobody has its number":                 {of: &gone, fate: ledger.Settled, lost: true},
		"nobody knows what it moved":            {of: r, fate: ledger.Unresolved, after: -time.Microsecond, lost: true},
		"it is there":                           {of: r, fate: ledger.Unresolved, free: true},
	} {
		t.Run(name, func(t *testing.T) {
			update(t, db, func(tx store.Tx) error { _, err := tx.LiftBrake(store.FreezeScope("key_1")); return err })
			told := Settle(c.of)
			told.Made, told.Fate.State = c.of.At.Add(c.after), c.fate
			if c.fate != ledger.Settled {
				told.Fate = ledger.Fate{State: c.fate, Proof: ledger.ProofNotSent}
			}
			done := resolve(t, db, told)
			rec := last(t, db)
			if done.Forgotten != c.lost || done.Entry.Seq != rec.Seq || rec.Kind != audit.KindOutcome || (rec.Ref == 0) != c.lost || (rec.Reservation == 0) != c.lost {
				t.Errorf("%+v is on record as %+v", done, rec)
			}
			if told.Record.Ref != c.of.AuditSeq { // where the transaction fails, it is decided anew
				t.Errorf("what was told is changed to %+v", told.Record)
			}
			if held := account(t, db, "key_1", caps[0]).Held; held != 5_000_000 {
				t.Errorf("%d micro-dollars are held for the call that is there", held)
			}
			next := admit(t, db, Admission("key_1", version, nil, USD("refunds", 1)))
			if frozen := next.Frozen != ""; frozen == c.free {
				t.Errorf("the next call: %+v", next)
			}
		})
	}
}

// unresolvedPages lists what is open, oldest first, a page at a time.
func unresolvedPages(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	var want []ledger.ReservationID
	other := func() *ledger.Reservation {
		a := Admission("key_1", version, nil, USD("refunds", 1))
		a.Reserve.Fingerprint = [32]byte{1}
		return admit(t, db, a).Reservation
	}
	for range 5 {
		want = append(want, unknown(t, db, version, "").ID)
		resolve(t, db, Settle(other()))
	}
	other() // on the wire: not asked about
	var got []ledger.ReservationID
	for after := ledger.ReservationID(0); ; {
		var page []*ledger.Reservation
		must(t, db.View(t.Context(), func(tx store.Tx) (err error) {
			page, err = tx.Unresolved(after, 2)
			return err
		}))
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			got, after = append(got, r.ID), r.ID
		}
	}
	if len(got) != len(want) || got[0] != want[0] || got[4] != want[4] {
		t.Errorf("%v, want %v", got, want)
	}
}

// learned writes what became of an object, for every key that is counted for it.
func learned(t *testing.T, open Open) {
	db := opened(t, open)
	caps := []policy.Cap{DayCap("refunds", 1000)}
	for _, key := range []policy.KeyID{"key_1", "key_2"} {
		r := Settle(admit(t, db, Admission(key, Key(t, db, key), caps, USD("refunds", 500))).Reservation)
		r.Fate.Moved[0].Object, r.Fate.Pending = "re_1", true
		resolve(t, db, r)
	}
	var keys map[ledger.ObjectKey]ledger.Object
	must(t, db.View(t.Context(), func(tx store.Tx) (err error) {
		keys, err = tx.Counted("re_1")
		return err
	}))
	if len(keys) != 2 || keys[ledger.ObjectKey{Key: "key_1", Bucket: "refunds", Object: "re_1", Currency: "usd"}].Settled != 500 {
		t.Fatalf("%+v", keys)
	}
	learn := func(minor int64) store.Resolved {
		t.Helper()
		got, err := db.Resolve(t.Context(), &store.Resolution{
			Record: &audit.Record{Kind: audit.KindReconciled, Key: "key_1"},
			Learned: &store.Learned{Key: "key_1", Alone: true, Final: ledger.Final{
				Bucket: "refunds", Object: "re_1", Amount: money.Amount{Minor: minor, Currency: "usd"},
			}},
		})
		must(t, err)
		return got
	}
	if got := learn(200); got.Already || got.Entry.Seq == 0 {
		t.Errorf("%+v", got)
	}
	height := lastSeq(t, db)
	if got := learn(200); !got.Already || lastSeq(t, db) != height {
		t.Errorf("learned twice: %+v", got)
	}
	if got := account(t, db, "key_1", caps[0]); got != (ledger.Account{Settled: 2_000_000}) {
		t.Errorf("%+v", got)
	}
	if got := account(t, db, "key_2", caps[0]); got != (ledger.Account{Settled: 5_000_000}) {
		t.Errorf("the other key's: %+v", got)
	}
}

func reservation(t testing.TB, db store.DB, id ledger.ReservationID) (r *ledger.Reservation) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx store.Tx) (err error) {
		r, err = tx.Reservation(id)
		return err
	}))
	return r
}

func lastSeq(t testing.TB, db store.DB) (seq int64) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx store.Tx) (err error) {
		seq, _, err = tx.Height()
		return err
	}))
	return seq
}
