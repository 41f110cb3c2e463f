package sandbox

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// direct runs one request without a network.
func direct(s *Server, method, target, form string) (int, string) {
	r := httptest.NewRequest(method, target, strings.NewReader(form))
	r.Header.Set("Authorization", "Bearer sk_test_x")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestBooksAlwaysBalance drives random money calls and then holds effects,
// charges, refunds and balance transactions against each other.
func TestBooksAlwaysBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{Seed: 3})
		seed := s.Seed()
		_, shop := direct(s, "POST", "/v1/accounts", "type=custom&capabilities[transfers][requested]=true")
		_, shop, _ = strings.Cut(shop, `"id":"`)
		shop, _, _ = strings.Cut(shop, `"`)
		opening := s.platform.ledgers["usd"]
		before := s.platform.transactions.next
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			if rapid.Bool().Draw(t, "connected") {
				randomTransfer(t, s, shop)
			} else {
				randomCall(t, s, seed)
			}
		}
		checkCharges(t, s)
		checkShares(t, s)
		var net, want int64
		for _, b := range s.platform.transactions.order[before:] {
			net += b.amount - b.fee
			want -= b.fee
		}
		if s.platform.ledgers["usd"] != opening+net {
			t.Fatalf("balance %d, books say %d", s.platform.ledgers["usd"], opening+net)
		}
		sign := map[EffectKind]int64{EffectPayment: 1, EffectCapture: 1, EffectRefund: -1, EffectRefundFailed: 1, EffectPayout: -1, EffectPayoutBack: 1,
			EffectTransfer: -1, EffectTransferBack: 1, EffectFee: 1, EffectFeeRefund: -1, EffectTopup: 1, EffectTopupBack: -1,
			EffectDispute: -1, EffectDisputeBack: 1}
		for kind, k := range sign {
			want += k * s.Moved(kind, time.Time{})["usd"]
		}
		if net != want {
			t.Fatalf("books moved %d, effects %d", net, want)
		}
	})
}

func randomCall(t *rapid.T, s *Server, seed Seeded) {
	pick := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
	amount := rapid.IntRange(1, 25_000).Draw(t, "amount")
	card := []string{"pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired", "pm_card_pendingRefund"}[pick("card", 4)]
	switch pick("what", 9) {
	case 0:
		ch := s.platform.charges.order[pick("charge", len(s.platform.charges.order))]
		direct(s, "POST", "/v1/refunds", fmt.Sprintf("charge=%s&amount=%d", ch.id, amount))
	case 1:
		ch := s.platform.charges.order[pick("charge", len(s.platform.charges.order))]
		direct(s, "POST", "/v1/charges/"+ch.id+"/refund", "")
	case 2:
		direct(s, "POST", "/v1/payment_intents", fmt.Sprintf("amount=%d&currency=usd&confirm=true&payment_method=%s", amount, card))
	case 3:
		direct(s, "POST", "/v1/payment_intents", fmt.Sprintf("amount=%d&currency=usd&capture_method=manual&confirm=true&payment_method=%s"+
			"&payment_method_options[card][request_incremental_authorization]=if_available"+
			"&payment_method_options[card][request_multicapture]=if_available", amount, card))
	case 4:
		pi := s.platform.intents.order[pick("intent", len(s.platform.intents.order))]
		verb := []string{"capture", "cancel", "confirm", "increment_authorization", "capture"}[pick("verb", 5)]
		form := map[string]string{"capture": fmt.Sprintf("amount_to_capture=%d&final_capture=%t", amount, amount%2 == 0), "cancel": "",
			"confirm": "payment_method=pm_card_visa", "increment_authorization": fmt.Sprintf("amount=%d", amount)}[verb]
		direct(s, "POST", "/v1/payment_intents/"+pi.id+"/"+verb, form)
	case 5:
		if len(s.platform.refunds.order) > 0 {
			re := s.platform.refunds.order[pick("refund", len(s.platform.refunds.order))]
			_ = s.SetRefundStatus(re.id, []string{"failed", "succeeded"}[pick("end", 2)]) // a refused change is one of the cases
		}
	case 6:
		direct(s, "POST", "/v1/payouts", fmt.Sprintf("amount=%d&currency=usd", amount))
	case 7:
		po := s.platform.payouts.order[pick("payout", len(s.platform.payouts.order))]
		_ = s.SetPayoutStatus(po.id, []string{"failed", "paid"}[pick("end", 2)]) // a refused change is one of the cases
		direct(s, "POST", "/v1/payouts/"+po.id+"/reverse", "")
	case 8:
		customer := seed.Customers[pick("customer", 3)].ID
		direct(s, "POST", "/v1/charges", fmt.Sprintf("amount=%d&currency=usd&capture=%t&customer=%s", amount, amount%2 == 0, customer))
	}
}

// randomTransfer shares money with a connected account and takes it back.
func randomTransfer(t *rapid.T, s *Server, shop string) {
	pick := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
	amount := rapid.IntRange(1, 25_000).Draw(t, "amount")
	ch := s.platform.charges.order[pick("charge", len(s.platform.charges.order))]
	switch pick("what", 7) {
	case 0:
		direct(s, "POST", "/v1/transfers", fmt.Sprintf("amount=%d&currency=usd&destination=%s", amount, shop))
	case 1:
		direct(s, "POST", "/v1/transfers", fmt.Sprintf("currency=usd&destination=%s&source_transaction=%s", shop, ch.id))
	case 2:
		if n := len(s.platform.transfers.order); n > 0 {
			tr := s.platform.transfers.order[pick("transfer", n)]
			direct(s, "POST", "/v1/transfers/"+tr.id+"/reversals", fmt.Sprintf("amount=%d&refund_application_fee=%t", amount, amount%2 == 0))
		}
	case 3:
		share := []string{"application_fee_amount", "transfer_data[amount]"}[pick("share", 2)]
		direct(s, "POST", "/v1/payment_intents", fmt.Sprintf("amount=%d&currency=usd&confirm=true&payment_method=pm_card_visa"+
			"&transfer_data[destination]=%s&%s=%d", amount, shop, share, amount/3))
	case 4:
		direct(s, "POST", "/v1/refunds", fmt.Sprintf("charge=%s&amount=%d&reverse_transfer=true&refund_application_fee=%t", ch.id, amount, amount%2 == 0))
	case 5:
		_ = s.Happen("charges", ch.id, "disputed") // a refused change is one of the cases
		if n := len(s.platform.shelf(disputeModel).order); n > 0 {
			_ = s.Happen("disputes", s.platform.shelf(disputeModel).order[n-1].id, []string{"won", "lost"}[pick("end", 2)])
		}
	case 6:
		direct(s, "POST", "/v1/topups", fmt.Sprintf("amount=%d&currency=usd", amount))
		_ = s.Happen("topups", s.platform.topups.order[len(s.platform.topups.order)-1].id, []string{"succeeded", "failed", "reversed"}[pick("end", 3)])
	}
}

// checkShares holds every account's balance against its books, and what came back
// of transfers and fees against what went.
func checkShares(t *rapid.T, s *Server) {
	for _, a := range append([]*account{s.platform}, s.connected...) {
		sum := int64(0)
		for _, b := range a.transactions.order {
			sum += b.amount - b.fee
		}
		if a.ledgers["usd"] != sum {
			t.Fatalf("account %s has %d, its books say %d", a.accountID, a.ledgers["usd"], sum)
		}
	}
	for _, tr := range s.platform.transfers.order {
		if tr.reversed < 0 || tr.reversed > tr.amount {
			t.Fatalf("transfer %s of %d, reversed %d", tr.id, tr.amount, tr.reversed)
		}
	}
	for _, fee := range s.platform.fees.order {
		if fee.refunded < 0 || fee.refunded > fee.amount {
			t.Fatalf("fee %s of %d, refunded %d", fee.id, fee.amount, fee.refunded)
		}
	}
}

func checkCharges(t *rapid.T, s *Server) {
	sent := map[string]int64{}
	for _, r := range s.platform.refunds.order {
		if ch := s.platform.charges.byID[r.charge]; r.status != "failed" && r.status != "canceled" && ch.isCaptured {
			sent[r.charge] += r.amount
		}
	}
	for _, ch := range s.platform.charges.order {
		if ch.refundedMoney != sent[ch.id] || ch.refundedMoney < 0 || ch.refundedMoney > ch.captured || ch.captured+ch.released > ch.amount {
			t.Fatalf("charge %s: amount %d, captured %d, released %d, refunded %d, refunds %d", ch.id, ch.amount, ch.captured, ch.released,
				ch.refundedMoney, sent[ch.id])
		}
		if pi := s.platform.intents.byID[ch.intent]; pi != nil && pi.latestCharge == ch.id && pi.received != ch.captured {
			t.Fatalf("intent %s received %d, its charge captured %d", pi.id, pi.received, ch.captured)
		}
	}
}

func TestMemoryStaysBounded(t *testing.T) {
	s := New(Options{Seed: 1})
	s.platform.intents.limit, s.platform.events.limit, s.platform.idem.limit, s.journal.keep = 10, 10, 10, 10
	for i := range 50 {
		r := httptest.NewRequest("POST", "/v1/payment_intents", strings.NewReader("amount=500&currency=usd&customer="))
		r.Header.Set("Authorization", "Bearer sk_test_x")
		r.Header.Set("Idempotency-Key", fmt.Sprint(i))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatal(w.Body.String())
		}
	}
	if n := len(s.platform.intents.byID); n != 10 {
		t.Errorf("%d intents kept", n)
	}
	if n := len(s.platform.idem.byKey); n > 11 || s.platform.idem.forgot < 39 {
		t.Errorf("%d keys kept, %d dropped", n, s.platform.idem.forgot)
	}
	j := s.Journal()
	if len(j) != 10 || j[0].Seq != 41 || j[9].Seq != 50 || s.Arrivals() != 50 {
		t.Errorf("journal of %d, from %d to %d of %d", len(j), j[0].Seq, j[len(j)-1].Seq, s.Arrivals())
	}
	if h := s.health(); h.Dropped["payment_intents"] != 40 || h.KeysDropped < 39 {
		t.Errorf("dropped %v, keys %d", h.Dropped, h.KeysDropped)
	}
	if u := New(Options{Unbounded: true}); u.platform.intents.limit != 0 || u.platform.idem.limit != 0 {
		t.Error("unbounded has bounds")
	}
}

func TestAccessIsNothingByDefault(t *testing.T) {
	var a Access
	c := &credential{}
	if a != None || c.may("charges", Read) {
		t.Error("the zero credential may read")
	}
	if err := a.UnmarshalText([]byte("admin")); err == nil {
		t.Error("an unknown access was read")
	}
	if _, err := Access(9).MarshalText(); err == nil {
		t.Error("an unknown access was written")
	}
}

func BenchmarkCreateIntent(b *testing.B) {
	s := New(Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := httptest.NewRequest("POST", "/v1/payment_intents", strings.NewReader("amount=500&currency=usd&metadata[order]=1"))
		r.Header.Set("Authorization", "Bearer sk_test_x")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Idempotency-Key", fmt.Sprint(i))
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
}

func BenchmarkCreateIntentOverHTTP(b *testing.B) {
	s := New(Options{})
	ts := httptest.NewServer(s)
	defer ts.Close()
	client := ts.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequest("POST", ts.URL+"/v1/payment_intents", strings.NewReader("amount=500&currency=usd"))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer sk_test_x")
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			res, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("status %d: %v", res.StatusCode, err)
			}
			res.Body.Close()
		}
	})
}
