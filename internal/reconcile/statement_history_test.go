package reconcile_test

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

var historySeeds = flag.Uint64("history-seeds", 6, "how many histories are drawn")

// history is a bank whose agents do whatever a die says.
type history struct {
	*bank
	die     *rand.Rand
	keys    []string
	shop    string // a connected account
	charges []string
	intents []string
	payouts []string
	sent    []string // transfers
	refunds []string
}

func pick(die *rand.Rand, from []string) string {
	if len(from) == 0 {
		return "none_" + fmt.Sprint(die.IntN(1000))
	}
	return from[die.IntN(len(from))]
}

// step makes one call, allowed or not, answered or not.
func (h *history) step() {
	amount := fmt.Sprint(100 + h.die.IntN(3000))
	currency := []string{"usd", "usd", "eur"}[h.die.IntN(3)]
	customer := h.seeded.Customers[h.die.IntN(2)]
	card := "&customer=" + customer.ID + "&payment_method=" + customer.Card
	var path, form string
	var into *[]string
	switch h.die.IntN(16) {
	case 0, 1:
		path, form, into = "/v1/refunds", "charge="+pick(h.die, h.charges)+"&amount="+amount, &h.refunds
	case 2:
		path, form, into = "/v1/refunds", "payment_intent="+pick(h.die, h.intents), &h.refunds
	case 3:
		path, form = "/v1/charges/"+pick(h.die, h.charges)+"/refund", "amount="+amount
	case 4, 5:
		path, form, into = "/v1/payment_intents", "confirm=true&amount="+amount+"&currency="+currency+card, &h.intents
	case 6:
		path, form, into = "/v1/payment_intents", "confirm=true&capture_method=manual&amount="+amount+"&currency="+currency+card, &h.intents
	case 7:
		path, form, into = "/v1/payment_intents", "amount="+amount+"&currency="+currency+card, &h.intents
	case 8:
		path = "/v1/payment_intents/" + pick(h.die, h.intents) + "/confirm"
	case 9:
		path = "/v1/payment_intents/" + pick(h.die, h.intents) + "/capture"
		if h.die.IntN(2) == 0 {
			form = "amount_to_capture=" + fmt.Sprint(50+h.die.IntN(200))
		}
	case 10:
		path = "/v1/payment_intents/" + pick(h.die, h.intents) + "/cancel"
	case 11:
		path, form, into = "/v1/charges", "amount="+amount+"&currency="+currency+"&customer="+customer.ID, &h.charges
		if h.die.IntN(3) == 0 {
			form += "&transfer_data[destination]=" + h.shop
		}
	case 12:
		path, form, into = "/v1/payouts", "amount="+amount+"&currency=usd", &h.payouts
	case 13:
		path, form, into = "/v1/transfers", "amount="+amount+"&currency=usd&destination="+h.shop, &h.sent
	case 14:
		path, form = "/v1/transfers/"+pick(h.die, h.sent)+"/reversals", "amount="+fmt.Sprint(1+h.die.IntN(300))
	case 15:
		path, form = "/v1/subscriptions", "customer="+customer.ID+"&items[0][price]="+h.seeded.Price
	}
	if id := h.call(path, form); id != "" && into != nil {
		*into = append(*into, id)
	}
}

// call sends one and returns the id of what it made; empty if it was refused or not answered.
func (h *history) call(path, form string) string {
	if h.die.IntN(12) == 0 {
		must(h.t, h.sandbox.Inject(sandbox.Fault{
			Kind: []sandbox.FaultKind{sandbox.FaultCut, sandbox.FaultError, sandbox.FaultGarbage}[h.die.IntN(3)], Method: "POST", After: h.die.IntN(2) == 0,
		}))
	}
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.agents+path, strings.NewReader(form))
	must(h.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+pick(h.die, h.keys))
	if h.die.IntN(2) == 0 {
		req.Header.Set("Idempotency-Key", fmt.Sprint(h.die.Uint64()))
	}
	resp, err := h.client.Do(req)
	must(h.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(h.t, err)
	h.wait(time.Duration(h.die.IntN(1200)) * time.Second)
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	_, rest, _ := strings.Cut(string(body), `"id":`)
	_, rest, _ = strings.Cut(rest, `"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// TestWhatAgentsDidThroughTheGatewayIsNeverADifference: whatever the agents do and however it is answered, as long as nothing
// passes by the gateway both sides say the same, or say that they wait.
func TestWhatAgentsDidThroughTheGatewayIsNeverADifference(t *testing.T) {
	for seed := range *historySeeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			b := newBank(t, sandbox.Options{Settle: map[string]float64{"eur": 1.21}})
			h := &history{bank: b, die: rand.New(rand.NewPCG(seed, 1))}
			h.shop, _ = b.post(b.direct, bankSecret, "/v1/accounts", "type=custom&country=US&email=shop@example.com&capabilities[card_payments][requested]=true"+
				"&capabilities[transfers][requested]=true&external_account=btok_us_verified", http.StatusOK)["id"].(string)
			for i, zone := range []string{"UTC", "America/New_York", "Asia/Tokyo"} {
				secret, _ := b.key("agent-history-does-"+fmt.Sprint(i), zone, b.up)
				h.keys = append(h.keys, secret)
			}
			for _, c := range b.seeded.Customers[:2] {
				h.charges = append(h.charges, c.Charges...)
			}
			for range 200 {
				h.step()
			}
			b.sandbox.ClearFaults()
			first := h.judged(nobody)
			b.settle()
			// Where another call did what an open one wanted to do as well, too much is counted rather than too little.
			second := h.judged(func(l *reconcile.Line) bool {
				return l.Class == reconcile.Different && l.Ledger.Minor > 0 && (l.Shared || l.Ledger.Minor > l.Vendor.Minor)
			})
			if second[reconcile.Open] >= first[reconcile.Open] {
				t.Errorf("nothing was learned: %v, then %v", first, second)
			}
		})
	}
}

// settle lets the reconciler learn what it can.
func (b *bank) settle() {
	b.t.Helper()
	client := upstream.NewClient(nil)
	defer client.Close()
	r := reconcile.New(reconcile.Config{
		Vendor: b.adapter, Ring: b.ring, Store: b.store, Client: client, Log: slog.New(slog.DiscardHandler), PerSecond: 1e6,
	})
	for range 8 {
		must(b.t, r.Follow(b.t.Context()))
		must(b.t, r.Open(b.t.Context()))
		b.wait(15 * time.Minute)
	}
}

func nobody(*reconcile.Line) bool { return false }

// judged makes a statement of everything, which must have no difference but those that are excused, and counts its lines.
func (h *history) judged(excused func(*reconcile.Line) bool) map[reconcile.Class]int {
	b, t := h.bank, h.t
	t.Helper()
	r := b.statement(reconcile.Ask{From: b.day(-1), To: b.now().AddDate(0, 0, 1).Format(time.DateOnly)})
	classes, lines := map[reconcile.Class]int{}, map[string]bool{}
	for _, l := range r.Lines {
		classes[l.Class]++
		for _, m := range l.Movements {
			lines[m.ID] = true
		}
		if (l.Class.Difference() || l.Class == reconcile.Unmetered) && !excused(&l) {
			t.Errorf("%s %s %s: ledger %s, Stripe %s: %s", l.Class, l.Kind, l.Day, l.Ledger, l.Vendor, l.Why)
			for _, e := range l.Entries {
				t.Logf("  %d %s %s %s %v pending %v %+v", e.Reservation, e.Operation, e.State, e.Amount, e.Objects, e.Pending, e.Trace)
			}
			for _, m := range l.Movements {
				t.Logf("  %s %s %s %v", m.Type, m.Object, m.Amount, m.Same)
			}
		}
	}
	t.Logf("%d lines: %v", len(r.Lines), classes)
	if classes[reconcile.Matched] < 20 {
		t.Errorf("too little happened: %v", classes)
	}
	effects := b.effects()
	happened := 0
	for _, kind := range []sandbox.EffectKind{sandbox.EffectPayment, sandbox.EffectCapture, sandbox.EffectRefund, sandbox.EffectPayout,
		sandbox.EffectTransfer, sandbox.EffectTransferBack} {
		happened += effects[string(kind)]
	}
	if len(lines) != happened {
		t.Errorf("%d movements are told, %d happened: %v", len(lines), happened, effects)
	}
	return classes
}
