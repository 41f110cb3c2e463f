package stripe

import (
	"net/http"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// bucketKinds are the buckets whose money is on the balance, with what it is there. Buckets in no row move no money
// of the balance: they change what somebody owes, or money that Stripe keeps in other books.
var bucketKinds = map[policy.Resource]upstream.MovementKind{
	"charges": upstream.Payment, "payment_intents": upstream.Payment, "invoices": upstream.Payment, "subscriptions": upstream.Payment,
	"checkout.sessions": upstream.Payment, "payment_links": upstream.Payment, "quotes": upstream.Payment, "invoiceitems": upstream.Payment,
	"refunds": upstream.Refund, "payouts": upstream.Payout, "transfers": upstream.Transfer, "transfers.reversals": upstream.TransferReversal,
	"application_fees.refunds": upstream.FeeRefund, "topups": upstream.Topup, "climate.orders": upstream.Climate,
}

// otherBooks begin the buckets whose money is in books of their own.
var otherBooks = []struct {
	prefix policy.Resource
	why    string
}{
	{"treasury.", "it is in a financial account, whose transactions Stripe lists elsewhere"},
	{"v2.money_management.", "it is in a financial account, whose transactions Stripe lists elsewhere"},
	{"issuing.", "it is spent with a card, from a balance that is not compared"},
	{"forwarding.", "another payment processor moves it"},
	{"disputes", "it left when the dispute opened; giving up moves nothing more"},
}

// Trace finds the rule that counted each effect, by parsing the call again as it left, and says where such a thing shows.
func (a *Adapter) Trace(name policy.OperationName, sent *upstream.Request, effects []policy.Effect) []upstream.Trace {
	rules := a.rulesOf(name, sent)
	out := make([]upstream.Trace, len(effects))
	for i := range effects {
		var rule *EffectRule
		for j, r := range rules { // effects without a bound were left out, the order was kept
			if r.Bucket == effects[i].Bucket {
				rule, rules = r, rules[j+1:]
				break
			}
		}
		out[i] = trace(effects[i].Bucket, rule)
	}
	return out
}

// rulesOf are the rules that applied to a call; all of its operation's where it cannot be parsed any more.
func (a *Adapter) rulesOf(name policy.OperationName, sent *upstream.Request) []*EffectRule {
	if sent != nil {
		version := ""
		if v := sent.Header["Stripe-Version"]; len(v) > 0 {
			version = v[0]
		}
		raw := upstream.RawCall{Method: sent.Method, Path: sent.Path, Query: sent.Query, Header: http.Header{}, Body: sent.Body}
		for n, v := range sent.Header {
			raw.Header[n] = v
		}
		if call, refusal := a.Parse(&raw, version); refusal == nil && call.Operation.Name == name {
			return requestOf(call).Effects
		}
	}
	if row := a.catalog.Operation(name); row != nil {
		return row.Money.Effects
	}
	return nil
}

func trace(bucket policy.Resource, rule *EffectRule) upstream.Trace {
	kind, onBalance := bucketKinds[bucket]
	for _, other := range otherBooks {
		if strings.HasPrefix(string(bucket), string(other.prefix)) {
			return upstream.Trace{Shows: upstream.ShowsNever, Why: other.why}
		}
	}
	switch {
	case !onBalance || rule != nil && rule.Klass == KlassValue:
		return upstream.Trace{Shows: upstream.ShowsNever, Why: "it changes what somebody owes or is owed, not the balance"}
	case rule == nil:
		return upstream.Trace{Kind: kind}
	}
	t := upstream.Trace{Kind: kind, AtMost: len(rule.Pin) == 0 && len(rule.Settle) > 0 && rule.Settle[0].Kind == FromHold}
	if bucket == "payouts" && rule.Klass == KlassMoveIn {
		t.Kind = upstream.PayoutReversal
	}
	commits := rule.Klass == KlassCommitIn || rule.Klass == KlassCommitOut
	if commits && rule.CountKey != "payment_intent" && rule.CountKey != "charge" {
		t.Shows, t.Why = upstream.ShowsLater, laterWords[bucket]
		if t.Why == "" {
			t.Why = "it was counted when it was agreed, and moves when somebody pays"
		}
	}
	return t
}

// laterWords say when what was counted ahead moves.
var laterWords = map[policy.Resource]string{
	"subscriptions":     "one renewal was counted ahead, and moves with the next invoice",
	"invoices":          "the invoice was counted when it was made out, and moves when it is paid",
	"invoiceitems":      "it moves with the invoice that it comes onto",
	"checkout.sessions": "it moves when the customer completes the checkout",
	"payment_links":     "it moves each time somebody pays through the link",
	"transfers":         "a share of what is paid later is sent on",
}
