package stripe

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// Outcome reads what an answer says about the call's money.
//
// A 2xx counts where the row's counts_when holds and is refused where its closed nothing_when holds (which
// wins, for rows that count any 2xx). A 4xx of a closed list is refused if it is surely Stripe's own word: a
// JSON error object with a Request-Id. Everything else is unknown and keeps its hold; so is an amount that
// is no whole number, is negative, or comes in another currency than was held.
//
// Nothing in Why comes from a text that Stripe wrote for people, so it may be recorded.
func (a *Adapter) Outcome(call *upstream.Call, answer *upstream.Answer) upstream.Outcome {
	out := upstream.Outcome{
		RequestID: answer.Header.Get(headerRequestID),
		Replayed:  strings.EqualFold(answer.Header.Get("Idempotent-Replayed"), "true"),
	}
	var readable bool
	if answer.Err == nil && isJSONType(answer.Header) {
		out.Customers, readable = named(answer.Body)
	}
	switch {
	case answer.Status == 0 && !answer.Sent && answer.Err != nil:
		out.Fate, out.Why = upstream.Refused, "not written"
	case answer.Status == 0:
		out.Why = whyNoAnswer(answer.Err)
	case answer.Err != nil:
		out.Why = "truncated answer"
	case !isJSONType(answer.Header):
		out.Garbled, out.Why = true, strconv.Itoa(answer.Status)+" without JSON"
	case !readable:
		out.Garbled, out.Why = true, "unreadable answer"
	case answer.Status >= 200 && answer.Status < 300:
		readSuccess(call, answer, &out)
	case answer.Status >= 400 && answer.Status < 500:
		readError(call, answer, &out)
	default:
		out.Why = strconv.Itoa(answer.Status) + " from upstream"
	}
	return out
}

func whyNoAnswer(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return "no answer"
}

func isJSONType(h http.Header) bool {
	mime, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(mime), "application/json")
}

// answerField reads a field of an answer for a Condition. Null is absent, as it is for the tables.
func answerField(body []byte) func(Field) (string, bool) {
	return func(f Field) (string, bool) {
		k, raw := findJSON(body, f)
		switch k {
		case 0, jsonNull:
			return "", false
		case jsonString:
			return string(unescape(raw[1:len(raw)-1], true, nil)), true
		case jsonObject, jsonArray:
			return "", true
		default:
			return string(raw), true
		}
	}
}

// requestOf returns what Parse left in the call. A call without it has no rules, and then no effects either.
func requestOf(call *upstream.Call) *Request {
	if r, ok := call.Vendor.(*Request); ok {
		return r
	}
	return &Request{Row: &Row{}}
}

func readSuccess(call *upstream.Call, answer *upstream.Answer, out *upstream.Outcome) {
	body := answer.Body
	if k, _ := findJSON(body, nil); k != jsonObject {
		out.Why = "answer is no object"
		return
	}
	if k, _ := findJSON(body, Field{"error"}); k == jsonObject {
		out.Why = "error in a success"
		return
	}
	req := requestOf(call)
	if len(req.Effects) != len(call.Operation.Effects) {
		out.Why = "no rule for an effect"
		return
	}
	if !readNewCustomer(call, body, out) {
		return
	}
	refused := 0
	moved := make([]upstream.MovedEffect, len(req.Effects))
	for i := range req.Effects {
		m := readEffect(call, req, i, body)
		if m.why != "" {
			out.Why = m.why
			return
		}
		if m.nothing {
			refused++
		}
		out.Pending = out.Pending || m.pending
		moved[i] = m.MovedEffect
	}
	if refused > 0 && refused == len(moved) {
		out.Fate, out.Why = upstream.Refused, "status "+closedWord(findText(body, Field{"status"}))
		return
	}
	out.Fate, out.Moved = upstream.Moved, moved
	if final, ok := readFinal(req, body); ok {
		out.Finals = []upstream.Final{final}
	}
}

func readNewCustomer(call *upstream.Call, body []byte, out *upstream.Outcome) bool {
	if !call.Operation.CreatesCustomer {
		return true
	}
	id := findText(body, Field{"id"})
	if id == "" || findText(body, Field{"object"}) != "customer" {
		out.Why = "answer names no customer"
		return false
	}
	out.NewCustomer = policy.CustomerID(id)
	return true
}

// effectRead is what an answer says about one effect; why is set where it says nothing that can be used.
type effectRead struct {
	upstream.MovedEffect
	nothing, pending bool
	why              string
}

func readEffect(call *upstream.Call, req *Request, i int, body []byte) effectRead {
	rule, e := req.Effects[i], &call.Operation.Effects[i]
	r := effectRead{MovedEffect: upstream.MovedEffect{Amount: e.Amount, Object: e.Object}}
	if e.Unmeterable || !e.Known {
		return r // admitted by the policy's `unmetered`: nothing was held and there is nothing to read
	}
	get := answerField(body)
	if id := findText(body, Field{"id"}); e.Object != "" && findText(body, Field{"object"}) == rule.CountKey && id != string(e.Object) {
		r.why = "answer is about another object"
		return r
	}
	if e.Object == "" && len(rule.ObjectField) > 0 {
		if r.Object = policy.ObjectID(findText(body, rule.ObjectField)); r.Object == "" {
			r.why = "answer names no object"
			return r
		}
	}
	if rule.NothingWhen.Eval(get) {
		if keepsCounting(call, rule, findText(body, Field{"status"})) {
			r.pending = true
			return r
		}
		r.nothing, r.Amount.Minor = true, 0
		return r
	}
	if base, known := req.Bases[i]; known {
		get = withBase(get, base)
	}
	if !rule.CountsWhen.Eval(get) {
		r.why = "unexpected status " + closedWord(findText(body, Field{"status"}))
		return r
	}
	r.pending = rule.follows() || rule.PendingWhen.Eval(get)
	amount, why := settled(rule, e, body)
	if why != "" {
		r.why = why
		return r
	}
	r.Amount.Minor = amount
	if r.pending {
		// Not the last word: what was held stays counted, unless Stripe is already beyond it.
		r.Amount.Minor = max(amount, e.Amount.Minor)
	}
	return r
}

// withBase answers for "base": a field that is still what it was before the call reads as that word.
func withBase(get func(Field) (string, bool), base string) func(Field) (string, bool) {
	return func(f Field) (string, bool) {
		v, ok := get(f)
		if ok && v == base {
			return "base", true
		}
		return v, ok
	}
}

// keepsCounting reports whether a declined intent stays counted: whoever has its client_secret can still pay
// it, without a call that we would see.
func keepsCounting(call *upstream.Call, rule *EffectRule, status string) bool {
	return call.SecretsPass && rule.CountKey == "payment_intent" && status != "canceled"
}

// settled reads what an effect came to, in the minor units of the currency that was held.
func settled(rule *EffectRule, e *policy.Effect, body []byte) (minor int64, why string) {
	if !sameCurrency(rule.CurrencyField, e.Amount.Currency, body) {
		return 0, "another currency in the answer"
	}
	for _, src := range rule.Settle {
		switch src.Kind {
		case FromHold, FromLookup: // what the answer names is read by Follow
			return e.Amount.Minor, ""
		case FromResponse, FromResponseAbs:
			n, ok := wholeNumber(body, src.Field)
			if ok && n < 0 && (src.Kind == FromResponseAbs || rule.Signed) {
				n = -n
			}
			if !ok || n < 0 {
				return 0, "no usable " + src.Field.String() + " in the answer"
			}
			return n, ""
		}
	}
	return 0, "no rule to settle by"
}

func sameCurrency(fields []Field, held money.Currency, body []byte) bool {
	for _, f := range fields {
		if c := findText(body, f); c != "" {
			return money.Currency(strings.ToLower(c)) == held
		}
	}
	return len(fields) == 0
}

// wholeNumber reads a JSON integer. 1.0 and 1e2 are none: Stripe does not write amounts like that, so
// something else wrote the answer. The smallest integer is none either, since it has no absolute value.
func wholeNumber(body []byte, f Field) (int64, bool) {
	k, raw := findJSON(body, f)
	if k != jsonNumber {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil && n > -1<<63
}

// readFinal reads the last word about an object. An answer without the amount or currency that the rule
// needs is no last word: nothing is given back on a guess.
func readFinal(req *Request, body []byte) (upstream.Final, bool) {
	rule := req.Row.Money.Final
	if rule == nil || !rule.When.Eval(answerField(body)) {
		return upstream.Final{}, false
	}
	id, ok := req.Value(rule.ObjectFrom)
	if named := findText(body, Field{"id"}); !ok || named != "" && named != id {
		return upstream.Final{}, false
	}
	final := upstream.Final{Bucket: rule.Bucket, Object: policy.ObjectID(id)}
	for _, f := range rule.CurrencyField {
		if c, err := money.ParseCurrency(findText(body, f)); err == nil {
			final.Amount.Currency = c
			break
		}
	}
	if final.Amount.Currency == "" {
		return upstream.Final{}, false
	}
	if len(rule.Amount) > 0 {
		n, ok := wholeNumber(body, rule.Amount[0].Field)
		if !ok || n < 0 {
			return upstream.Final{}, false
		}
		final.Amount.Minor = n
	}
	return final, true
}
