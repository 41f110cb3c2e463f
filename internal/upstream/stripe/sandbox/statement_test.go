package sandbox_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestTheBooksTellWhatMovedWhenAndEventsTellWho(t *testing.T) {
	r := newRig(t)
	r.clock.advance(24 * time.Hour)
	start := r.clock.now().Unix()
	re := r.ok("POST", "/v1/refunds", "charge="+r.seed.Customers[0].Charges[0]+"&amount=500", "Idempotency-Key", "mine")
	r.clock.advance(time.Hour)
	if err := r.s.SetRefundStatus(re.str("id"), "failed"); err != nil {
		t.Fatal(err)
	}
	if err := r.s.PayOutOnSchedule(1000, "usd"); err != nil {
		t.Fatal(err)
	}
	if err := r.s.PayOutOnSchedule(1e9, "usd"); err == nil {
		t.Error("more was paid out than there is")
	}
	window := fmt.Sprintf("created[gte]=%d&created[lt]=%d", start, start+7200)
	lines := r.ok("GET", "/v1/balance_transactions?expand[]=data.source&limit=100&"+window, "")
	for at, want := range map[string]any{
		"data.0.type": "payout", "data.0.source.automatic": true,
		"data.1.type": "refund_failure", "data.1.amount": 500.0, "data.1.source.id": re.str("id"), "data.1.source.status": "failed",
		"data.2.type": "refund", "data.2.amount": -500.0, "data.2.source.id": re.str("id"), "data.2.source.currency": "usd",
		"has_more": false,
	} {
		r.want(lines.at(at), want, at)
	}
	r.want(len(lines.ids()), 3, "lines in the window")
	r.want(len(r.ok("GET", "/v1/balance_transactions?"+fmt.Sprintf("created[gte]=%d", start+3600), "").ids()), 2, "lines of the second hour")
	events := r.ok("GET", "/v1/events?types[0]=refund.created&types[1]=payout.created&"+window, "")
	r.want(events.at("data.0.request.id"), nil, "nobody asked for the payout")
	r.want(events.at("data.0.request.idempotency_key"), nil, "nor under a key")
	r.want(events.str("data.1.request.idempotency_key"), "mine", "the refund's key")
	r.want(events.str("data.1.request.id"), re.header.Get("Request-Id"), "the refund's request")
}

func TestAnAccountMaySettleInAnotherCurrency(t *testing.T) {
	s := sandbox.New(sandbox.Options{Seed: 1, Settle: map[string]float64{"eur": 1.25, "jpy": 0.7}})
	ts := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); ts.Close() })
	r := &rig{t: t, s: s, url: ts.URL, client: ts.Client(), clock: &clock{}, seed: s.Seed()}
	for _, tc := range []struct {
		currency           string
		amount, cents, fee int64
		rate               any
	}{
		{"eur", 1000, 1250, 74, 1.25}, {"jpy", 999, 699, 41, 0.7}, {"usd", 1000, 1000, 59, nil},
	} {
		t.Run(tc.currency, func(t *testing.T) {
			pi := r.ok("POST", "/v1/payment_intents", "confirm=true&payment_method=pm_card_visa&expand[]=latest_charge.balance_transaction&amount="+
				itoa(tc.amount)+"&currency="+tc.currency)
			r.want(pi.str("latest_charge.currency"), tc.currency, "what the customer sees")
			line := "latest_charge.balance_transaction."
			r.want(pi.num(line+"amount"), tc.cents, "booked")
			r.want(pi.str(line+"currency"), "usd", "booked in")
			r.want(pi.num(line+"fee"), tc.fee, "fee")
			r.want(pi.at(line+"exchange_rate"), tc.rate, "rate")
		})
	}
}
