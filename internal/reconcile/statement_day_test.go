package reconcile_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// wantLines holds the lines of a statement against what is expected, in any order.
func wantLines(t *testing.T, r reconcile.Report, want ...string) {
	t.Helper()
	got := said(r.Lines)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the statement (-want +got):\n%s", diff)
		for _, l := range r.Lines {
			t.Logf("%s %s %s: %s", l.Class, l.Kind, l.Day, l.Why)
		}
	}
}

// one returns the only line of a class.
func one(t *testing.T, r reconcile.Report, class reconcile.Class) reconcile.Line {
	t.Helper()
	var found []reconcile.Line
	for _, l := range r.Lines {
		if l.Class == class {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines are %s: %v", len(found), class, said(r.Lines))
	}
	return found[0]
}

func TestADayOfRefundsIntentsAndPayoutsMatches(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	support, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	billing, _ := b.key("agent-billing-intents-b", "UTC", b.up)
	b.agent(support, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	b.agent(support, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=700")
	b.agent(support, "/v1/charges/"+b.charge(0, 2)+"/refund", "amount=900")
	pi := b.agent(billing, "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual")
	held := b.agent(billing, "/v1/payment_intents", "amount=4000&currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual")
	b.agent(billing, "/v1/payment_intents/"+pi+"/capture", "amount_to_capture=6000")
	b.agent(billing, "/v1/payouts", "amount=1000&currency=usd")
	r := b.statement(reconcile.Ask{})
	wantLines(t, r,
		"matched refund 5.00 USD 5.00 USD", "matched refund 7.00 USD 7.00 USD", "matched refund 9.00 USD 9.00 USD",
		"matched payment 60.00 USD 60.00 USD", "not_yet payment 40.00 USD 0.00 USD", "matched payout 10.00 USD 10.00 USD")
	if l := one(t, r, reconcile.NotYet); l.Entries[0].Objects[0] != policy.ObjectID(held) {
		t.Errorf("%v waits, want %s", l.Entries[0].Objects, held)
	}
	for _, l := range r.Lines {
		if l.Kind == upstream.Refund && (l.By == "" || l.Key == "" || l.USD == 0 || l.Origin != upstream.OriginCall) {
			t.Errorf("%+v", l)
		}
	}
	if len(r.Notes) != 0 || r.EventsFrom.IsZero() || r.Read < 5 {
		t.Errorf("notes %q, events from %v, read %d", r.Notes, r.EventsFrom, r.Read)
	}
}

func TestARefundThatFailsLaterDiffersUntilTheLedgerFollows(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, k := b.key("agent-support-refunds-a", "UTC", b.up)
	re := b.agent(key, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	b.wait(72 * time.Hour)
	must(t, b.sandbox.SetRefundStatus(re, "failed"))
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "different refund 5.00 USD 0.00 USD")
	if why := one(t, r, reconcile.Different).Why; !strings.Contains(why, "came back later") {
		t.Errorf("why: %q", why)
	}
	t.Run("also on the day of the failure, when the refund itself is no longer among the lines", func(t *testing.T) {
		b.wait(20 * 24 * time.Hour)
		again := b.agent(key, "/v1/refunds", "charge="+b.charge(0, 2)+"&amount=800")
		b.wait(5 * 24 * time.Hour)
		must(t, b.sandbox.SetRefundStatus(again, "failed"))
		late := b.now().Format(time.DateOnly)
		wantLines(t, b.statement(reconcile.Ask{From: late, To: late}), "different refund 8.00 USD 0.00 USD")
		must(t, b.store.Update(t.Context(), store.LaneControl, func(store.Tx) error { return nil })) // nothing of it was written
		if got := b.reservation(k); got.Counted[0] != 800 {
			t.Errorf("a statement changed the ledger: %d", got.Counted[0])
		}
	})
}

func TestAPendingRefundThatFailsIsNoPartOfOne(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	re := b.agent(key, "/v1/refunds", "metadata[sandbox_status]=pending&amount=500&charge="+b.charge(0, 1))
	wantLines(t, b.statement(reconcile.Ask{}), "matched refund 5.00 USD 5.00 USD")
	must(t, b.sandbox.SetRefundStatus(re, "failed"))
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "different refund 5.00 USD 0.00 USD")
	if why := one(t, r, reconcile.Different).Why; !strings.Contains(why, "refund_failure") {
		t.Errorf("why: %q", why)
	}
}

func TestWhatWaitsForLongIsAskedFor(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-billing-intents-a", "UTC", b.up)
	form := "currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual&amount="
	b.agent(key, "/v1/payment_intents", form+"1000")
	gone := b.agent(key, "/v1/payment_intents", form+"2000")
	late := b.agent(key, "/v1/payment_intents", form+"3000")
	b.post(b.direct, bankSecret, "/v1/payment_intents/"+gone+"/cancel", "", http.StatusOK)
	wantLines(t, b.statement(reconcile.Ask{}), "not_yet payment 10.00 USD 0.00 USD", "not_yet payment 20.00 USD 0.00 USD", "not_yet payment 30.00 USD 0.00 USD")
	b.wait(12 * 24 * time.Hour)
	b.post(b.direct, bankSecret, "/v1/payment_intents/"+late+"/capture", "", http.StatusOK)
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "not_yet payment 10.00 USD 0.00 USD", "missing_there payment 20.00 USD 0.00 USD", "matched payment 30.00 USD 30.00 USD")
	if l := one(t, r, reconcile.Matched); l.By != "look_up" {
		t.Errorf("matched by %q", l.By)
	}
	if l := one(t, r, reconcile.MissingThere); !strings.Contains(l.Why, "canceled") {
		t.Errorf("why: %q", l.Why)
	}
}

func TestARefundThatOnlyGaveUpAnAuthorizationIsNoMoney(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	ch, _ := b.post(b.direct, bankSecret, "/v1/charges", "amount=1000&currency=usd&source=tok_visa&capture=false", http.StatusOK)["id"].(string)
	b.agent(key, "/v1/refunds", "charge="+ch)
	wantLines(t, b.statement(reconcile.Ask{}), "not_money refund 10.00 USD 0.00 USD")
}

func TestWhatDidNotPassTheGatewayIsMissingHere(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	b.agent(key, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	b.post(b.direct, bankSecret, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=2000", http.StatusOK)
	must(t, b.sandbox.PayOutOnSchedule(3000, "usd"))
	must(t, b.sandbox.Happen("charges", b.charge(1, 3), "disputed"))
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "matched refund 5.00 USD 5.00 USD", "missing_here refund 0.00 USD 20.00 USD",
		"automatic payout 0.00 USD 30.00 USD", "automatic other 0.00 USD -200.00 USD")
	if l := one(t, r, reconcile.MissingHere); l.Origin != upstream.OriginCall || l.Ours || len(l.Movements[0].Calls) != 1 || l.Key != "" {
		t.Errorf("%+v", l)
	}
	t.Run("and tells where it looks like Keybrake's own", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.direct+"/v1/refunds", strings.NewReader("amount=100&charge="+b.charge(0, 1)))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", "Bearer "+bankSecret)
		req.Header.Set("Idempotency-Key", b.ring.Master().UpstreamIdempotencyKey("key_forgotten", "", "x"))
		resp, err := b.client.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		for _, l := range b.statement(reconcile.Ask{}).Lines {
			if l.Vendor.Minor == 100 && (l.Class != reconcile.MissingHere || !l.Ours) {
				t.Errorf("%+v", l)
			}
		}
	})
}

// forge writes a settled refund into the ledger that no call made.
func (b *bank) forge(k *vault.Key, object policy.ObjectID, minor int64) {
	b.t.Helper()
	amount := money.Amount{Minor: minor, Currency: "usd"}
	quote, err := money.NewTable(nil).Quote("usd", b.now())
	must(b.t, err)
	usd, err := quote.USD(minor)
	must(b.t, err)
	got, err := b.store.Admit(b.t.Context(), &store.Admission{
		Key: k.ID, KeyVersion: k.Version, Upstream: b.up.ID, Writes: true, Record: &audit.Record{Kind: audit.KindIntent, Key: k.ID},
		Reserve: &ledger.Request{
			Key: k.ID, Upstream: b.up.ID, Operation: "refunds.create", Caps: k.Policy.Caps, Zone: time.UTC, Counts: []policy.Resource{"refunds"},
			Effects: []policy.Effect{{Bucket: "refunds", Known: true, Amount: amount, Quote: quote, USD: usd}},
		},
	})
	must(b.t, err)
	_, err = b.store.Resolve(b.t.Context(), &store.Resolution{
		Reservation: got.Reservation.ID, Record: &audit.Record{Kind: audit.KindOutcome, Ref: got.Entry.Seq, Key: k.ID},
		Fate: ledger.Fate{State: ledger.Settled, Moved: []ledger.Moved{{Amount: amount, Object: object}}},
	})
	must(b.t, err)
	b.wait(time.Second)
}

func TestADoctoredLedgerIsFound(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	_, k := b.key("agent-support-refunds-a", "UTC", b.up)
	real, _ := b.post(b.direct, bankSecret, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=2000", http.StatusOK)["id"].(string)
	b.forge(k, "re_invented", 1500)
	b.forge(k, policy.ObjectID(real), 2500)
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "missing_there refund 15.00 USD 0.00 USD", "different refund 25.00 USD 20.00 USD")
	if l := one(t, r, reconcile.MissingThere); !strings.Contains(l.Why, "no such object") {
		t.Errorf("why: %q", l.Why)
	}
}

func TestAnUnknownOutcomeIsOpenAndSaysWhatStripeShows(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	must(t, b.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST", Path: "/v1/refunds", After: true}))
	b.post(b.agents, key, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500", http.StatusGatewayTimeout)
	must(t, b.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST", Path: "/v1/refunds"}))
	b.post(b.agents, key, "/v1/refunds", "charge="+b.charge(0, 2)+"&amount=700", http.StatusGatewayTimeout)
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "open refund 5.00 USD 5.00 USD", "open refund 7.00 USD 0.00 USD")
	for _, l := range r.Lines {
		if l.Vendor.Minor != 0 && l.By != "idempotency_key" {
			t.Errorf("matched by %q", l.By)
		}
	}
}

func TestTwoKeysOnOneIntentEachCountIt(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	maker, _ := b.key("agent-billing-make-a", "UTC", b.up)
	taker, _ := b.key("agent-billing-take-b", "UTC", b.up)
	pi := b.agent(maker, "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa")
	b.agent(taker, "/v1/payment_intents/"+pi+"/confirm", "payment_method=pm_card_visa")
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "matched payment 100.00 USD 100.00 USD", "matched payment 100.00 USD 100.00 USD")
	for _, l := range r.Lines {
		if !l.Shared {
			t.Errorf("not told as shared: %+v", l)
		}
	}
}

func TestCurrenciesAreComparedAsAsked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		settle map[string]float64
	}{{"booked in euros", nil}, {"booked in dollars", map[string]float64{"eur": 1.25}}} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBank(t, sandbox.Options{Settle: tc.settle})
			key, _ := b.key("agent-billing-intents-a", "UTC", b.up)
			for _, currency := range []string{"eur", "usd"} {
				pi := b.agent(key, "/v1/payment_intents", "amount=10000&payment_method=pm_card_visa&confirm=true&currency="+currency)
				b.agent(key, "/v1/refunds", "payment_intent="+pi+"&amount=333")
			}
			r := b.statement(reconcile.Ask{})
			wantLines(t, r, "matched payment 100.00 EUR 100.00 EUR", "matched payment 100.00 USD 100.00 USD",
				"matched refund 3.33 EUR 3.33 EUR", "matched refund 3.33 USD 3.33 USD")
			for _, l := range r.Lines {
				booked := l.Movements[0].Booked
				if want := l.Vendor.Currency; tc.settle == nil && booked.Currency != want || tc.settle != nil && booked.Currency != "usd" {
					t.Errorf("booked %s", booked)
				}
			}
		})
	}
}

func TestDaysAreThoseOfTheKeysTimeZone(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	newYork, _ := b.key("agent-support-refunds-a", "America/New_York", b.up)
	utc, _ := b.key("agent-support-refunds-b", "UTC", b.up)
	b.wait(15 * time.Hour) // 03:00 of the next day in UTC, 22:00 of this one in New York
	b.agent(newYork, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	b.agent(utc, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=700")
	wantLines(t, b.statement(reconcile.Ask{From: b.day(0), To: b.day(0)}), "matched refund 5.00 USD 5.00 USD")
	wantLines(t, b.statement(reconcile.Ask{From: b.day(1), To: b.day(1)}), "matched refund 7.00 USD 7.00 USD")
}

func TestACallBeforeMidnightThatMovesAfterIsOfTheDayOfItsAdmission(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-billing-intents-a", "UTC", b.up)
	pi := b.agent(key, "/v1/payment_intents", "amount=10000&currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual")
	b.wait(13 * time.Hour)
	b.agent(key, "/v1/payment_intents/"+pi+"/capture", "")
	for _, day := range []int{0, 1} {
		r := b.statement(reconcile.Ask{From: b.day(day), To: b.day(day)})
		wantLines(t, r, "matched payment 100.00 USD 100.00 USD")
		if l := r.Lines[0]; l.Day != b.day(0) || l.Movements[0].At.Format(time.DateOnly) != b.day(1) {
			t.Errorf("day %s, moved at %s", l.Day, l.Movements[0].At)
		}
	}
	wantLines(t, b.statement(reconcile.Ask{From: b.day(2), To: b.day(2)}))
}

func TestConnectMoneyMatchesInTheBooksOfItsAccount(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	shop, _ := b.post(b.direct, bankSecret, "/v1/accounts", "type=custom&country=US&email=shop@example.com&capabilities[card_payments][requested]=true"+
		"&capabilities[transfers][requested]=true&external_account=btok_us_verified", http.StatusOK)["id"].(string)
	key, _ := b.key("agent-platform-transfers-a", "UTC", b.up)
	tr := b.agent(key, "/v1/transfers", "amount=5000&currency=usd&destination="+shop)
	b.agent(key, "/v1/transfers/"+tr+"/reversals", "amount=1200")
	ch := b.agent(key, "/v1/charges", "amount=8000&currency=usd&source=tok_visa&transfer_data[destination]="+shop+"&transfer_data[amount]=7000")
	b.agent(key, "/v1/refunds", "charge="+ch+"&amount=4000&reverse_transfer=true")
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "matched transfer 50.00 USD 50.00 USD", "matched transfer_reversal 12.00 USD 12.00 USD",
		"matched payment 80.00 USD 80.00 USD", "matched transfer 70.00 USD 70.00 USD", "matched refund 40.00 USD 40.00 USD",
		"at_most transfer_reversal 40.00 USD 35.00 USD")
}

func TestASubscriptionsRenewalsAreNobodysCalls(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-billing-subscriptions-a", "UTC", b.up)
	b.agent(key, "/v1/subscriptions", "customer="+b.seeded.Customers[0].ID+"&items[0][price]="+b.seeded.Price)
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "matched payment 20.00 USD 20.00 USD", "not_yet payment 20.00 USD 0.00 USD")
	b.wait(15 * 24 * time.Hour)
	must(t, b.sandbox.Advance(20*24*time.Hour))
	b.wait(-15 * 24 * time.Hour)
	b.wait(35 * 24 * time.Hour)
	day := b.day(30)
	r = b.statement(reconcile.Ask{From: day, To: b.now().Format(time.DateOnly)})
	if l := one(t, r, reconcile.Automatic); !strings.Contains(l.Why, "counted ahead") {
		t.Errorf("%s: %q", said(r.Lines), l.Why)
	}
}

func TestABillPastTheGatewayIsMissingHereAlsoForACountedSubscription(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-billing-subscriptions-a", "UTC", b.up)
	sub := b.agent(key, "/v1/subscriptions", "customer="+b.seeded.Customers[0].ID+"&items[0][price]="+b.seeded.Price)
	b.post(b.direct, bankSecret, "/v1/subscriptions", "customer="+b.seeded.Customers[1].ID+"&items[0][price]="+b.seeded.Price, http.StatusOK)
	b.post(b.direct, bankSecret, "/v1/subscriptions/"+sub, "billing_cycle_anchor=now&proration_behavior=none", http.StatusOK)
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "matched payment 20.00 USD 20.00 USD", "not_yet payment 20.00 USD 0.00 USD",
		"missing_here payment 0.00 USD 20.00 USD", "missing_here payment 0.00 USD 20.00 USD")
}

func TestWhatIsOlderThanEventsIsMatchedByObjectsAndSaysSo(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	b.agent(key, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	b.post(b.direct, bankSecret, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=2000", http.StatusOK)
	b.wait(50 * 24 * time.Hour)
	r := b.statement(reconcile.Ask{})
	wantLines(t, r, "matched refund 5.00 USD 5.00 USD", "missing_here refund 0.00 USD 20.00 USD")
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "30 days") || !r.EventsFrom.IsZero() {
		t.Errorf("notes %q, events from %v", r.Notes, r.EventsFrom)
	}
	if l := one(t, r, reconcile.MissingHere); l.Origin != upstream.OriginUnknown {
		t.Errorf("origin %s", l.Origin)
	}
}

func TestAnotherUpstreamsKeyIsToldAsSuch(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	second := b.upstream("second", b.up.BaseURL)
	key, _ := b.key("agent-support-refunds-a", "UTC", second)
	b.agent(key, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	wantLines(t, b.statement(reconcile.Ask{}), "elsewhere refund 5.00 USD 5.00 USD")
}

func TestARefusedCallLeavesNoLine(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-billing-intents-a", "UTC", b.up)
	b.post(b.agents, key, "/v1/payment_intents", "amount=900&currency=usd&confirm=true&payment_method=pm_card_chargeDeclined", http.StatusPaymentRequired)
	r := b.statement(reconcile.Ask{})
	for _, l := range r.Lines {
		if l.Class.Difference() || len(l.Movements) > 0 {
			t.Errorf("%+v", l)
		}
	}
}

func TestALongLedgerIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	b := newBank(t, sandbox.Options{})
	_, k := b.key("agent-support-refunds-a", "UTC", b.up)
	const many = 1100 // more than two pages
	for n := range many {
		if b.forge(k, policy.ObjectID("re_"+strconv.Itoa(n)), 100); n%3 > 0 {
			b.wait(-time.Second) // several of one instant
		}
	}
	b.wait(time.Hour)
	r := b.statement(reconcile.Ask{})
	seen := map[ledger.ReservationID]int{}
	for _, l := range r.Lines {
		for _, e := range l.Entries {
			seen[e.Reservation]++
		}
	}
	if len(seen) != many || len(r.Lines) != many {
		t.Errorf("%d reservations on %d lines, want %d", len(seen), len(r.Lines), many)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "200 lines") {
		t.Errorf("notes: %q", r.Notes)
	}
}

func TestAStatementIsWholeOrThereIsNone(t *testing.T) {
	b := newBank(t, sandbox.Options{})
	key, _ := b.key("agent-support-refunds-a", "UTC", b.up)
	b.agent(key, "/v1/refunds", "charge="+b.charge(0, 1)+"&amount=500")
	books := "/v1/balance_transactions"
	t.Run("a page that is turned away is asked for again", func(t *testing.T) {
		must(t, b.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultRateLimit, Method: "GET", Path: books}))
		wantLines(t, b.statement(reconcile.Ask{}), "matched refund 5.00 USD 5.00 USD")
	})
	t.Run("a list that cannot be read is no empty list", func(t *testing.T) {
		must(t, b.sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultGarbage, Method: "GET", Path: books}))
		_, err := b.books.Make(t.Context(), reconcile.Ask{Upstream: b.up, From: b.day(0), To: b.day(0)}, func(int) error { return nil })
		if err == nil {
			t.Error("there is a statement")
		}
	})
	t.Run("whoever asked may end it", func(t *testing.T) {
		enough := errors.New("enough")
		_, err := b.books.Make(context.Background(), reconcile.Ask{Upstream: b.up, From: b.day(0), To: b.day(0)}, func(int) error { return enough })
		if !errors.Is(err, enough) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("one at a time", func(t *testing.T) {
		ask := reconcile.Ask{Upstream: b.up, From: b.day(0), To: b.day(0)}
		_, err := b.books.Make(t.Context(), ask, func(int) error {
			_, err := b.books.Make(t.Context(), ask, func(int) error { return nil })
			return err
		})
		if !errors.Is(err, reconcile.ErrStatementBusy) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a secret that may not read the books is told", func(t *testing.T) {
		b.sandbox.AddRestrictedKey("rk_test_narrow", map[string]sandbox.Access{"charges": sandbox.Read})
		narrow, err := b.up.SealInto(b.ring.Master(), vault.NewSecret("rk_test_narrow"))
		must(t, err)
		up, err := b.ring.PutUpstream(narrow)
		must(t, err)
		_, err = b.books.Make(t.Context(), reconcile.Ask{Upstream: up, From: b.day(0), To: b.day(0)}, func(int) error { return nil })
		if !errors.Is(err, upstream.ErrCredential) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a stopped upstream is read all the same", func(t *testing.T) {
		wide, err := b.up.SealInto(b.ring.Master(), vault.NewSecret(bankSecret))
		must(t, err)
		b.up, err = b.ring.PutUpstream(wide)
		must(t, err)
		_, err = b.ring.SetBrake(vault.All, vault.Stopped)
		must(t, err)
		wantLines(t, b.statement(reconcile.Ask{}), "matched refund 5.00 USD 5.00 USD")
	})
	t.Run("a secret that may not read events still gives lines by object", func(t *testing.T) {
		b.sandbox.AddRestrictedKey("rk_test_nobody", map[string]sandbox.Access{"balance_transactions": sandbox.Read, "charges": sandbox.Read})
		blind, err := b.up.SealInto(b.ring.Master(), vault.NewSecret("rk_test_nobody"))
		must(t, err)
		b.up, err = b.ring.PutUpstream(blind)
		must(t, err)
		r := b.statement(reconcile.Ask{})
		wantLines(t, r, "matched refund 5.00 USD 5.00 USD")
		if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "Events: Read") {
			t.Errorf("notes %q", r.Notes)
		}
	})
}
