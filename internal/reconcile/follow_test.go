package reconcile_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
)

// counted is what the key's cap per day counts, of the day given, in cents.
func (w *world) counted(day string) int64 {
	w.t.Helper()
	as, err := w.store.Peek(w.t.Context(), []ledger.AccountKey{{Key: w.id, Resource: "*", Per: policy.PerDay, Unit: policy.UnitUSD, Label: day}})
	must(w.t, err)
	return (as[0].Held + as[0].Settled) / 10_000
}

const today = "2026-11-26"

// changes are objects that end otherwise than their calls were answered.
var changes = []struct {
	name          string
	before, after int64 // counted, in cents
	make          func(w *world) string
	later         func(w *world, object string)
}{
	{"a refund that fails after it succeeded", 700, 0,
		func(w *world) string {
			return w.call("/v1/refunds", "charge="+w.seeded.Customers[0].Charges[0]+"&amount=700").want(w.t, 200).str("id")
		},
		func(w *world, re string) { must(w.t, w.sandbox.SetRefundStatus(re, "failed")) }},
	{"an authorization that is canceled", 2000, 0, authorize,
		func(w *world, pi string) { w.direct("POST", "/v1/payment_intents/"+pi+"/cancel", "") }},
	{"an authorization that somebody captures for less", 2000, 1500, authorize,
		func(w *world, pi string) {
			w.direct("POST", "/v1/payment_intents/"+pi+"/capture", "amount_to_capture=1500")
		}},
	{"an authorization that somebody captures in full", 2000, 2000, authorize,
		func(w *world, pi string) { w.direct("POST", "/v1/payment_intents/"+pi+"/capture", "") }},
	{"an intent that the payer finishes later", 2000, 2000,
		func(w *world) string {
			return w.call("/v1/payment_intents", "amount=2000&currency=usd&confirm=true&payment_method=pm_card_authenticationRequired&return_url=https://example.com").
				want(w.t, 200).str("id")
		},
		func(w *world, pi string) { must(w.t, w.sandbox.Authenticate(pi, true)) }},
	{"a payout that the bank sends back", 300, 0,
		func(w *world) string {
			return w.call("/v1/payouts", "amount=300&currency=usd").want(w.t, 200).str("id")
		},
		func(w *world, po string) { must(w.t, w.sandbox.SetPayoutStatus(po, "failed")) }},
}

func authorize(w *world) string {
	return w.call("/v1/payment_intents", "amount=2000&currency=usd&confirm=true&capture_method=manual&payment_method=pm_card_visa").want(w.t, 200).str("id")
}

func TestTheLedgerFollowsWhatBecomesOfObjects(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			must(t, w.r.Follow(t.Context()))
			object := c.make(w)
			if got := w.counted(today); got != c.before {
				t.Fatalf("%d counted, want %d", got, c.before)
			}
			w.offset.Add(int64(20 * time.Hour)) // the next day: the window is the one in which it was held
			c.later(w, object)
			must(t, w.r.Follow(t.Context()))
			if got := w.counted(today); got != c.after {
				t.Errorf("%d counted afterwards, want %d", got, c.after)
			}
			if got := w.counted("2026-11-27"); got != 0 {
				t.Errorf("%d counted on the day on which it was told", got)
			}
			if w.last().Pending {
				t.Error("it still waits for the last word")
			}
			records := len(w.records())
			w.restart()
			must(t, w.r.Follow(t.Context()))
			if n := len(w.records()); n != records {
				t.Errorf("told twice: %d records, then %d", records, n)
			}
		})
	}
}

// TestMoreThanWasCountedFreezes: an intent that this key alone is counted for is captured for more than was authorized.
func TestMoreThanWasCountedFreezes(t *testing.T) {
	w := newWorld(t)
	must(t, w.r.Follow(t.Context()))
	pi := w.direct("POST", "/v1/payment_intents", "amount=2000&currency=usd&capture_method=manual&payment_method=pm_card_visa"+
		"&payment_method_options[card][request_incremental_authorization]=if_available").str("id")
	w.call("/v1/payment_intents/"+pi+"/confirm", "").want(t, 200)
	w.direct("POST", "/v1/payment_intents/"+pi+"/increment_authorization", "amount=2600")
	w.direct("POST", "/v1/payment_intents/"+pi+"/capture", "")
	must(t, w.r.Follow(t.Context()))
	if got := w.counted(today); got != 2600 {
		t.Errorf("%d counted, want all that moved", got)
	}
	must(t, w.store.View(t.Context(), func(tx store.Tx) error {
		rows, err := tx.Brakes()
		if len(rows) != 1 || rows[0].Scope != store.FreezeScope(w.id) {
			t.Errorf("%+v", rows)
		}
		return err
	}))
}

func TestEventsOfAWeekAreReadInOrder(t *testing.T) {
	w := newWorld(t)
	must(t, w.r.Follow(t.Context()))
	for range 130 { // more than a page
		re := w.call("/v1/refunds", "charge="+w.seeded.Customers[0].Charges[0]+"&amount=100").want(t, 200).str("id")
		must(t, w.sandbox.SetRefundStatus(re, "failed"))
	}
	if got := w.counted(today); got != 13000 {
		t.Fatalf("%d counted", got)
	}
	w.restart()
	must(t, w.r.Follow(t.Context()))
	if got := w.counted(today); got != 0 {
		t.Errorf("%d still counted", got)
	}
}

func sign(message string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(signing))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), message)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

func TestAMessageOfStripesIsAHintAndNoMore(t *testing.T) {
	w := newWorld(t)
	re := w.call("/v1/refunds", "charge="+w.seeded.Customers[0].Charges[0]+"&amount=700").want(t, 200).str("id")
	event := func(status string) string {
		b, err := json.Marshal(map[string]any{"id": "evt_1", "object": "event", "type": "refund.failed",
			"data": map[string]any{"object": map[string]any{"id": re, "object": "refund", "status": status, "amount": 1}}})
		must(t, err)
		return string(b)
	}
	say := func(message, signature string) error {
		return w.r.Announced(t.Context(), w.up, []byte(message), signature)
	}

	if err := say(event("failed"), "t=1,v1=00"); !errors.Is(err, reconcile.ErrNotOurs) {
		t.Errorf("a forged message: %v", err)
	}
	must(t, say(event("failed"), sign(event("failed"), w.now())))
	if got := w.counted(today); got != 700 {
		t.Fatalf("a message alone changed what is counted to %d: the refund did not fail", got)
	}
	must(t, w.sandbox.SetRefundStatus(re, "failed"))
	must(t, say(event("failed"), sign(event("failed"), w.now())))
	if got := w.counted(today); got != 0 {
		t.Fatalf("%d counted after it failed", got)
	}
	records := len(w.records())
	must(t, say(event("failed"), sign(event("failed"), w.now())))
	must(t, say(event("succeeded"), sign(event("succeeded"), w.now())))
	if n := len(w.records()); n != records {
		t.Errorf("%d records, then %d: a message that comes again changes nothing", records, n)
	}
	if err := say(event("failed"), sign(event("failed"), w.now().AddDate(-1, 0, 0))); !errors.Is(err, reconcile.ErrNotOurs) {
		t.Errorf("a message of last year: %v", err)
	}
	if err := say("[]", sign("[]", w.now())); err == nil {
		t.Error("a message that is no event was taken")
	}
}
