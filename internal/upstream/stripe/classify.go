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
	if row.Host == HostMeterEvents {
		op.Refused = &policy.Refusal{Code: policy.CodeUnknownRoute, Message: fmt.Sprintf(
			"%s is called on a host of its own with a session's token, which is no vault key, so it does not pass through Keybrake; use billing.meter_events.create.", row.Name)}
		return nil
	}
	rule := &row.Money
	if r := oneOf(rule, req.Params); r != nil {
		return r
	}
	why := unbounded(req)
	bucket := row.Resource
	for _, e := range rule.Effects {
		if !e.When.Eval(req.Params.Value) {
			continue
		}
		if !e.Bounded() {
			if why == "" {
				bucket, why = e.Bucket, fmt.Sprintf("%s %s by an amount that has no bound; %s", row.Name, klassWords[e.Klass], admitByName(row))
			}
			continue
		}
		counted, r := effect(req, e, op.Effects)
		if r != nil {
			return r
		}
		bucket = e.Bucket
		addEffect(req, op, e, counted)
	}
	if why != "" {
		addEffect(req, op, &EffectRule{Bucket: bucket, Amount: []Source{{Kind: IsUnmeterable}}},
			policy.Effect{Bucket: bucket, Unmeterable: true, Why: why})
	}
	op.Needs = append(op.Needs, further(req)...)
	return nil
}

// further lists the scopes that a call needs beside its own and those of its effects: for what it makes on the
// way, and for sending a part of the money, or a fee, elsewhere.
func further(req *Request) []policy.Need {
	var out []policy.Need
	row, rule := req.Row, &req.Row.Money
	for _, m := range rule.Makes {
		if m.Resource != row.Resource && m.When.Eval(req.Params.Value) {
			out = append(out, policy.Need{Resource: m.Resource, Access: policy.Write, Because: m.When.held(req.Params) + " makes one of " + string(m.Resource)})
		}
	}
	for _, f := range rule.Routing {
		if req.Params.Has(f) {
			out = append(out, policy.Need{Resource: transfers, Access: policy.Write, Because: f.Param() + " sends a part of the money, or a fee, to another account"})
		}
	}
	return out
}

// transfers is the bucket of what is sent on to other accounts.
const transfers policy.Resource = "transfers"

// addEffect appends an effect and asks for write on its bucket where that is not the operation's resource.
func addEffect(req *Request, op *policy.Operation, rule *EffectRule, e policy.Effect) {
	op.Effects = append(op.Effects, e)
	req.Effects = append(req.Effects, rule)
	if e.Bucket != op.Resource {
		op.Needs = append(op.Needs, policy.Need{Resource: e.Bucket, Access: policy.Write, Because: "the call moves money of " + string(e.Bucket)})
	}
}

// Bounded reports whether an effect has an amount at all: without one only `unmetered` admits it.
func (e *EffectRule) Bounded() bool { return len(e.Amount) > 0 && e.Amount[0].Kind != IsUnmeterable }

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

// effect evaluates a rule as far as the request alone tells. earlier are the effects of the call before it.
func effect(req *Request, rule *EffectRule, earlier []policy.Effect) (policy.Effect, *policy.Refusal) {
	e := policy.Effect{Bucket: rule.Bucket, Mode: rule.Mode}
	if rule.ObjectFrom != "" {
		id, _ := req.Value(rule.ObjectFrom)
		e.Object = policy.ObjectID(id)
	}
	b, amountKnown, r := requestAmount(req, rule, earlier)
	if r != nil {
		return e, r
	}
	currency, currencyKnown, r := requestCurrency(req, rule, b)
	if r != nil {
		return e, r
	}
	if rule.Signed && b.amount < 0 {
		b.amount = -b.amount
	}
	switch {
	case !amountKnown:
	case currencyKnown && len(rule.Floor) == 0 && len(rule.Base) == 0 && rule.Mode != policy.Part:
		e.Known = true
		e.Amount = money.Amount{Minor: b.amount, Currency: currency}
	case !rule.Distance: // there the figure is a new value, and what counts is how far it is from the old one
		e.Named = b.amount
	}
	return e, nil
}

// requestAmount returns the amount if the request alone fixes it.
func requestAmount(req *Request, rule *EffectRule, earlier []policy.Effect) (b bound, known bool, r *policy.Refusal) {
	for _, src := range rule.amounts() {
		switch src.Kind {
		case FromRequest:
			n := req.Params.Get(src.Field)
			if n == nil {
				continue
			}
			minor, ok := ParseMinor(n, rule.Signed)
			if !ok {
				return bound{}, false, malformed(src.Field.Param(), fmt.Sprintf("%q must be a whole number of minor units in at most 12 plain digits, like 2000 for 20.00.", src.Field.Param()))
			}
			return bound{amount: minor}, true, nil
		case IsZero:
			return bound{}, true, nil
		case IsDenied:
			return bound{}, false, withoutAmount(req, rule)
		case FromLookup:
			if src.usable(req) {
				return bound{}, false, nil
			}
		case FromWorstCase:
			if src.Name == "amount" {
				sum := sumOfEffects(earlier)
				return sum, sum.why == "", nil
			}
			return bound{}, false, nil
		default:
			return bound{}, false, nil
		}
	}
	return bound{}, false, withoutAmount(req, rule)
}

// withoutAmount refuses a call that leaves out the amount that would have to be held, or the object that has it.
func withoutAmount(req *Request, rule *EffectRule) *policy.Refusal {
	name := lacking(req, rule.Amount, "amount")
	return malformed(name, fmt.Sprintf("%s needs the parameter %q: without it the amount is not known beforehand.", req.Row.Name, name))
}

// ParseMinor reads an amount as every reader reads it: at most 12 digits without space, exponent or leading
// zero; signed allows a minus before them.
func ParseMinor(n *Node, signed bool) (int64, bool) {
	if n.Kind != Text && n.Kind != Number {
		return 0, false
	}
	s, negative := n.Text, false
	if signed {
		s, negative = strings.CutPrefix(s, "-")
	}
	if strings.HasPrefix(s, "-") || !plainInteger(s, 12) {
		return 0, false
	}
	var v int64
	for i := range len(s) {
		v = v*10 + int64(s[i]-'0')
	}
	if negative {
		v = -v
	}
	return v, true
}

// requestCurrency returns the currency if the request alone fixes it: where an object does, it is looked up.
func requestCurrency(req *Request, rule *EffectRule, b bound) (c money.Currency, known bool, r *policy.Refusal) {
	lookup := false
	for _, src := range rule.Currency {
		if src.Kind == FromBound {
			return b.currency, b.currency != "", nil
		}
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
	name := lacking(req, rule.Currency, "currency")
	return "", false, malformed(name, fmt.Sprintf("%s needs the parameter %q: without it the amount has no value.", req.Row.Name, name))
}

// lacking names the parameter that the first of the sources needs and the call does not have; otherwise if it needs none.
func lacking(req *Request, sources []Source, otherwise string) string {
	switch src := sources[0]; src.Kind {
	case FromRequest:
		return src.Field.Param()
	case FromLookup:
		for _, name := range src.Ref.Placeholders {
			if v, ok := req.Value(name); !ok || v == "" {
				return name
			}
		}
	}
	return otherwise
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

// unbounded says why a call has an effect without a bound, apart from those that effects.csv calls so; "" if it
// has none.
func unbounded(req *Request) string {
	row, rule := req.Row, &req.Row.Money
	switch row.Default {
	case DenyCredential, DenyEgress, DenyBulk:
		return fmt.Sprintf("%s %s; %s", row.Name, klassWords[rule.Klass], admitByName(row))
	}
	for _, f := range rule.Refused {
		if f.When.Eval(req.Params.Value) {
			name := f.When.held(req.Params)
			if name != "" {
				name = " with " + name
			}
			return fmt.Sprintf("%s%s %s; call it otherwise, or %s", row.Name, name, f.Why, admitByName(row))
		}
	}
	for _, f := range rule.Raising {
		if req.Params.Has(f) {
			return fmt.Sprintf("%s with %s can end in a larger amount than the one that is counted; leave %s out, or %s",
				row.Name, f.Param(), f.Param(), admitByName(row))
		}
	}
	return ""
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
	m := &r.Money
	return r.Access == policy.Write && (m.Klass.Metered() || m.Klass == KlassRelease || m.Final != nil || len(m.Effects) > 0)
}
