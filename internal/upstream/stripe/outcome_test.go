package stripe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// must unwraps what parses the tables' language; the tests write rules as the tables do.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cents(minor int64) money.Amount { return money.Amount{Minor: minor, Currency: "usd"} }

// refundRule, intentRule and captureRule are the rules of refunds.create, payment_intents.create and
// payment_intents.capture.
func refundRule() *EffectRule {
	return &EffectRule{
		Klass: KlassMoveOut, Bucket: "refunds", When: Condition{Always: true},
		Amount: must(ParseSources("request:amount")),
		Absent: must(ParseSources("lookup:GET /v1/charges/{charge}#amount-amount_refunded | lookup:GET /v1/payment_intents/{payment_intent}" +
			"?expand[]=latest_charge#latest_charge.amount-latest_charge.amount_refunded")),
		Currency: must(ParseSources("lookup:GET /v1/charges/{charge}#currency | lookup:GET /v1/payment_intents/{payment_intent}#currency")),
		Pin:      Field{"amount"}, CountsWhen: must(ParseCondition("status=pending|requires_action|succeeded")),
		PendingWhen: must(ParseCondition("status=pending|requires_action")), NothingWhen: must(ParseCondition("status=failed|canceled")),
		Settle: must(ParseSources("response:amount")), CurrencyField: []Field{{"currency"}}, CountKey: "refund", ObjectField: Field{"id"},
	}
}

func intentRule() *EffectRule {
	return &EffectRule{
		Klass: KlassCommitIn, Bucket: "payment_intents", When: Condition{Always: true}, Mode: policy.Total,
		Amount: must(ParseSources("request:amount")), Currency: must(ParseSources("request:currency")),
		CountsWhen:  must(ParseCondition("2xx")),
		PendingWhen: must(ParseCondition("status=requires_payment_method|requires_confirmation|requires_action|requires_capture|processing")),
		NothingWhen: must(ParseCondition("status=canceled")), Settle: must(ParseSources("response:amount")),
		CurrencyField: []Field{{"currency"}}, CountKey: "payment_intent", ObjectField: Field{"id"},
	}
}

func confirmRule() *EffectRule {
	return &EffectRule{
		Klass: KlassMoveIn, Bucket: "payment_intents", When: Condition{Always: true}, Mode: policy.Total,
		Amount: must(ParseSources("request:amount_to_confirm")), Absent: must(ParseSources("lookup:GET /v1/payment_intents/{intent}#amount")),
		Floor:       must(ParseSources("lookup:GET /v1/payment_intents/{intent}#amount")),
		Currency:    must(ParseSources("lookup:GET /v1/payment_intents/{intent}#currency")),
		CountsWhen:  must(ParseCondition("status=succeeded|processing|requires_capture|requires_action|requires_confirmation")),
		PendingWhen: must(ParseCondition("status=processing|requires_capture|requires_action|requires_confirmation")),
		NothingWhen: must(ParseCondition("status=requires_payment_method|canceled")), Settle: must(ParseSources("response:amount")),
		CurrencyField: []Field{{"currency"}}, CountKey: "payment_intent", ObjectFrom: "intent",
	}
}

func captureRule() *EffectRule {
	return &EffectRule{
		Klass: KlassMoveIn, Bucket: "payment_intents", When: Condition{Always: true}, Mode: policy.Part,
		Amount: must(ParseSources("request:amount_to_capture")), Absent: must(ParseSources("lookup:GET /v1/payment_intents/{intent}#amount_capturable")),
		Base:        must(ParseSources("lookup:GET /v1/payment_intents/{intent}#amount_received")),
		Currency:    must(ParseSources("lookup:GET /v1/payment_intents/{intent}#currency")),
		Ceiling:     must(ParseSources("lookup:GET /v1/payment_intents/{intent}#amount")),
		Pin:         Field{"amount_to_capture"},
		CountsWhen:  must(ParseCondition("2xx")),
		PendingWhen: must(ParseCondition("status=processing|requires_capture")), Settle: must(ParseSources("hold")),
		CurrencyField: []Field{{"currency"}}, CountKey: "payment_intent", ObjectFrom: "intent",
	}
}

// held is a write with one effect of 2000 US cents under a rule.
func held(row *Row, rule *EffectRule, object policy.ObjectID, ids ...string) *upstream.Call {
	call := aWrite()
	req := &Request{Row: row, IDs: ids, Params: &Params{}}
	if rule != nil {
		req.Effects = []*EffectRule{rule}
		call.Operation.Effects = []policy.Effect{{Bucket: rule.Bucket, Known: true, Amount: cents(2000), Mode: rule.Mode, Object: object}}
	}
	call.Vendor = req
	return call
}

// successCase is a 2xx and what it says.
type successCase struct {
	call *upstream.Call
	body string
	want upstream.Outcome
}

func checkSuccesses(t *testing.T, tests map[string]successCase) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := (&Adapter{}).Outcome(tt.call, answer(200, tt.body))
			if len(got.Moved) == 0 {
				got.Moved = nil
			}
			tt.want.RequestID = "req_1"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// movedTo is one effect that came to an amount of US cents.
func movedTo(minor int64, object policy.ObjectID) []upstream.MovedEffect {
	return []upstream.MovedEffect{{Amount: cents(minor), Object: object}}
}

func TestOutcomeOfRefunds(t *testing.T) {
	refund := held(&Row{}, refundRule(), "")
	checkSuccesses(t, map[string]successCase{
		"a refund that succeeded": {refund, `{"id":"re_1","object":"refund","status":"succeeded","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Moved: movedTo(2000, "re_1")}},
		"a refund of less than was held": {refund, `{"id":"re_1","status":"succeeded","amount":1500,"currency":"USD"}`,
			upstream.Outcome{Fate: upstream.Moved, Moved: movedTo(1500, "re_1")}},
		"a refund of more than was held is told as it happened": {refund, `{"id":"re_1","status":"succeeded","amount":9000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Moved: movedTo(9000, "re_1")}},
		"a refund on its way": {refund, `{"id":"re_1","status":"pending","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Pending: true, Moved: movedTo(2000, "re_1")}},
		"a pending refund keeps what was held": {refund, `{"id":"re_1","status":"pending","amount":1,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Pending: true, Moved: movedTo(2000, "re_1")}},
		"a refund that failed at once": {refund, `{"id":"re_1","status":"failed","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Refused, Why: "status failed"}},
		"a status that nobody knows":   {refund, `{"id":"re_1","status":"teleported","amount":2000,"currency":"usd"}`, upstream.Outcome{Why: "unexpected status teleported"}},
		"no status at all":             {refund, `{"id":"re_1","amount":2000,"currency":"usd"}`, upstream.Outcome{Why: "unexpected status "}},
		"another currency":             {refund, `{"id":"re_1","status":"succeeded","amount":2000,"currency":"eur"}`, upstream.Outcome{Why: "another currency in the answer"}},
		"no currency":                  {refund, `{"id":"re_1","status":"succeeded","amount":2000}`, upstream.Outcome{Why: "another currency in the answer"}},
		"an amount with decimals":      {refund, `{"id":"re_1","status":"succeeded","amount":2000.0,"currency":"usd"}`, upstream.Outcome{Why: "no usable amount in the answer"}},
		"an amount in a text":          {refund, `{"id":"re_1","status":"succeeded","amount":"2000","currency":"usd"}`, upstream.Outcome{Why: "no usable amount in the answer"}},
		"a negative amount":            {refund, `{"id":"re_1","status":"succeeded","amount":-2000,"currency":"usd"}`, upstream.Outcome{Why: "no usable amount in the answer"}},
		"an amount beyond 64 bits":     {refund, `{"id":"re_1","status":"succeeded","amount":92233720368547758080,"currency":"usd"}`, upstream.Outcome{Why: "no usable amount in the answer"}},
		"no id":                        {refund, `{"status":"succeeded","amount":2000,"currency":"usd"}`, upstream.Outcome{Why: "answer names no object"}},
		"a list":                       {refund, `[]`, upstream.Outcome{Why: "answer is no object"}},
		"an error that claims success": {refund, `{"error":{"type":"api_error"},"status":"succeeded"}`, upstream.Outcome{Why: "error in a success"}},
		"a cut body":                   {refund, `{"id":"re_1","status":"succ`, upstream.Outcome{Garbled: true, Why: "unreadable answer"}},
	})
}

// intentRow is payment_intents.capture or cancel: an object that reaches its last state.
func intentRow(when, amount string) *Row {
	return &Row{Placeholders: []string{"intent"}, Money: MoneyRule{Final: &FinalRule{
		Bucket: "payment_intents", ObjectFrom: "intent", When: must(ParseCondition(when)),
		Amount: must(ParseSources(amount)), CurrencyField: []Field{{"currency"}},
	}}}
}

func TestOutcomeOfIntentsAndOtherWrites(t *testing.T) {
	captureRow, cancelRow := intentRow("status=succeeded", "response:amount_received"), intentRow("status=canceled", "")
	create := held(&Row{}, intentRule(), "")
	confirm := held(&Row{Placeholders: []string{"intent"}}, confirmRule(), "pi_1", "pi_1")
	capture := held(captureRow, captureRule(), "pi_1", "pi_1")
	secrets := held(&Row{Placeholders: []string{"intent"}}, confirmRule(), "pi_1", "pi_1")
	secrets.SecretsPass = true
	customer := held(&Row{}, nil, "")
	customer.Operation.CreatesCustomer = true
	unmetered := held(&Row{}, refundRule(), "")
	unmetered.Operation.Effects[0] = policy.Effect{Bucket: "refunds", Unmeterable: true}
	checkSuccesses(t, map[string]successCase{
		"an intent that waits": {create, `{"id":"pi_1","object":"payment_intent","status":"requires_payment_method","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Pending: true, Moved: movedTo(2000, "pi_1")}},
		"a canceled intent is nothing, whatever counts": {create, `{"id":"pi_1","status":"canceled","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Refused, Why: "status canceled"}},
		"a declined confirmation": {confirm, `{"id":"pi_1","object":"payment_intent","status":"requires_payment_method","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Refused, Why: "status requires_payment_method"}},
		"a declined confirmation whose secret is out": {secrets, `{"id":"pi_1","object":"payment_intent","status":"requires_payment_method","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Pending: true, Moved: movedTo(2000, "pi_1")}},
		"an answer about another intent": {confirm, `{"id":"pi_2","object":"payment_intent","status":"succeeded","amount":2000,"currency":"usd"}`,
			upstream.Outcome{Why: "answer is about another object"}},
		"a final capture gives the rest back": {capture, `{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":5000,"amount_received":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Moved: movedTo(2000, "pi_1"), Finals: []upstream.Final{{Bucket: "payment_intents", Object: "pi_1", Amount: cents(2000)}}}},
		"a capture that is not the last gives nothing back": {capture, `{"id":"pi_1","object":"payment_intent","status":"requires_capture","amount":5000,"amount_received":2000,"currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Pending: true, Moved: movedTo(2000, "pi_1")}},
		"a cancellation": {held(cancelRow, nil, "", "pi_1"), `{"id":"pi_1","status":"canceled","currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved, Finals: []upstream.Final{{Bucket: "payment_intents", Object: "pi_1", Amount: cents(0)}}}},
		"a cancellation of something else gives nothing back": {held(cancelRow, nil, "", "pi_1"), `{"id":"pi_2","status":"canceled","currency":"usd"}`,
			upstream.Outcome{Fate: upstream.Moved}},
		"a cancellation without a currency gives nothing back": {held(cancelRow, nil, "", "pi_1"), `{"id":"pi_1","status":"canceled"}`,
			upstream.Outcome{Fate: upstream.Moved}},
		"a customer was created":           {customer, `{"id":"cus_9","object":"customer"}`, upstream.Outcome{Fate: upstream.Moved, NewCustomer: "cus_9", Customers: []policy.CustomerID{"cus_9"}}},
		"a customer nobody can name":       {customer, `{"object":"customer"}`, upstream.Outcome{Why: "answer names no customer"}},
		"a write without money":            {held(&Row{}, nil, ""), `{"id":"price_1"}`, upstream.Outcome{Fate: upstream.Moved}},
		"an effect that the policy admits": {unmetered, `{"id":"x"}`, upstream.Outcome{Fate: upstream.Moved, Moved: []upstream.MovedEffect{{}}}},
		"effects without a call of ours":   {func() *upstream.Call { c := held(&Row{}, refundRule(), ""); c.Vendor = nil; return c }(), `{}`, upstream.Outcome{Why: "no rule for an effect"}},
	})
}

func TestOutcomeOfErrors(t *testing.T) {
	confirm := held(&Row{Placeholders: []string{"intent"}}, confirmRule(), "pi_1", "pi_1")
	secrets := held(&Row{}, intentRule(), "")
	secrets.SecretsPass = true
	declined := func(object, status string) string {
		return `{"error":{"type":"card_error","code":"card_declined","` + object + `":{"id":"pi_7","status":"` + status + `"}}}`
	}
	tests := map[string]struct {
		call       *upstream.Call
		status     int
		body       string
		fate       upstream.Fate
		why        string
		credential bool
	}{
		"a missing parameter":               {confirm, 400, `{"error":{"type":"invalid_request_error","code":"parameter_missing"}}`, upstream.Refused, "parameter_missing", false},
		"no code":                           {confirm, 404, `{"error":{"type":"invalid_request_error"}}`, upstream.Refused, "404 from upstream", false},
		"a reused key":                      {confirm, 400, `{"error":{"type":"idempotency_error"}}`, upstream.Refused, "idempotency_error: this attempt did nothing, the first with its key may have", false},
		"our secret is wrong":               {confirm, 401, `{"error":{"type":"invalid_request_error"}}`, upstream.Refused, "401 from upstream", true},
		"our secret may not":                {confirm, 403, `{"error":{"type":"invalid_request_error"}}`, upstream.Refused, "403 from upstream", true},
		"an account that the call names":    {confirm, 403, `{"error":{"type":"invalid_request_error","code":"account_invalid"}}`, upstream.Refused, "account_invalid", false},
		"a decline":                         {confirm, 402, declined("payment_intent", "requires_payment_method"), upstream.Refused, "card_declined", false},
		"a declined charge":                 {confirm, 402, declined("charge", "failed"), upstream.Refused, "card_declined", false},
		"a decline with an id only":         {confirm, 402, `{"error":{"type":"card_error","code":"expired_card","charge":"ch_1"}}`, upstream.Refused, "expired_card", false},
		"a decline that shows success":      {confirm, 402, declined("payment_intent", "succeeded"), upstream.Unknown, "declined, but the answer shows a payment_intent succeeded", false},
		"a decline that is on its way":      {confirm, 402, declined("payment_intent", "processing"), upstream.Unknown, "declined, but the answer shows a payment_intent processing", false},
		"a decline that waits for a bank":   {confirm, 402, declined("payment_intent", "requires_action"), upstream.Unknown, "declined, but the answer shows a payment_intent requires_action", false},
		"a charge that succeeded":           {confirm, 402, declined("charge", "succeeded"), upstream.Unknown, "declined, but the answer shows a charge succeeded", false},
		"a 402 that is no decline":          {confirm, 402, `{"error":{"type":"invalid_request_error"}}`, upstream.Unknown, "402 from upstream", false},
		"a decline whose secret is out":     {secrets, 402, declined("payment_intent", "requires_payment_method"), upstream.Moved, "card_declined", false},
		"the limiter":                       {confirm, 429, `{"error":{"type":"invalid_request_error","code":"rate_limit"}}`, upstream.Refused, "rate_limit", false},
		"a locked object":                   {confirm, 429, `{"error":{"type":"invalid_request_error","code":"lock_timeout"}}`, upstream.Unknown, "lock_timeout", false},
		"the same key is running":           {confirm, 409, `{"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}`, upstream.Unknown, "idempotency_key_in_use", false},
		"a failed dependency":               {confirm, 424, `{"error":{"type":"api_error"}}`, upstream.Unknown, "424 from upstream", false},
		"a timeout of somebody between":     {confirm, 408, `{"error":{"type":"api_error"}}`, upstream.Unknown, "408 from upstream", false},
		"a 4xx without an error object":     {confirm, 404, `{"message":"no"}`, upstream.Unknown, "404 from upstream", false},
		"an OAuth error":                    {confirm, 400, `{"error":"invalid_grant"}`, upstream.Unknown, "400 from upstream", false},
		"a 500":                             {confirm, 500, `{"error":{"type":"api_error"}}`, upstream.Unknown, "500 from upstream", false},
		"a redirect":                        {confirm, 302, `{}`, upstream.Unknown, "302 from upstream", false},
		"a text for people is not recorded": {confirm, 400, `{"error":{"type":"invalid_request_error","code":"cus_1 is bad"}}`, upstream.Refused, "400 from upstream", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := (&Adapter{}).Outcome(tt.call, answer(tt.status, tt.body))
			if got.Fate != tt.fate || got.Why != tt.why || got.CredentialRefused != tt.credential {
				t.Errorf("%v, %q, credential %v; want %v, %q, %v", got.Fate, got.Why, got.CredentialRefused, tt.fate, tt.why, tt.credential)
			}
			if got.Fate == upstream.Moved && (!got.Pending || got.Moved[0].Amount != cents(2000) || got.Moved[0].Object != "pi_7") {
				t.Errorf("moved %+v", got)
			}
		})
	}
}

func TestOutcomeOfBrokenAnswers(t *testing.T) {
	good := `{"id":"re_1","status":"succeeded","amount":2000,"currency":"usd"}`
	strange := func(change func(*upstream.Answer)) *upstream.Answer {
		a := answer(200, good)
		change(a)
		return a
	}
	tests := map[string]struct {
		answer *upstream.Answer
		fate   upstream.Fate
		why    string
	}{
		"nothing at all":             {&upstream.Answer{}, upstream.Unknown, "no answer"},
		"nothing was written":        {&upstream.Answer{Err: errors.New("dial")}, upstream.Refused, "not written"},
		"written, no answer":         {&upstream.Answer{Err: io.ErrUnexpectedEOF, Sent: true}, upstream.Unknown, "no answer"},
		"written, no answer in time": {&upstream.Answer{Err: context.DeadlineExceeded, Sent: true}, upstream.Unknown, "no answer in time"},
		"cut after the head":         {strange(func(a *upstream.Answer) { a.Err = io.ErrUnexpectedEOF }), upstream.Unknown, "truncated answer"},
		"a page":                     {strange(func(a *upstream.Answer) { a.Header.Set("Content-Type", "text/html") }), upstream.Unknown, "200 without JSON"},
		"no type":                    {strange(func(a *upstream.Answer) { a.Header.Del("Content-Type") }), upstream.Unknown, "200 without JSON"},
		"a refusal without an id": {func() *upstream.Answer {
			a := answer(400, `{"error":{"type":"invalid_request_error"}}`)
			a.Header.Del("Request-Id")
			return a
		}(), upstream.Unknown, "400 from upstream"},
		"a type with a charset": {strange(func(a *upstream.Answer) { a.Header.Set("Content-Type", "application/json; charset=utf-8") }), upstream.Moved, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := (&Adapter{}).Outcome(held(&Row{}, refundRule(), ""), tt.answer)
			if got.Fate != tt.fate || got.Why != tt.why {
				t.Errorf("%v, %q; want %v, %q", got.Fate, got.Why, tt.fate, tt.why)
			}
		})
	}
	a := answer(http.StatusOK, good)
	a.Header.Set("Idempotent-Replayed", "true")
	if !(&Adapter{}).Outcome(held(&Row{}, refundRule(), ""), a).Replayed {
		t.Error("a replay is not seen")
	}
}
