package stripe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// Resolve completes call.Operation with what only Stripe knows, by reading the objects that the call names:
// under a customer list whose they are, then the amounts and currencies that are not in the request. Each
// object is read once per call. A resolved amount is pinned into the call where the route takes one, so that
// what is held is what is sent.
//
// Customers come first. Where they already deny the call, Resolve stops (Operation.Resolved stays false): the
// amounts of foreign objects are nobody's business, not even in an error text.
func (a *Adapter) Resolve(ctx context.Context, call *upstream.Call, p *policy.Policy, look upstream.Lookup) (*policy.Refusal, error) {
	req, ok := call.Vendor.(*Request)
	if !ok {
		return nil, errors.New("resolve a call that Parse did not make")
	}
	if len(req.Effects) != len(call.Operation.Effects) {
		return nil, fmt.Errorf("resolve %s: %d rules for %d effects", call.Operation.Name, len(req.Effects), len(call.Operation.Effects))
	}
	r := &resolver{ctx: ctx, call: call, req: req, p: p, look: look, edge: &a.edges, catalog: a.catalog, fetched: make(map[string][]byte)}
	r.plan()
	if !p.Customers.Any && call.Operation.Customer.Kind == policy.TieLookup {
		if refusal, err := r.customers(); refusal != nil || err != nil {
			return refusal, err
		}
		if p.Enforcement != policy.Shadow && !r.tieAllowed() {
			return nil, nil
		}
	}
	for i := range req.Effects {
		if refusal, err := r.effect(i); refusal != nil || err != nil {
			return refusal, err
		}
	}
	if p.Customers.Any {
		r.seenCustomers()
	}
	call.Operation.Resolved = true
	return nil, nil
}

func (r *resolver) tieAllowed() bool {
	tie := &r.call.Operation.Customer
	for _, id := range tie.Customers {
		if !r.p.Customers.Allows(id) {
			return false
		}
	}
	return !tie.Guest
}

// plan notes which look-ups the open effects need.
func (r *resolver) plan() {
	for i, rule := range r.req.Effects {
		if e := &r.call.Operation.Effects[i]; e.Known || e.Unmeterable {
			continue
		}
		for _, list := range [][]Source{rule.amounts(), rule.Floor, rule.Base, rule.Currency, rule.Ceiling} {
			if src, ok := r.choose(list); ok && src.Kind == FromLookup {
				r.wanted = append(r.wanted, src.Ref)
			}
		}
	}
}

// choose returns the first alternative that the request can answer.
func (r *resolver) choose(list []Source) (Source, bool) {
	for _, src := range list {
		switch src.Kind {
		case FromRequest:
			if n := r.req.Params.Get(src.Field); n != nil && n.Plain() && n.Text != "" {
				return src, true
			}
		case FromLookup:
			if _, ok := src.Ref.Path(r.req.Value); ok {
				return src, true
			}
		default:
			return src, true
		}
	}
	return Source{}, false
}

// amounts are where the amount comes from: the request, and if it is not there the alternatives.
func (e *EffectRule) amounts() []Source { return slices.Concat(e.Amount, e.Absent) }

// bound is an amount that a call can come to at most, with its currency where the source knows it. why says
// that there is none, as the end of a sentence.
type bound struct {
	amount   int64
	currency money.Currency
	why      string
}

// effect completes one effect and pins its amount.
func (r *resolver) effect(i int) (*policy.Refusal, error) {
	rule, e := r.req.Effects[i], &r.call.Operation.Effects[i]
	if e.Known || e.Unmeterable {
		return nil, nil
	}
	b, refusal, err := r.amount(i, rule.amounts())
	if refusal != nil || err != nil {
		return refusal, err
	}
	if b.why != "" {
		e.Unmeterable, e.Why = true, r.noBound(rule, b.why)
		return nil, nil
	}
	amount := b.amount
	if rule.Distance {
		if amount, refusal, err = r.distance(i, amount); refusal != nil || err != nil {
			return refusal, err
		}
	}
	if rule.Signed && amount < 0 {
		amount = -amount
	}
	resolved := len(rule.Pin) > 0 && r.req.Params.Get(rule.Pin) == nil
	if amount < 0 || resolved && amount == 0 {
		return malformed(rule.Pin.Param(), "Nothing is left on the object that this call is about, so there is no amount to hold and to send."), nil
	}
	if len(rule.Floor) > 0 {
		floor, refusal, err := r.amount(i, rule.Floor)
		if refusal != nil || err != nil {
			return refusal, err
		}
		if floor.why != "" {
			e.Unmeterable, e.Why = true, r.noBound(rule, floor.why)
			return nil, nil
		}
		amount = max(amount, floor.amount)
	}
	if i > 0 && b.currency == "" {
		b.currency = r.call.Operation.Effects[i-1].Amount.Currency // a part of what the effect before it moves
	}
	currency, refusal, err := r.currency(rule, b)
	if refusal != nil || err != nil {
		return refusal, err
	}
	if e.Ceiling, refusal, err = r.ceiling(i, amount); refusal != nil || err != nil {
		return refusal, err
	}
	if refusal, err := r.baseText(i); refusal != nil || err != nil {
		return refusal, err
	}
	if amount == 0 && currency == "" {
		currency = "usd" // nothing is nothing in any currency
	}
	e.Amount, e.Named, e.Mode, e.Known = money.Amount{Minor: amount, Currency: currency}, 0, rule.Mode, true
	e.LookedUp = true
	if id, ok := r.req.Value(rule.ObjectFrom); ok && rule.ObjectFrom != "" {
		e.Object = policy.ObjectID(id)
	}
	if resolved {
		r.pin(rule.Pin, amount)
	}
	return nil, nil
}

// pin writes a resolved amount into the call: what was held is what is sent.
func (r *resolver) pin(f Field, amount int64) {
	r.req.Params.Set(f, strconv.FormatInt(amount, 10))
	r.call.Body = r.req.Params.Encode()
	// A call without any parameter had none for the policy's rules to judge; now it has.
	r.call.Operation.Params = r.req.Params
}

// noBound is the sentence of a denial for an effect that a worst case or a preview could not bound.
func (r *resolver) noBound(rule *EffectRule, why string) string {
	return fmt.Sprintf("%s %s (%s), and %s; %s", r.req.Row.Name, klassWords[rule.Klass], rule.Bucket, why, admitByName(r.req.Row))
}

// distance is how far a new value is from the one before.
func (r *resolver) distance(i int, value int64) (int64, *policy.Refusal, error) {
	base := int64(0)
	if rule := r.req.Effects[i]; len(rule.Base) > 0 {
		b, refusal, err := r.amount(i, rule.Base)
		if refusal != nil || err != nil {
			return 0, refusal, err
		}
		base = b.amount
	}
	if base > largest || base < -largest {
		return 0, nil, fmt.Errorf("distance of %s: %w", r.req.Row.Name, money.ErrOverflow)
	}
	if value < base {
		return base - value, nil, nil
	}
	return value - base, nil, nil
}

// baseText keeps what a base look-up found as a text, for conditions that compare the answer with it.
func (r *resolver) baseText(i int) (*policy.Refusal, error) {
	rule := r.req.Effects[i]
	if rule.Distance || rule.Mode == policy.Part || len(rule.Base) == 0 {
		return nil, nil
	}
	body, refusal, err := r.object(rule.Base[0])
	if refusal != nil || err != nil {
		return refusal, err
	}
	if r.req.Bases == nil {
		r.req.Bases = map[int]string{}
	}
	r.req.Bases[i] = identity(body, rule.Base[0].Field)
	return nil, nil
}

// amount reads the first usable source.
func (r *resolver) amount(i int, list []Source) (b bound, refusal *policy.Refusal, err error) {
	src, ok := r.choose(list)
	if !ok {
		return bound{why: "its amount cannot be found out before it is sent"}, nil, nil
	}
	switch src.Kind {
	case IsZero:
		return bound{}, nil, nil
	case IsDenied:
		return bound{}, malformed("amount", "This call needs an amount, and what is not named cannot be held. Add it."), nil
	case FromRequest:
		n, ok := ParseMinor(r.req.Params.Get(src.Field), r.req.Effects[i].Signed)
		if !ok {
			return bound{}, malformed(src.Field.Param(), "The amount must be a whole number of minor units."), nil
		}
		return bound{amount: n}, nil, nil
	case FromLookup:
		return r.amountOf(src, list)
	case FromPreview:
		return r.preview(src)
	case FromWorstCase:
		return worstCases[src.Name](r, i)
	default: // the catalog's check lets no other kind through
		return bound{why: "its amount cannot be found out before it is sent"}, nil, nil
	}
}

// amountOf reads a looked-up amount. Where the object has none, a "zero" among the alternatives counts.
func (r *resolver) amountOf(src Source, list []Source) (b bound, refusal *policy.Refusal, err error) {
	body, refusal, err := r.object(src)
	if refusal != nil || err != nil {
		return bound{}, refusal, err
	}
	if k, _ := findJSON(body, src.Field); k == 0 || k == jsonNull {
		if slices.ContainsFunc(list, func(s Source) bool { return s.Kind == IsZero }) {
			return bound{}, nil, nil
		}
		return bound{}, malformed(r.paramOf(src.Ref), "The object that this call is about has no "+
			src.Field.String()+", so there is nothing to act on."), nil
	}
	n, ok := wholeNumber(body, src.Field)
	if !ok {
		return bound{}, nil, fmt.Errorf("look up %s: %s is no whole number", src.Ref.Template, src.Field)
	}
	if len(src.Minus) > 0 {
		m, ok := wholeNumber(body, src.Minus)
		if !ok {
			return bound{}, nil, fmt.Errorf("look up %s: %s is no whole number", src.Ref.Template, src.Minus)
		}
		if n < 0 || m < 0 { // also keeps the difference from overflowing
			return bound{}, nil, fmt.Errorf("look up %s: negative %s or %s", src.Ref.Template, src.Field, src.Minus)
		}
		n -= m
	}
	return bound{amount: n}, nil, nil
}

// object reads the object of a source. One that does not exist is a refusal here, in words that tell nothing
// under a customer list.
func (r *resolver) object(src Source) ([]byte, *policy.Refusal, error) {
	path, _ := src.Ref.Path(r.req.Value)
	body, refusal, err := r.fetch(src.Ref, path, r.paramOf(src.Ref))
	if body == nil && refusal == nil && err == nil {
		refusal = notAllowed(r.paramOf(src.Ref))
	}
	return body, refusal, err
}

// paramOf names the parameter that has the object's id; empty if the path has it.
func (r *resolver) paramOf(ref LookupRef) string {
	for _, name := range ref.Placeholders {
		if r.req.Params.Get(Field{name}) != nil {
			return name
		}
	}
	return ""
}

// currency reads the effect's currency. Where the object fixes it, a `currency` in the call that differs is
// refused: one of the two readings would be counted wrongly.
func (r *resolver) currency(rule *EffectRule, b bound) (money.Currency, *policy.Refusal, error) {
	src, ok := r.choose(rule.Currency)
	if !ok {
		return "", malformed("currency", "This call needs a currency. Add it."), nil
	}
	switch src.Kind {
	case FromRequest:
		return lowerCurrency(r.req.Params.Get(src.Field).Text), nil, nil
	case FromLookup:
	case FromBound:
		return b.currency, nil, nil
	default: // without a currency there is no rate, and policy denies
		return "", nil, nil
	}
	body, refusal, err := r.object(src)
	if refusal != nil || err != nil {
		return "", refusal, err
	}
	fixed := strings.ToLower(findText(body, src.Field))
	switch {
	case fixed == "" && b.amount == 0:
		return "", nil, nil // nothing is there to have a currency
	case fixed == "":
		return "", nil, fmt.Errorf("look up %s: no %s", src.Ref.Template, src.Field)
	}
	if n := r.req.Params.Get(Field{"currency"}); n != nil && !strings.EqualFold(n.Text, fixed) {
		return "", malformed("currency", "The object that this call is about is in "+strings.ToUpper(clip(fixed))+
			". Leave `currency` out or name that one."), nil
	}
	return money.Currency(fixed), nil, nil
}

// lowerCurrency is a code as the ledger has it.
func lowerCurrency(s string) money.Currency { return money.Currency(strings.ToLower(s)) }

// ceiling reads the object's authorised total for a part. It is never below what was taken already plus what
// is asked: beyond the authorisation (overcapture) every part counts.
func (r *resolver) ceiling(i int, amount int64) (int64, *policy.Refusal, error) {
	rule := r.req.Effects[i]
	if rule.Mode != policy.Part {
		return 0, nil, nil
	}
	top, refusal, err := r.amount(i, rule.Ceiling)
	if refusal != nil || err != nil {
		return 0, refusal, err
	}
	var base bound
	if len(rule.Base) > 0 {
		if base, refusal, err = r.amount(i, rule.Base); refusal != nil || err != nil {
			return 0, refusal, err
		}
	}
	if base.amount > 0 && amount > (1<<63-1)-base.amount {
		return 0, nil, fmt.Errorf("look up the total of %s: %w", rule.Bucket, money.ErrOverflow)
	}
	return max(top.amount, base.amount+amount), nil, nil
}
