package storetest

import (
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Open opens the same store each time it is called with the same T: the second call sees what the first
// one wrote. The caller closes it.
type Open func(t testing.TB, clock func() time.Time) store.DB

// Run tries the contract on an engine. newStore makes a fresh place for a store and returns its Open.
func Run(t *testing.T, newStore func(t testing.TB) Open) {
	for name, test := range map[string]func(t *testing.T, open Open){
		"an admission and its record are there after a restart, and its fate is unknown":            survivesReopen,
		"a cap holds under contention to the cent":                                                  capHolds,
		"a full cap is a value, recorded, and changes nothing":                                      fullCap,
		"a reservation resolves once":                                                               resolvesOnce,
		"a resolution that is tried again after its commit was not heard leaves one record":         resolvesAgain,
		"what is released is free for the next call":                                                releases,
		"an outcome's record tells how its caps stand":                                              outcomeCaps,
		"so does that of an outcome that comes late":                                                lateOutcomeCaps,
		"the record of a call that a cap refused tells how that cap stands":                         refusedCaps,
		"a retry tells how the caps stand now":                                                      retryCaps,
		"a pulled brake refuses at the admission":                                                   brakeRefuses,
		"a read-only brake lets reads pass":                                                         readOnlyBrake,
		"an older policy is stale":                                                                  staleKey,
		"an idempotency key belongs to one reservation":                                             idempotency,
		"a released call leaves its idempotency key free":                                           idempotencyReleased,
		"an idempotency key too old to attach to is let go":                                         idempotencyAged,
		"the same call waits while its outcome is unknown":                                          outcomePending,
		"more moved than was held is written down and freezes the key":                              moreMoved,
		"the chain has no gap and verifies, heads included":                                         chainVerifies,
		"old signed heads thin out and the chain still verifies":                                    headsThinOut,
		"a failed update leaves nothing":                                                            failedUpdate,
		"what its caller has given up before is not done":                                           nobodyWaits,
		"live names are unique":                                                                     uniqueNames,
		"what is taken is told, and the rest of the action goes on":                                 refusedGoesOn,
		"lists are in the order of their names' bytes":                                              byteOrder,
		"the oldest key comes first, however often keys change":                                     keysInOrder,
		"what comes from outside may be any bytes":                                                  oddText,
		"what is read for a function has no end that a page would hide":                             manyPages,
		"a view cannot write":                                                                       viewReadOnly,
		"search finds what a full scan finds, indexed or not":                                       search,
		"a search keeps within its bounds":                                                          searchBounds,
		"the first record of a time is found":                                                       firstAt,
		"records in archives are found as before":                                                   archived,
		"archives are let go of from the oldest on, and a gap is an error":                          archivesGone,
		"the reservations since a time are found, also where there are none yet":                    reservationsSince,
		"the clock never goes behind the last record":                                               clockBack,
		"a cap added at noon counts the morning, open holds included":                               seededCap,
		"a cap added while calls go on counts each of them once":                                    seededBesideCalls,
		"a seeding is made of small transactions, and one that broke off is begun anew":             seededAnew,
		"a cap in another time zone counts what the day there has seen":                             seededZone,
		"what was seen before a call left again does not end it":                                    sentAgain,
		"an outcome is of the reservation that was made for it, not of one that has its number now": forgotten,
		"what is open is listed in pages, oldest first":                                             unresolvedPages,
		"what became of an object is written for one key, once":                                     learned,
		"the totals of a window are those of its calls":                                             accountsIn,
		"a created customer joins its key's row":                                                    joins,
		"operators, their tokens and passes are there after a restart":                              peopleStay,
		"alerts and messages that wait are there after a restart":                                   alertsStay,
		"a name and a subject belong to one operator":                                               operatorsAreOne,
		"a pass is taken once":                                                                      passOnce,
		"a create is remembered for a day":                                                          creationsFade,
	} {
		t.Run(name, func(t *testing.T) { test(t, newStore(t)) })
	}
}

// opened opens a store for the length of the test.
func opened(t testing.TB, open Open) store.DB {
	t.Helper()
	db := open(t, nil)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func admit(t testing.TB, db store.DB, a *store.Admission) store.Admitted {
	t.Helper()
	out, err := db.Admit(t.Context(), a)
	must(t, err)
	return out
}

func resolve(t testing.TB, db store.DB, r *store.Resolution) store.Resolved {
	t.Helper()
	out, err := db.Resolve(t.Context(), r)
	must(t, err)
	return out
}

func account(t testing.TB, db store.DB, key policy.KeyID, c policy.Cap) ledger.Account {
	t.Helper()
	a, err := db.Peek(t.Context(), []ledger.AccountKey{{
		Key: key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, db.Now(), time.UTC),
	}})
	must(t, err)
	return a[0]
}

func records(t testing.TB, db store.DB) []*audit.Record {
	t.Helper()
	var out []*audit.Record
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			r, err := audit.Decode(e.Bytes)
			out = append(out, r)
			return err
		})
	}))
	return out
}

func survivesReopen(t *testing.T, open Open) {
	db := open(t, nil)
	caps := []policy.Cap{DayCap("refunds", 100)}
	a := admit(t, db, Admission("key_1", Key(t, db, "key_1"), caps, USD("refunds", 2000)))
	if a.Verdict != policy.Allow || a.Entry.Seq == 0 {
		t.Fatalf("admitted: %+v", a)
	}
	must(t, db.Close())

	db = opened(t, open)
	if got := account(t, db, "key_1", caps[0]); got != (ledger.Account{Held: 20_000_000}) {
		t.Errorf("account after the restart: %+v", got)
	}
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		rs, err := tx.OpenReservations("")
		if err != nil {
			return err
		}
		if len(rs) != 1 || rs[0].State != ledger.Unresolved || rs[0].ID != a.Reservation.ID {
			t.Errorf("open reservations: %+v", rs)
		}
		return nil
	}))
	// Its fate can still be told, once.
	resolve(t, db, Settle(a.Reservation))
	if got := account(t, db, "key_1", caps[0]); got != (ledger.Account{Settled: 20_000_000}) {
		t.Errorf("account after its fate: %+v", got)
	}
}

func capHolds(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 100), {Resource: "*", Per: policy.PerHour, Unit: policy.UnitCalls, Limit: 1000}}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 4 {
				a, err := db.Admit(t.Context(), Admission("key_1", version, caps, USD("refunds", 1000)))
				if err != nil {
					t.Error(err)
					return
				}
				if a.Verdict != policy.Allow {
					continue
				}
				passed.Add(1)
				if _, err := db.Resolve(t.Context(), Settle(a.Reservation)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 10 {
		t.Errorf("%d of $10 passed under $100", passed.Load())
	}
	if got := account(t, db, "key_1", caps[0]); got != (ledger.Account{Settled: 100_000_000}) {
		t.Errorf("account: %+v", got)
	}
	if got := account(t, db, "key_1", caps[1]); got != (ledger.Account{Settled: 10}) {
		t.Errorf("calls: %+v", got)
	}
}

func fullCap(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 10)}
	a := admit(t, db, Admission("key_1", version, caps, USD("refunds", 1001)))
	if a.Verdict != policy.Deny || len(a.Full) != 1 || a.Full[0].Left != 10_000_000 || a.Reservation != nil {
		t.Fatalf("one cent over: %+v", a)
	}
	rs := records(t, db)
	if last := rs[len(rs)-1]; last.Kind != audit.KindDenied || last.Failures[0].Code != policy.CodeCapExceeded || last.Seq != a.Entry.Seq {
		t.Errorf("record: %+v", last)
	}
	if a := admit(t, db, Admission("key_1", version, caps, USD("refunds", 1000))); a.Verdict != policy.Allow {
		t.Errorf("exactly the cap: %+v", a)
	}
}

func resolvesOnce(t *testing.T, open Open) {
	db := opened(t, open)
	caps := []policy.Cap{DayCap("refunds", 100)}
	a := admit(t, db, Admission("key_1", Key(t, db, "key_1"), caps, USD("refunds", 2000)))
	resolve(t, db, Settle(a.Reservation))
	resolve(t, db, Settle(a.Reservation)) // a repeated settlement changes nothing
	r := Settle(a.Reservation)
	r.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
	if done := resolve(t, db, r); !done.Already {
		t.Errorf("a second fate: %+v", done)
	}
	if got := account(t, db, "key_1", caps[0]); got != (ledger.Account{Settled: 20_000_000}) {
		t.Errorf("account: %+v", got)
	}
}

// resolvesAgain: who was not told that it is durable asks for the very same resolution once more.
func resolvesAgain(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	for i, fate := range []ledger.Fate{{}, {State: ledger.Unresolved, Why: "timeout"}, {State: ledger.Released, Proof: ledger.ProofRefused}} {
		a := Admission("key_1", version, []policy.Cap{DayCap("refunds", 1000)}, USD("refunds", 2000))
		a.Reserve.Fingerprint[0] = byte(i)
		r := Settle(admit(t, db, a).Reservation)
		if fate.State != ledger.Reserved {
			r.Fate = fate
		}
		first := resolve(t, db, r)
		before := len(records(t, db))
		if again := resolve(t, db, r); !reflect.DeepEqual(again, first) || len(records(t, db)) != before {
			t.Errorf("%s: %+v and %d records, want %+v and %d", r.Fate.State, again, len(records(t, db)), first, before)
		}
	}
}

func releases(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 20)}
	for range 3 {
		a := admit(t, db, Admission("key_1", version, caps, USD("refunds", 2000)))
		if a.Verdict != policy.Allow {
			t.Fatalf("not free again: %+v", a)
		}
		r := Settle(a.Reservation)
		r.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
		resolve(t, db, r)
	}
	if got := account(t, db, "key_1", caps[0]); got != (ledger.Account{}) {
		t.Errorf("account: %+v", got)
	}
}

func pull(t testing.TB, db store.DB, scope string, mode vault.Brake) {
	t.Helper()
	must(t, db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
		return tx.PutBrake(store.BrakeRow{Scope: scope, Mode: mode, Reason: "test", Actor: "me", At: tx.Now()})
	}))
}

func brakeRefuses(t *testing.T, open Open) {
	for _, scope := range []string{store.ScopeAll, store.UpstreamScope("up_1"), store.KeyScope("key_1"), store.FreezeScope("key_1")} {
		db := open(t, nil)
		a := Admission("key_1", Key(t, db, "key_1"), nil, USD("refunds", 100))
		pull(t, db, scope, vault.Stopped)
		if got := admit(t, db, a); got.Verdict != policy.Deny || (got.Braked == "" && got.Frozen == "") || got.Entry.Seq == 0 {
			t.Errorf("%s: %+v", scope, got)
		}
		must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
			lifted, err := tx.LiftBrake(scope)
			if !lifted {
				t.Errorf("%s was not there to lift", scope)
			}
			return err
		}))
		a = Admission("key_1", a.KeyVersion, nil, USD("refunds", 100))
		a.AllowRepeat = true // the one before this restart is unknown
		if got := admit(t, db, a); got.Verdict != policy.Allow {
			t.Errorf("%s lifted: %+v", scope, got.Verdict)
		}
		must(t, db.Close())
	}
}

func readOnlyBrake(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	pull(t, db, store.KeyScope("key_1"), vault.ReadOnly)
	if got := admit(t, db, Admission("key_1", version, nil, USD("refunds", 100))); got.Verdict != policy.Deny {
		t.Errorf("a write passed: %+v", got)
	}
	read := &store.Admission{Key: "key_1", KeyVersion: version, Upstream: "up_1", Record: &audit.Record{Kind: audit.KindIntent, Key: "key_1"}}
	if got := admit(t, db, read); got.Verdict != policy.Allow {
		t.Errorf("a read was refused: %+v", got)
	}
}

func staleKey(t *testing.T, open Open) {
	db := opened(t, open)
	old := Key(t, db, "key_1")
	if now := Key(t, db, "key_1"); now <= old {
		t.Fatalf("version %d after %d", now, old)
	}
	before := len(records(t, db))
	if got := admit(t, db, Admission("key_1", old, nil, USD("refunds", 100))); !got.Stale || got.Verdict != policy.Deny {
		t.Errorf("%+v", got)
	}
	if n := len(records(t, db)); n != before {
		t.Errorf("%d records for a call that was not decided", n-before)
	}
}

// withIdem is an admission under an idempotency key.
func withIdem(a *store.Admission, idem string, fingerprint byte) *store.Admission {
	a.Reserve.IdemKey, a.Reserve.Fingerprint[0] = idem, fingerprint
	return a
}

func idempotency(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	first := admit(t, db, withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "k", 1))
	for _, again := range []*store.Admission{
		withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "k", 1),
		withIdem(Admission("key_1", version, nil, USD("refunds", 999)), "k", 2),
	} {
		if got := admit(t, db, again); got.InUse == nil || got.InUse.ID != first.Reservation.ID || got.Verdict != policy.Deny {
			t.Errorf("a second use: %+v", got)
		}
	}
	r, err := db.Attached(t.Context(), "key_1", "", "k")
	if err != nil || r.ID != first.Reservation.ID || string(r.Sent) != `{"m":"POST"}` {
		t.Errorf("attached: %+v %v", r, err)
	}
	other := admit(t, db, withIdem(Admission("key_2", Key(t, db, "key_2"), nil, USD("refunds", 100)), "k", 1))
	if other.Verdict != policy.Allow {
		t.Errorf("another key's own idempotency key: %+v", other)
	}
	if _, err := db.Attached(t.Context(), "key_1", "acct_1", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another account: %v", err)
	}
	got := admit(t, db, &store.Admission{
		Key: "key_1", KeyVersion: version, Upstream: "up_1", Writes: true, Resend: first.Reservation.ID, AttachFor: 23 * time.Hour,
		Record: &audit.Record{Kind: audit.KindIntent, Key: "key_1"},
	})
	if got.Verdict != policy.Allow || got.Reservation.ID != first.Reservation.ID {
		t.Errorf("a retry that attaches: %+v", got)
	}
}

func idempotencyReleased(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	a := admit(t, db, withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "k", 1))
	r := Settle(a.Reservation)
	r.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
	resolve(t, db, r)
	if got := admit(t, db, withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "k", 2)); got.Verdict != policy.Allow {
		t.Errorf("%+v", got)
	}
}

func idempotencyAged(t *testing.T, open Open) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	db := open(t, func() time.Time { return now })
	defer func() { must(t, db.Close()) }()
	version := Key(t, db, "key_1")
	caps := []policy.Cap{{Resource: "refunds", Per: policy.PerTotal, Unit: policy.UnitUSD, Limit: 100_000_000}}
	first := admit(t, db, withIdem(Admission("key_1", version, caps, USD("refunds", 100)), "k", 1))
	resolve(t, db, Settle(first.Reservation))
	now = now.Add(23*time.Hour + time.Second)
	retry := Admission("key_1", version, caps, USD("refunds", 100))
	retry.Resend = first.Reservation.ID // as its caller found it, when it was young enough
	if late := admit(t, db, retry); !late.Stale || late.Entry.Seq != 0 {
		t.Errorf("a retry that grew too old on its way: %+v", late)
	}
	got := admit(t, db, withIdem(Admission("key_1", version, caps, USD("refunds", 100)), "k", 1))
	if got.Verdict != policy.Allow || !got.Detached || got.Reservation.ID == first.Reservation.ID {
		t.Errorf("%+v", got)
	}
	if r, err := db.Attached(t.Context(), "key_1", "", "k"); err != nil || r.ID != got.Reservation.ID {
		t.Errorf("the key belongs to %+v, %v", r, err)
	}
}

func outcomePending(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	first := admit(t, db, withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "a", 7))
	unknown := Settle(first.Reservation)
	unknown.Fate = ledger.Fate{State: ledger.Unresolved, Why: "timeout"}
	resolve(t, db, unknown)
	repeat := func() *store.Admission {
		return withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "b", 7)
	}
	if got := admit(t, db, repeat()); got.Pending == nil || got.Pending.ID != first.Reservation.ID || got.Entry.Seq == 0 {
		t.Errorf("the same call under another key: %+v", got)
	}
	lifted := repeat()
	lifted.AllowRepeat = true
	if got := admit(t, db, lifted); got.Verdict != policy.Allow {
		t.Errorf("where the policy allows it: %+v", got)
	}
	resolve(t, db, Settle(first.Reservation))
	if got := admit(t, db, withIdem(Admission("key_1", version, nil, USD("refunds", 100)), "c", 7)); got.Verdict != policy.Allow {
		t.Errorf("once the outcome is known: %+v", got)
	}
}

func moreMoved(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	caps := []policy.Cap{DayCap("refunds", 100)}
	a := admit(t, db, Admission("key_1", version, caps, USD("refunds", 9000)))
	r := Settle(a.Reservation)
	r.Fate.Moved[0].Amount.Minor = 11_000
	if done := resolve(t, db, r); len(done.Overs) != 1 || done.Overs[0].Moved != 110_000_000 {
		t.Errorf("%+v", done)
	}
	if got := account(t, db, "key_1", caps[0]); got.Settled != 110_000_000 {
		t.Errorf("the truth is not in the books: %+v", got)
	}
	if got := admit(t, db, Admission("key_1", version, nil, USD("charges", 1))); got.Frozen == "" {
		t.Errorf("the key is not frozen: %+v", got)
	}
}
