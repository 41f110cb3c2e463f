package reconcile_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// given is a little after the gateway has given a call up.
const given = 71 * time.Second

// lostCall is a call whose answer is lost, as a customer's or an intent's.
type lostCall struct {
	path, form string
	cents      int64 // what it holds
}

// lostCalls are calls of each kind that can be looked for: by a list with a parent, by one without, by the object.
func lostCalls(w *world) map[string]lostCall {
	ada := w.seeded.Customers[0]
	charge := ada.Charges[0]
	intent := func(form string) string {
		return w.direct("POST", "/v1/payment_intents", "amount=2000&currency=usd&customer="+ada.ID+form).str("id")
	}
	fresh := intent("&payment_method=" + ada.Card)
	authorized := intent("&payment_method=" + ada.Card + "&confirm=true&capture_method=manual")
	payee := w.direct("POST", "/v1/accounts", "type=custom&country=US&capabilities[transfers][requested]=true").str("id")
	w.offset.Add(int64(time.Hour)) // what was made above is older than the calls
	return map[string]lostCall{
		"a refund":                         {path: "/v1/refunds", form: "charge=" + charge + "&amount=700", cents: 700},
		"a refund of what is left":         {path: "/v1/refunds", form: "charge=" + ada.Charges[1], cents: 20000},
		"a refund by the old route":        {path: "/v1/charges/" + charge + "/refund", form: "amount=700", cents: 700},
		"a refund under its charge":        {path: "/v1/charges/" + charge + "/refunds", form: "amount=700", cents: 700},
		"an intent of a customer":          {path: "/v1/payment_intents", form: "amount=900&currency=usd&customer=" + ada.ID, cents: 900},
		"an intent of nobody":              {path: "/v1/payment_intents", form: "amount=900&currency=usd", cents: 900},
		"a confirmation":                   {path: "/v1/payment_intents/" + fresh + "/confirm", cents: 2000},
		"a capture":                        {path: "/v1/payment_intents/" + authorized + "/capture", cents: 2000},
		"a charge":                         {path: "/v1/charges", form: "amount=1200&currency=usd&source=tok_visa", cents: 1200},
		"an invoice that is paid":          {path: "/v1/invoices/" + ada.Invoice + "/pay", cents: 5000},
		"a payout":                         {path: "/v1/payouts", form: "amount=300&currency=usd", cents: 300},
		"a credit on a customer's balance": {path: "/v1/customers/" + ada.ID + "/balance_transactions", form: "amount=-400&currency=usd", cents: 400},
		"a transfer":                       {path: "/v1/transfers", form: "amount=100&currency=usd&destination=" + payee, cents: 100},
		"an intent that is raised":         {path: "/v1/payment_intents/" + fresh, form: "amount=2500", cents: 2500},
		"an item that a bill will collect": {path: "/v1/invoiceitems", form: "customer=" + ada.ID + "&amount=150&currency=usd", cents: 150},
		"a subscription's first bill":      {path: "/v1/subscriptions", form: "customer=" + ada.ID + "&items[0][price]=" + w.seeded.Price + "&default_payment_method=" + ada.Card, cents: -1},
	}
}

func TestWhatBecameOfACallIsLearnedFromStripe(t *testing.T) {
	names := lostCalls(newWorld(t))
	for name := range names {
		t.Run(name+" that happened", func(t *testing.T) {
			w := newWorld(t)
			c := lostCalls(w)[name]
			r := w.lost(true, c.path, c.form)
			held := sum(r)
			if c.cents >= 0 && held != c.cents {
				t.Fatalf("%d was held, want %d", held, c.cents)
			}
			w.pass(time.Second)
			w.wantState(r, ledger.Unresolved, "", held) // it may still be on the wire
			w.pass(given)
			w.wantState(r, ledger.Settled, "", held)
			got := w.records()
			if len(got) != 1 || got[0].Fate != "moved" || got[0].Ref != r.AuditSeq || got[0].Why == "" {
				t.Errorf("recorded %+v", got)
			}
		})
		t.Run(name+" that did not", func(t *testing.T) {
			w := newWorld(t)
			c := lostCalls(w)[name]
			r := w.lost(false, c.path, c.form)
			held := sum(r)
			for range 12 {
				w.pass(time.Minute)
				w.wantState(r, ledger.Unresolved, "", held)
			}
			w.restart() // the first look is in the store
			for range 9 {
				w.pass(time.Minute)
				w.wantState(r, ledger.Unresolved, "", held)
			}
			w.pass(2 * time.Minute)
			w.pass(time.Minute)
			w.wantState(r, ledger.Released, ledger.ProofAbsent, 0)
			var fates []string
			for _, rec := range w.records() {
				fates = append(fates, rec.Fate+rec.Proof)
			}
			if strings.Join(fates, " ") != "unknown refusedabsent" {
				t.Errorf("recorded %q", fates)
			}
		})
	}
}

func sum(r *ledger.Reservation) (n int64) {
	for _, c := range r.Counted {
		n += c
	}
	return n
}

func TestAnEffectOfSomebodyElseIsNotTakenForACallThatIsAbsent(t *testing.T) {
	t.Run("its own idempotency key says whose it is", func(t *testing.T) {
		w := newWorld(t)
		charge := w.seeded.Customers[0].Charges[0]
		r := w.lost(false, "/v1/refunds", "charge="+charge+"&amount=700")
		exchange(w.sandbox, secret, "POST", "/v1/refunds", "charge="+charge+"&amount=700", "Idempotency-Key", "the shop's own").want(t, 200)
		for range 30 {
			w.pass(time.Minute)
		}
		w.wantState(r, ledger.Released, ledger.ProofAbsent, 0)
	})
	t.Run("so does its having none: ours all have one", func(t *testing.T) {
		w := newWorld(t)
		charge := w.seeded.Customers[0].Charges[0]
		r := w.lost(false, "/v1/refunds", "charge="+charge+"&amount=700")
		w.direct("POST", "/v1/refunds", "charge="+charge+"&amount=700")
		for range 30 {
			w.pass(time.Minute)
		}
		w.wantState(r, ledger.Released, ledger.ProofAbsent, 0)
	})
	t.Run("where events may not be read it is counted for the call that it fits", func(t *testing.T) {
		w := newWorld(t)
		must(t, w.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultError, Status: 403, Method: "GET", Path: "/v1/events", Times: sandbox.Always}))
		charge := w.seeded.Customers[0].Charges[0]
		r := w.lost(false, "/v1/refunds", "charge="+charge+"&amount=700")
		w.direct("POST", "/v1/refunds", "charge="+charge+"&amount=700")
		w.pass(given)
		w.wantState(r, ledger.Settled, "", 700)
	})
	t.Run("and one that fits nothing keeps the hold", func(t *testing.T) {
		w := newWorld(t)
		must(t, w.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultError, Status: 403, Method: "GET", Path: "/v1/events", Times: sandbox.Always}))
		charge := w.seeded.Customers[0].Charges[0]
		r := w.lost(false, "/v1/refunds", "charge="+charge+"&amount=700")
		w.direct("POST", "/v1/refunds", "charge="+charge+"&amount=800")
		for range 60 {
			w.pass(time.Minute)
		}
		w.wantState(r, ledger.Unresolved, "", 700)
		if n := w.r.NoteOf(w.reread(r)); !strings.Contains(n.Why, "no call is counted for it") {
			t.Errorf("noted %q", n.Why)
		}
	})
	t.Run("another call's object stays that call's", func(t *testing.T) {
		w := newWorld(t)
		charge := w.seeded.Customers[0].Charges[0]
		r := w.lost(false, "/v1/refunds", "charge="+charge+"&amount=700")
		other := w.lost(true, "/v1/refunds", "charge="+charge+"&amount=700&reason=duplicate")
		for range 30 {
			w.pass(time.Minute)
		}
		w.wantState(other, ledger.Settled, "", 700)
		w.wantState(r, ledger.Released, ledger.ProofAbsent, 0)
	})
}

func TestTheAgentsRetryResolvesACallBeforeTheReconciler(t *testing.T) {
	w := newWorld(t)
	charge := w.seeded.Customers[0].Charges[0]
	const form = "&amount=700"
	r := w.lost(true, "/v1/refunds", "charge="+charge+form, "Idempotency-Key", "k")
	w.call("/v1/refunds", "charge="+charge+form, "Idempotency-Key", "k").want(t, 200)
	w.wantState(r, ledger.Settled, "", 700)
	before := w.sandbox.Arrivals()
	w.pass(time.Hour)
	if n := w.sandbox.Arrivals() - before; n != 0 {
		t.Errorf("asked about what is known, %d times", n)
	}
}

func TestACallThatWasSentAgainIsNotReleasedByWhatWasSeenBefore(t *testing.T) {
	w := newWorld(t)
	charge := w.seeded.Customers[0].Charges[0]
	form := "charge=" + charge + "&amount=700"
	r := w.lost(false, "/v1/refunds", form, "Idempotency-Key", "k")
	w.pass(given)
	w.pass(10 * time.Minute)
	if got := w.reread(r); got.Absent.IsZero() {
		t.Fatal("the first look is not on record")
	}
	must(t, w.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST", Path: "/v1/refunds", After: true}))
	w.call("/v1/refunds", form, "Idempotency-Key", "k").want(t, 504)
	if got := w.reread(r); !got.Absent.IsZero() || got.LastSent.IsZero() {
		t.Fatalf("the look counts although the call left again: %+v", got)
	}
	w.pass(given)
	w.wantState(r, ledger.Settled, "", 700)
}

func TestNothingIsReleasedWhileStripeCannotBeAsked(t *testing.T) {
	w := newWorld(t)
	charge := w.seeded.Customers[0].Charges[0]
	r := w.lost(false, "/v1/refunds", "charge="+charge+"&amount=700")
	must(t, w.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultError, Method: "GET", Path: "/v1/refunds", Times: sandbox.Always}))
	for range 20 {
		w.offset.Add(int64(10 * time.Minute))
		if err := w.r.Open(t.Context()); err == nil && w.r.NoteOf(r).Asked.IsZero() {
			t.Fatal("nobody says that asking failed")
		}
	}
	w.wantState(r, ledger.Unresolved, "", 700)
	w.sandbox.ClearFaults()
	for range 20 {
		w.pass(time.Hour)
	}
	w.wantState(r, ledger.Released, ledger.ProofAbsent, 0)
}

func TestAnOperatorMayDecide(t *testing.T) {
	for _, c := range []struct {
		name  string
		moved bool
		state ledger.State
		proof ledger.Proof
		cents int64
	}{{"that it moved", true, ledger.Settled, "", 700}, {"that it did not", false, ledger.Released, ledger.ProofOperator, 0}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.lost(false, "/v1/refunds", "charge="+w.seeded.Customers[0].Charges[0]+"&amount=700")
			if _, err := w.r.Decide(t.Context(), r.ID, c.moved, "ann", "asked the bank"); err != store.ErrOnTheWire {
				t.Fatalf("while it may be on the wire: %v", err)
			}
			w.offset.Add(int64(given))
			if got, err := w.r.Decide(t.Context(), r.ID, c.moved, "ann", "asked the bank"); err != nil || got.State != c.state {
				t.Fatalf("%+v %v", got, err)
			}
			w.wantState(r, c.state, c.proof, c.cents)
			got := w.records()
			if len(got) != 1 || got[0].Operator != "ann" || got[0].Reason != "asked the bank" || got[0].Subject != "rsv_1" {
				t.Errorf("recorded %+v", got)
			}
			if again, err := w.r.Decide(t.Context(), r.ID, !c.moved, "bob", "no"); err != nil || again.State != c.state {
				t.Errorf("decided twice: %+v %v", again, err)
			}
		})
	}
}

// A clock is set wrong on one side, and nobody knows which.
func TestACallThatRanByAnotherClockIsNotTakenForAbsent(t *testing.T) {
	w := newWorld(t)
	must(t, w.sandbox.Advance(25*time.Minute))
	r := w.lost(true, "/v1/refunds", "charge="+w.seeded.Customers[0].Charges[0]+"&amount=700")
	for range 30 {
		w.pass(time.Minute)
	}
	w.wantState(r, ledger.Settled, "", 700)
}

// TestACallThatAnotherMadeGoodIsNotTakenForDone: two keys want the same of one intent, and only the other's call arrived.
func TestACallThatAnotherMadeGoodIsNotTakenForDone(t *testing.T) {
	authorized := func(w *world) string {
		pi := w.direct("POST", "/v1/payment_intents", "amount=2000&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_visa").str("id")
		w.offset.Add(int64(time.Hour))
		return pi
	}
	t.Run("a capture that somebody else made", func(t *testing.T) {
		w := newWorld(t)
		pi := authorized(w)
		r := w.lost(false, "/v1/payment_intents/"+pi+"/capture", "")
		exchange(w.sandbox, secret, "POST", "/v1/payment_intents/"+pi+"/capture", "", "Idempotency-Key", "the shop's own").want(t, 200)
		for range 30 {
			w.pass(time.Minute)
		}
		w.wantState(r, ledger.Released, ledger.ProofAbsent, 0)
	})
	t.Run("a confirmation whose intent was captured in part since", func(t *testing.T) {
		w := newWorld(t)
		pi := w.direct("POST", "/v1/payment_intents", "amount=2000&currency=usd&capture_method=manual&payment_method=pm_card_visa").str("id")
		w.offset.Add(int64(time.Hour))
		r := w.lost(true, "/v1/payment_intents/"+pi+"/confirm", "")
		w.direct("POST", "/v1/payment_intents/"+pi+"/capture", "amount_to_capture=600")
		w.pass(given)
		w.wantState(r, ledger.Settled, "", 600)
	})
}

// With one look in a quarter of an hour the second one is refused at once: the context ends before its turn.
func TestLooksAreBoundedPerSecondAndTheOldestCallIsAskedAboutFirst(t *testing.T) {
	w := newWorld(t)
	charges := w.seeded.Customers[0].Charges
	for _, charge := range charges[:3] {
		w.lost(true, "/v1/refunds", "charge="+charge+"&amount=700")
	}
	w.offset.Add(int64(given))
	slow := reconcile.New(reconcile.Config{
		Vendor: w.adapter, Ring: w.ring, Store: w.store, Client: w.client, Log: slog.New(slog.DiscardHandler), PerSecond: 1.0 / 900,
	})
	before := w.sandbox.Arrivals()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := slow.Open(ctx); err == nil || !strings.Contains(err.Error(), "wait for a turn") {
		t.Errorf("three calls were asked about: %v", err)
	}
	journal := w.sandbox.Journal()
	if n := w.sandbox.Arrivals() - before; n != 1 || !strings.Contains(journal[len(journal)-1].Query, charges[0]) {
		t.Errorf("%d looks, the last at %+v", n, journal[len(journal)-1])
	}
}
