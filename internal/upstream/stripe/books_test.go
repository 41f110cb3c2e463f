package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// readBooks makes movements of balance transactions, oldest first, and of events.
func readBooks(t *testing.T, lines []string, events ...string) []upstream.Movement {
	t.Helper()
	parsed := make([]bookLine, len(lines))
	for i := range lines {
		if err := json.Unmarshal([]byte(lines[i]), &parsed[i]); err != nil {
			t.Fatalf("%s: %v", lines[i], err)
		}
	}
	told := newTold()
	for _, text := range events {
		var e toldEvent
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		told.add(&e)
	}
	return movements(parsed, told)
}

// inWords writes a movement: kind, amount, what else was to be learned.
func inWords(m upstream.Movement) string {
	out := fmt.Sprintf("%s %s", m.Kind, m.Amount)
	if m.Booked.Currency != m.Amount.Currency {
		out += " booked " + m.Booked.String()
	}
	if m.Before != 0 {
		out += fmt.Sprintf(" after %d", m.Before)
	}
	if m.After != 0 {
		out += fmt.Sprintf(" before %d", m.After)
	}
	if len(m.Same) > 0 {
		out += fmt.Sprintf(" same %v", m.Same)
	}
	if len(m.Causes) > 0 {
		out += fmt.Sprintf(" from %v", m.Causes)
	}
	return out + " " + m.Origin.String()
}

func TestALineOfTheBooksIsReadAsWhatMoved(t *testing.T) {
	const at = `"created":1000,"fee":0,"id":"txn_1",`
	for _, tc := range []struct {
		name   string
		lines  []string
		events []string
		want   []string
	}{
		{"a charge of an intent", []string{`{` + at + `"type":"charge","amount":500,"currency":"usd","source":{"id":"ch_1","object":"charge","amount":500,"amount_captured":500,"currency":"usd","payment_intent":"pi_1"}}`}, nil,
			[]string{"payment 5.00 USD same [pi_1] unknown"}},
		{"a capture smaller than the hold, in another currency", []string{`{` + at + `"type":"charge","amount":741,"currency":"usd","source":{"id":"ch_1","object":"charge","amount":1000,"amount_captured":600,"currency":"eur","payment_intent":{"id":"pi_1"}}}`}, nil,
			[]string{"payment 6.00 EUR booked 7.41 USD same [pi_1] unknown"}},
		{"two captures of one charge in another currency tell its amount once", []string{
			`{` + at + `"type":"charge","amount":370,"currency":"usd","source":{"id":"ch_1","object":"charge","amount":1000,"amount_captured":600,"currency":"eur"}}`,
			`{` + at + `"type":"charge","amount":371,"currency":"usd","source":{"id":"ch_1","object":"charge","amount":1000,"amount_captured":600,"currency":"eur"}}`}, nil,
			[]string{"payment 6.00 EUR booked 3.70 USD unknown", "payment 0.00 EUR booked 3.71 USD unknown"}},
		{"a refund and its failure", []string{
			`{` + at + `"type":"refund","amount":-500,"currency":"usd","source":{"id":"re_1","object":"refund","amount":500,"currency":"usd","charge":"ch_1","payment_intent":"pi_1"}}`,
			`{` + at + `"type":"refund_failure","amount":500,"currency":"usd","source":{"id":"re_1","object":"refund","amount":500,"currency":"usd"}}`}, nil,
			[]string{"refund 5.00 USD unknown", "refund -5.00 USD automatic"}},
		{"a failure whose refund is not among the lines", []string{`{` + at + `"type":"refund_failure","amount":650,"currency":"usd","source":{"id":"re_1","object":"refund","amount":500,"currency":"eur"}}`}, nil,
			[]string{"refund -5.00 EUR booked 6.50 USD after 500 automatic"}},
		{"a refund whose failure is not among the lines", []string{`{` + at + `"type":"refund","amount":-650,"currency":"usd","source":{"id":"re_1","object":"refund","amount":500,"currency":"eur","failure_balance_transaction":"txn_9"}}`}, nil,
			[]string{"refund 5.00 EUR booked -6.50 USD before -500 unknown"}},
		{"a refund whose failure is", []string{
			`{` + at + `"type":"refund","amount":-500,"currency":"usd","source":{"id":"re_1","object":"refund","amount":500,"currency":"usd","failure_balance_transaction":"txn_2"}}`,
			`{"id":"txn_2","type":"refund_failure","amount":500,"currency":"usd","source":{"id":"re_1","object":"refund","amount":500,"currency":"usd","failure_balance_transaction":"txn_2"}}`}, nil,
			[]string{"refund 5.00 USD unknown", "refund -5.00 USD automatic"}},
		{"a payout on schedule", []string{`{` + at + `"type":"payout","amount":-900,"currency":"usd","source":{"id":"po_1","object":"payout","amount":900,"currency":"usd","automatic":true}}`}, nil,
			[]string{"payout 9.00 USD automatic"}},
		{"a payout that was canceled", []string{
			`{` + at + `"type":"payout","amount":-900,"currency":"usd","source":{"id":"po_1","object":"payout","amount":900,"currency":"usd"}}`,
			`{` + at + `"type":"payout_cancel","amount":900,"currency":"usd","source":{"id":"po_1","object":"payout","amount":900,"currency":"usd"}}`}, nil,
			[]string{"payout 9.00 USD unknown", "payout -9.00 USD unknown"}},
		{"a payout that is pulled back", []string{`{` + at + `"type":"payout","amount":900,"currency":"usd","source":{"id":"po_2","object":"payout","amount":-900,"currency":"usd","original_payout":"po_1"}}`}, nil,
			[]string{"payout_reversal 9.00 USD unknown"}},
		{"a transfer of a charge of an intent", []string{
			`{` + at + `"type":"charge","amount":500,"currency":"usd","source":{"id":"ch_1","object":"charge","currency":"usd","payment_intent":"pi_1"}}`,
			`{` + at + `"type":"transfer","amount":-400,"currency":"usd","source":{"id":"tr_1","object":"transfer","amount":400,"currency":"usd","source_transaction":"ch_1"}}`}, nil,
			[]string{"payment 5.00 USD same [pi_1] unknown", "transfer 4.00 USD same [ch_1 pi_1] unknown"}},
		{"a transfer pulled back by a refund", []string{`{` + at + `"type":"transfer_refund","amount":400,"currency":"usd","source":{"id":"trr_1","object":"transfer_reversal","amount":400,"currency":"usd","transfer":"tr_1","source_refund":"re_1"}}`},
			[]string{`{"id":"evt_1","type":"transfer.reversed","created":1001,"request":{"id":"req_1","idempotency_key":"k"},"data":{"object":{"id":"tr_1"}}}`},
			[]string{"transfer_reversal 4.00 USD same [re_1] call"}},
		{"another reversal of the transfer, an hour before, tells nothing", []string{`{` + at + `"type":"transfer_refund","amount":400,"currency":"usd","source":{"id":"trr_1","object":"transfer_reversal","amount":400,"currency":"usd","transfer":"tr_1"}}`},
			[]string{`{"id":"evt_1","type":"transfer.reversed","created":4600,"request":{"id":"req_1"},"data":{"object":{"id":"tr_1"}}}`},
			[]string{"transfer_reversal 4.00 USD unknown"}},
		{"a fee of Stripe's", []string{`{` + at + `"type":"stripe_fee","amount":-30,"currency":"usd","source":null}`}, nil, []string{"other -0.30 USD automatic"}},
		{"a dispute", []string{`{` + at + `"type":"adjustment","amount":-900,"currency":"usd","source":{"id":"du_1","object":"dispute","amount":900,"currency":"usd"}}`}, nil, []string{"other -9.00 USD automatic"}},
		{"a type that is not known", []string{`{` + at + `"type":"surprise","amount":-900,"currency":"usd","source":"x_1"}`}, nil, []string{"other -9.00 USD unknown"}},
		{"money of the issuing balance", []string{`{` + at + `"type":"refund","balance_type":"issuing","amount":-900,"currency":"usd","source":{"id":"re_1","object":"refund","currency":"usd"}}`}, nil, []string{"other -9.00 USD unknown"}},
		{"a source that is not expanded", []string{`{` + at + `"type":"refund","amount":-900,"currency":"usd","source":"re_1"}`}, nil, []string{"refund 9.00 USD unknown"}},
		{"who made it", []string{`{` + at + `"type":"refund","amount":-900,"currency":"usd","source":{"id":"re_1","object":"refund","currency":"usd"}}`},
			[]string{`{"id":"evt_1","type":"refund.created","created":1000,"request":{"id":"req_1","idempotency_key":"k"},"data":{"object":{"id":"re_1"}}}`}, []string{"refund 9.00 USD call"}},
		{"that nobody made it", []string{`{` + at + `"type":"charge","amount":900,"currency":"usd","source":{"id":"ch_1","object":"charge","currency":"usd"}}`},
			[]string{`{"id":"evt_1","type":"charge.succeeded","created":1000,"request":{"id":null,"idempotency_key":null},"data":{"object":{"id":"ch_1"}}}`}, []string{"payment 9.00 USD automatic"}},
		{"the renewal of a subscription", []string{`{` + at + `"type":"charge","amount":900,"currency":"usd","source":{"id":"ch_1","object":"charge","currency":"usd","payment_intent":"pi_1"}}`},
			[]string{`{"id":"evt_1","type":"invoice_payment.paid","data":{"object":{"id":"inpay_1","invoice":"in_1","payment":{"payment_intent":"pi_1","type":"payment_intent"}}}}`,
				`{"id":"evt_2","type":"invoice.paid","data":{"object":{"id":"in_1","parent":{"subscription_details":{"subscription":"sub_1"}}}}}`},
			[]string{"payment 9.00 USD same [pi_1 in_1] from [sub_1] unknown"}},
		{"a bill of a subscription that a call brought about", []string{`{` + at + `"type":"charge","amount":900,"currency":"usd","source":{"id":"ch_1","object":"charge","currency":"usd","payment_intent":"pi_1"}}`},
			[]string{`{"id":"evt_1","type":"invoice_payment.paid","data":{"object":{"id":"inpay_1","invoice":"in_1","payment":{"payment_intent":"pi_1","type":"payment_intent"}}}}`,
				`{"id":"evt_2","type":"invoice.paid","data":{"object":{"id":"in_1","parent":{"subscription_details":{"subscription":"sub_1"}}}}}`,
				`{"id":"evt_3","type":"charge.succeeded","created":1000,"request":{"id":"req_1","idempotency_key":"k"},"data":{"object":{"id":"ch_1"}}}`},
			[]string{"payment 9.00 USD same [pi_1 in_1] call"}},
		{"a payment through a link", []string{`{` + at + `"type":"charge","amount":900,"currency":"usd","source":{"id":"ch_1","object":"charge","currency":"usd","payment_intent":"pi_1"}}`},
			[]string{`{"id":"evt_1","type":"checkout.session.completed","data":{"object":{"id":"cs_1","payment_intent":"pi_1","payment_link":"plink_1","subscription":null}}}`},
			[]string{"payment 9.00 USD same [pi_1 cs_1] from [plink_1] unknown"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, m := range readBooks(t, tc.lines, tc.events...) {
				got = append(got, inWords(m))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryTypeOfTheBooksIsJudged holds the tables against Stripe's document, as the sandbox's shapes have it.
func TestEveryTypeOfTheBooksIsJudged(t *testing.T) {
	text, err := os.ReadFile("sandbox/testdata/shapes.txt")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^@balance_transaction .* type!:\(([a-z_|]+)\)`).FindSubmatch(text)
	if found == nil {
		t.Fatal("the shapes have no types of balance transactions")
	}
	types := strings.Split(string(found[1]), "|")
	for _, typ := range types {
		_, moves := lineKinds[typ]
		if !moves && !byThemselves[typ] && !otherHands[typ] || moves && otherHands[typ] || byThemselves[typ] && otherHands[typ] {
			t.Errorf("%s: say in one table what such a line is", typ)
		}
	}
	for _, table := range []map[string]bool{byThemselves, otherHands} {
		for typ := range table {
			if !slices.Contains(types, typ) {
				t.Errorf("Stripe has no type %s", typ)
			}
		}
	}
	for typ := range lineKinds {
		if !slices.Contains(types, typ) {
			t.Errorf("Stripe has no type %s", typ)
		}
	}
	events := regexp.MustCompile(`[a-z_]+(\.[a-z_]+)+`)
	params, err := os.ReadFile("sandbox/params.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := events.FindAllString(string(params), -1)
	for _, typ := range eventTypes {
		if !slices.Contains(all, typ) {
			t.Errorf("Stripe has no event %s", typ)
		}
	}
	if len(eventTypes) > 20 {
		t.Errorf("%d types of events, Stripe takes 20", len(eventTypes))
	}
}

func TestEveryBucketOfMoneyIsLookedForSomewhere(t *testing.T) {
	for _, row := range newAdapter(t).catalog.Rows() {
		for _, rule := range row.Money.Effects {
			moves := rule.Klass == KlassMoveIn || rule.Klass == KlassMoveOut
			bounded := len(rule.Amount) > 0 && rule.Amount[0].Kind != IsUnmeterable
			if got := trace(rule.Bucket, rule); moves && bounded && got.Kind == "" && !slices.ContainsFunc(otherBooks, func(o struct {
				prefix policy.Resource
				why    string
			}) bool {
				return strings.HasPrefix(string(rule.Bucket), string(o.prefix))
			}) {
				t.Errorf("%s moves %s: say where in Stripe's books that shows", row.Name, rule.Bucket)
			}
		}
	}
}

func TestEffectsAreTracedByTheRuleThatCountedThem(t *testing.T) {
	a := newAdapter(t)
	for _, tc := range []struct {
		name       string
		operation  policy.OperationName
		path, form string
		buckets    []policy.Resource
		want       []string
	}{
		{"a refund", "refunds.create", "/v1/refunds", "charge=ch_1&amount=5", []policy.Resource{"refunds"}, []string{"refund now"}},
		{"a refund that pulls a transfer back", "refunds.create", "/v1/refunds", "charge=ch_1&amount=5&reverse_transfer=true",
			[]policy.Resource{"refunds", "transfers.reversals"}, []string{"refund now", "transfer_reversal now at most"}},
		{"an intent", "payment_intents.create", "/v1/payment_intents", "amount=5&currency=usd", []policy.Resource{"payment_intents"}, []string{"payment now"}},
		{"a subscription: its first bill and a renewal", "subscriptions.create", "/v1/subscriptions", "customer=cus_1&items[0][price]=price_1",
			[]policy.Resource{"subscriptions", "subscriptions"}, []string{"payment now", "payment later at most"}},
		{"an invoice paid out of band", "invoices.pay", "/v1/invoices/in_1/pay", "paid_out_of_band=true", []policy.Resource{"invoices"}, []string{" never"}},
		{"an invoice paid", "invoices.pay", "/v1/invoices/in_1/pay", "", []policy.Resource{"invoices"}, []string{"payment now"}},
		{"an invoice made out", "invoices.finalize_invoice", "/v1/invoices/in_1/finalize", "", []policy.Resource{"invoices"}, []string{"payment later"}},
		{"a payout", "payouts.create", "/v1/payouts", "amount=5&currency=usd", []policy.Resource{"payouts"}, []string{"payout now"}},
		{"a payout pulled back", "payouts.reverse", "/v1/payouts/po_1/reverse", "", []policy.Resource{"payouts"}, []string{"payout_reversal now"}},
		{"a credit to a customer", "customers.balance_transactions.create", "/v1/customers/cus_1/balance_transactions", "amount=-5&currency=usd",
			[]policy.Resource{"customers.balance_transactions"}, []string{" never"}},
		{"a dispute given up", "disputes.close", "/v1/disputes/dp_1/close", "", []policy.Resource{"disputes"}, []string{" never"}},
		{"a financial account's money", "treasury.outbound_transfers.create", "/v1/treasury/outbound_transfers", "amount=5&currency=usd&financial_account=fa_1",
			[]policy.Resource{"treasury.outbound_transfers"}, []string{" never"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			effects := make([]policy.Effect, len(tc.buckets))
			for i, bucket := range tc.buckets {
				effects[i].Bucket = bucket
			}
			sent := &upstream.Request{Method: "POST", Path: tc.path, Body: []byte(tc.form), Header: map[string][]string{"Content-Type": formType}}
			if tc.form == "" {
				sent.Body = nil
			}
			if a.catalog.Operation(tc.operation) == nil {
				t.Fatalf("there is no operation %s", tc.operation)
			}
			var got []string
			for _, tr := range a.Trace(tc.operation, sent, effects) {
				words := string(tr.Kind) + " " + [...]string{"now", "later", "never"}[tr.Shows]
				if tr.AtMost {
					words += " at most"
				}
				if tr.Shows != upstream.ShowsNow && tr.Why == "" {
					t.Error("it does not say why")
				}
				got = append(got, words)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLongListsAreReadToTheirEndAndNoFurther(t *testing.T) {
	a := newAdapter(t)
	span := upstream.Span{From: time.Unix(1000, 0), To: time.Unix(2000, 0)}
	// vendor has so many lines, and events for none of them.
	vendor := func(lines int, asked *int) upstream.Lookup {
		return func(_ context.Context, l upstream.Look) (int, []byte, error) {
			*asked++
			q, err := url.ParseQuery(l.Query)
			if err != nil || q.Get("created[gte]") != "1000" || q.Get("created[lt]") != "2000" {
				t.Fatalf("asked %s: %v", l.Query, err)
			}
			if l.Path == "/v1/events" {
				return 200, []byte(`{"data":[],"has_more":false}`), nil
			}
			first := 0
			if after := q.Get("starting_after"); after != "" {
				if _, err := fmt.Sscanf(after, "txn_%d", &first); err != nil {
					t.Fatal(err)
				}
				first++
			}
			var page []string
			for n := first; n < min(first+pageSize, lines); n++ {
				page = append(page, fmt.Sprintf(`{"id":"txn_%d","type":"refund","amount":-1,"currency":"usd","created":%d,"source":"re_%d"}`, n, 1999-n%999, n))
			}
			return 200, fmt.Appendf(nil, `{"data":[%s],"has_more":%v}`, strings.Join(page, ","), first+pageSize < lines), nil
		}
	}
	for _, lines := range []int{0, 1, 99, 100, 101, 250} {
		t.Run(fmt.Sprintf("%d lines", lines), func(t *testing.T) {
			asked, pages := 0, 0
			got, err := a.Movements(t.Context(), span, time.Unix(3000, 0), vendor(lines, &asked), func(n int) error { pages = n; return nil })
			if err != nil || len(got.Movements) != lines || pages != asked {
				t.Fatalf("%d lines in %d pages of %d asked for, %v", len(got.Movements), pages, asked, err)
			}
			for i, m := range got.Movements {
				if want := fmt.Sprintf("txn_%d", lines-1-i); m.ID != want {
					t.Fatalf("line %d is %s, want %s: oldest first, none twice", i, m.ID, want)
				}
			}
		})
	}
	for _, body := range []string{`{}`, `[]`, `{"data":null}`, `{"data":[{}]}`, `{"data":[7],"has_more":false}`, `<html>`} {
		t.Run("no list: "+body, func(t *testing.T) {
			_, err := a.Movements(t.Context(), span, time.Unix(3000, 0), func(context.Context, upstream.Look) (int, []byte, error) {
				return 200, []byte(body), nil
			}, func(int) error { return nil })
			if err == nil {
				t.Error("it was taken for a list")
			}
		})
	}
	t.Run("too many", func(t *testing.T) {
		asked := 0
		_, err := a.Movements(t.Context(), span, time.Unix(3000, 0), vendor(pageSize*maxPages+1, &asked), func(int) error { return nil })
		if !errors.Is(err, upstream.ErrTooLong) || asked != maxPages {
			t.Errorf("%v after %d pages", err, asked)
		}
	})
}

func TestWhatAnObjectSaysOfItsMoney(t *testing.T) {
	a := newAdapter(t)
	for _, tc := range []struct {
		name string
		kind upstream.MovementKind
		id   policy.ObjectID
		body string
		want string
	}{
		{"a captured intent", upstream.Payment, "pi_1", `{"object":"payment_intent","status":"succeeded","currency":"usd","amount_received":600,"latest_charge":{"balance_transaction":{"id":"txn_1","created":1000}}}`, "now 6.00 USD"},
		{"a canceled one", upstream.Payment, "pi_1", `{"object":"payment_intent","status":"canceled","currency":"usd","amount_received":0}`, "now 0.00 USD"},
		{"an authorised one", upstream.Payment, "pi_1", `{"object":"payment_intent","status":"requires_capture","currency":"usd","latest_charge":"ch_1"}`, "later"},
		{"one without a card", upstream.Payment, "pi_1", `{"object":"payment_intent","status":"requires_payment_method","currency":"usd","latest_charge":null}`, "later"},
		{"an authorised charge", upstream.Payment, "ch_1", `{"object":"charge","status":"succeeded","captured":false,"currency":"usd","balance_transaction":null}`, "later"},
		{"a captured charge", upstream.Payment, "ch_1", `{"object":"charge","status":"succeeded","captured":true,"amount_captured":7,"currency":"usd","balance_transaction":{"id":"txn_1","created":1}}`, "now 0.07 USD"},
		{"a failed charge", upstream.Payment, "ch_1", `{"object":"charge","status":"failed","captured":false,"currency":"usd"}`, "now 0.00 USD"},
		{"an open invoice", upstream.Payment, "in_1", `{"object":"invoice","status":"open","currency":"usd"}`, "later"},
		{"a paid one", upstream.Payment, "in_1", `{"object":"invoice","status":"paid","currency":"usd","amount_paid":9,"amount_due":9}`, "now 0.09 USD"},
		{"one paid from somewhere else", upstream.Payment, "in_1", `{"object":"invoice","status":"paid","currency":"usd","amount_paid":0,"amount_due":9}`, "never"},
		{"an open session", upstream.Payment, "cs_1", `{"object":"checkout.session","status":"open","currency":"usd"}`, "later"},
		{"a refund", upstream.Refund, "re_1", `{"object":"refund","status":"succeeded","amount":5,"currency":"usd","balance_transaction":{"id":"txn_1","created":1}}`, "now 0.05 USD"},
		{"a failed one", upstream.Refund, "re_1", `{"object":"refund","status":"failed","amount":5,"currency":"usd","balance_transaction":{"id":"txn_1","created":1},"failure_balance_transaction":"txn_2"}`, "now 0.00 USD"},
		{"one that gave up an authorization", upstream.Refund, "re_1", `{"object":"refund","status":"succeeded","amount":5,"currency":"usd","balance_transaction":null}`, "never"},
		{"a payout pulled back", upstream.PayoutReversal, "po_1", `{"object":"payout","status":"paid","amount":-5,"currency":"usd","balance_transaction":{"id":"txn_1","created":1}}`, "now 0.05 USD"},
		{"a top-up that has not come", upstream.Topup, "tu_1", `{"object":"topup","status":"pending","amount":5,"currency":"usd","balance_transaction":null}`, "later"},
		{"an intent does not tell of a transfer", upstream.Transfer, "pi_1", ``, "not asked"},
		{"nor can just anything be asked for", upstream.Payment, "xyz_1", ``, "not asked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, ok, err := a.Find(t.Context(), tc.kind, tc.id, func(_ context.Context, l upstream.Look) (int, []byte, error) {
				if tc.body == "" {
					t.Errorf("asked for %s", l.Path)
				}
				return 200, []byte(tc.body), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			got := "not asked"
			if ok {
				got = [...]string{"now", "later", "never"}[found.Shows]
			}
			if found.Known {
				got += " " + found.Moved.String()
			}
			if got != tc.want {
				t.Errorf("%s, want %s (%s)", got, tc.want, found.Why)
			}
		})
	}
}
