package stripe

import (
	"fmt"
	"strings"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// classifyMoney says what a parsed request would do to money: it fills op.Effects and op.Needs, and req.Effects
// with the rules behind them. A refusal is a request that could not be counted as it is written.
func classifyMoney(req *Request, op *policy.Operation) *policy.Refusal {
	row := req.Row
	if row.Default == DenyPreview {
		op.Refused = &policy.Refusal{Code: policy.CodeUnknownRoute,
			Message: fmt.Sprintf("%s is a preview operation of Stripe, which Keybrake does not let through; use a generally available one.", row.Name)}
		return nil
	}
	rule := &row.Money
	if r := oneOf(rule, req.Params); r != nil {
		return r
	}
	if rule.Interpreted && rule.First != nil && rule.First.When.Eval(req.Params.Value) && rule.First.bounded() {
		e, r := effect(req, rule.First)
		if r != nil {
			return r
		}
		addEffect(req, op, rule.First, e)
	}
	if s := rule.Second; s != nil && !s.Klass.Metered() && s.Bucket != op.Resource && s.When.Eval(req.Params.Value) {
		op.Needs = append(op.Needs, policy.Need{Resource: s.Bucket, Access: policy.Write, Because: s.When.held(req.Params) + " makes one of " + string(s.Bucket)})
	}
	if bucket, why := unmeterable(req); why != "" {
		addEffect(req, op, &EffectRule{Bucket: bucket, Amount: []Source{{Kind: IsUnmeterable}}},
			policy.Effect{Bucket: bucket, Unmeterable: true, Why: why})
	}
	return nil
}

// addEffect appends an effect and asks for write on its bucket where that is not the operation's resource.
func addEffect(req *Request, op *policy.Operation, rule *EffectRule, e policy.Effect) {
	op.Effects = append(op.Effects, e)
	req.Effects = append(req.Effects, rule)
	if e.Bucket != op.Resource {
		op.Needs = append(op.Needs, policy.Need{Resource: e.Bucket, Access: policy.Write, Because: "the call moves money of " + string(e.Bucket)})
	}
}

// bounded reports whether an effect has an amount at all.
func (e *EffectRule) bounded() bool { return len(e.Amount) > 0 && e.Amount[0].Kind != IsUnmeterable }

// oneOf demands exactly one of the parameters that name the object: with two, we might judge one and Stripe
// act on the other.
func oneOf(rule *MoneyRule, p *Params) *policy.Refusal {
	if len(rule.OneOf) == 0 {
		return nil
	}
	given := 0
	names := make([]string, len(rule.OneOf))
	for i, f := range rule.OneOf {
		names[i] = f.Param()
		if n := p.Get(f); n != nil {
			given++
			if !n.Plain() || n.Text == "" {
				return malformed(f.Param(), fmt.Sprintf("The parameter %q must name an object.", f.Param()))
			}
		}
	}
	if given == 1 {
		return nil
	}
	return malformed(names[0], fmt.Sprintf("Exactly one of %s must be given, so that it is certain what the call is about.", strings.Join(names, " and ")))
}

// effect evaluates an interpreted rule as far as the request alone tells.
func effect(req *Request, rule *EffectRule) (policy.Effect, *policy.Refusal) {
	e := policy.Effect{Bucket: rule.Bucket, Mode: rule.Mode}
	if rule.ObjectFrom != "" {
		id, _ := req.Value(rule.ObjectFrom)
		e.Object = policy.ObjectID(id)
	}
	minor, amountKnown, r := requestAmount(req, rule)
	if r != nil {
		return e, r
	}
	currency, currencyKnown, r := requestCurrency(req, rule)
	if r != nil {
		return e, r
	}
	if amountKnown && currencyKnown && len(rule.Floor) == 0 && rule.Mode != policy.Part {
		e.Known = true
		e.Amount = money.Amount{Minor: minor, Currency: currency}
	}
	return e, nil
}

// requestAmount returns the amount if the request alone fixes it.
func requestAmount(req *Request, rule *EffectRule) (minor int64, known bool, r *policy.Refusal) {
	src := rule.Amount[0]
	if src.Kind != FromRequest {
		return 0, false, nil
	}
	n := req.Params.Get(src.Field)
	if n != nil {
		minor, ok := ParseMinor(n, rule.Signed)
		if !ok {
			return 0, false, malformed(src.Field.Param(), fmt.Sprintf("%q must be a whole number of minor units in at most 12 plain digits, like 2000 for 20.00.", src.Field.Param()))
		}
		return minor, true, nil
	}
	switch {
	case len(rule.Absent) == 0 || rule.Absent[0].Kind == IsDenied:
		return 0, false, malformed(src.Field.Param(), fmt.Sprintf("%s needs the parameter %q: without it the amount is not known beforehand.", req.Row.Name, src.Field.Param()))
	case rule.Absent[0].Kind == IsZero:
		return 0, true, nil
	}
	return 0, false, nil
}

// ParseMinor reads an amount as every reader reads it: at most 12 digits without sign, space, exponent or
// leading zero. signed allows a minus, which counts as much as a plus.
func ParseMinor(n *Node, signed bool) (int64, bool) {
	if n.Kind != Text && n.Kind != Number {
		return 0, false
	}
	s := n.Text
	if signed {
		s = strings.TrimPrefix(s, "-")
	}
	if strings.HasPrefix(s, "-") || !plainInteger(s, 12) {
		return 0, false
	}
	var v int64
	for i := range len(s) {
		v = v*10 + int64(s[i]-'0')
	}
	return v, true
}

// requestCurrency returns the currency if the request alone fixes it: where an object does, it is looked up.
func requestCurrency(req *Request, rule *EffectRule) (c money.Currency, known bool, r *policy.Refusal) {
	lookup := false
	for _, src := range rule.Currency {
		if src.Kind != FromRequest {
			if lookup = true; src.usable(req) {
				return "", false, nil
			}
			continue
		}
		n := req.Params.Get(src.Field)
		if n == nil {
			continue
		}
		if !n.Plain() || !currencyCode(n.Text) {
			return "", false, malformed(src.Field.Param(), fmt.Sprintf("%q must be a currency code of three letters, like usd.", src.Field.Param()))
		}
		return money.Currency(n.Text), true, nil
	}
	if lookup {
		return "", false, nil
	}
	return "", false, malformed("currency", fmt.Sprintf("%s needs the parameter \"currency\": without it the amount has no value.", req.Row.Name))
}

// usable reports whether the request has every placeholder of a look-up.
func (s Source) usable(req *Request) bool {
	for _, name := range s.Ref.Placeholders {
		if v, ok := req.Value(name); !ok || v == "" {
			return false
		}
	}
	return true
}

func currencyCode(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return len(s) == 3
}

// unmeterable says why a call has an effect without a bound, and on which bucket; "" if it has none.
func unmeterable(req *Request) (policy.Resource, string) {
	row, rule := req.Row, &req.Row.Money
	bucket := row.Resource
	if rule.First != nil {
		bucket = rule.First.Bucket
	}
	applies := rule.First != nil && rule.First.When.Eval(req.Params.Value)
	switch row.Default {
	case DenyCredential, DenyEgress, DenyBulk:
		return bucket, fmt.Sprintf("%s %s; %s", row.Name, klassWords[row.Money.Klass], admitByName(row))
	case DenyUnmetered:
		if applies {
			return bucket, fmt.Sprintf("%s %s by an amount that has no bound; %s", row.Name, klassWords[rule.Klass], admitByName(row))
		}
	default:
		if k := klassWords[rule.Klass]; !rule.Interpreted && k != "" {
			return bucket, fmt.Sprintf("%s %s by an amount that Keybrake cannot count yet; %s", row.Name, k, admitByName(row))
		}
	}
	for _, f := range rule.Refused {
		if f.When.Eval(req.Params.Value) {
			name := f.When.held(req.Params)
			return bucket, fmt.Sprintf("%s with %s %s; leave it out, or %s", row.Name, name, f.Why, admitByName(row))
		}
	}
	if applies && rule.Interpreted && !rule.First.bounded() {
		return bucket, fmt.Sprintf("%s %s by an amount that Keybrake cannot count yet; %s", row.Name, klassWords[rule.Klass], admitByName(row))
	}
	return secondEffect(req, bucket)
}

// secondEffect looks for what moves money beside the first effect: fees, transfers and parameters that raise
// the final amount.
func secondEffect(req *Request, bucket policy.Resource) (policy.Resource, string) {
	row, rule := req.Row, &req.Row.Money
	for _, f := range rule.Routing {
		if req.Params.Get(f) != nil {
			return "transfers", fmt.Sprintf("%s with %s sends a part of the money, or a fee, to another account, which Keybrake cannot count yet; leave %s out, or %s",
				row.Name, f.Param(), f.Param(), admitByName(row))
		}
	}
	for _, f := range rule.Raising {
		if req.Params.Get(f) != nil {
			return bucket, fmt.Sprintf("%s with %s can end in a larger amount than the one that is counted; leave %s out, or %s",
				row.Name, f.Param(), f.Param(), admitByName(row))
		}
	}
	if s := rule.Second; s != nil && s.Klass.Metered() && s.When.Eval(req.Params.Value) {
		what := "as it is called here"
		if name := s.When.held(req.Params); name != "" {
			what = "with " + name
		}
		return s.Bucket, fmt.Sprintf("%s %s also %s (%s) by an amount that Keybrake cannot count yet; %s",
			row.Name, what, klassWords[s.Klass], s.Bucket, admitByName(row))
	}
	return "", ""
}

// admitByName ends the sentence of a denial with what an operator can do.
func admitByName(row *Row) string {
	return fmt.Sprintf("an operator can admit it all the same with `unmetered: [%s]`.", row.Name)
}

// klassWords says what an operation does that has to be counted or closed off. Other classes are not here.
var klassWords = map[Klass]string{
	KlassMoveIn:     "collects money",
	KlassMoveOut:    "sends money",
	KlassCommitIn:   "arms a later collection",
	KlassCommitOut:  "arms a later payment",
	KlassValue:      "changes what somebody owes",
	KlassCredential: "hands out something that works without Keybrake",
	KlassEgress:     "sends data elsewhere",
	KlassBulk:       "exports or runs many objects at once",
}

// held names the parameter by which a condition holds; "" if it holds by an absence or always.
func (c Condition) held(p *Params) string {
	for _, t := range c.Terms {
		if v, ok := p.Value(t.Field); ok && t.Op != Absent && (Condition{Terms: []Term{t}}).Eval(p.Value) {
			if t.Op == Equals {
				return t.Field.Param() + "=" + clip(v)
			}
			return t.Field.Param()
		}
	}
	return ""
}

// strict reports whether every parameter of a row's calls must be a declared one.
func (r *Row) strict() bool {
	return r.Access == policy.Write && (r.Money.Klass.Metered() || r.Money.Klass == KlassRelease || r.Money.Final != nil)
}
