package stripe

import (
	"context"
	"errors"
	"fmt"
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
	r := &resolver{ctx: ctx, call: call, req: req, p: p, look: look, edge: &a.edges, fetched: make(map[string][]byte)}
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
		if refusal, err := r.effect(req.Effects[i], &call.Operation.Effects[i]); refusal != nil || err != nil {
			return refusal, err
		}
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
		for _, list := range [][]Source{r.amountSources(rule), rule.Floor, rule.Base, rule.Currency, rule.Ceiling} {
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

// amountSources returns where the amount comes from: the request, and if it is not there the alternatives.
func (r *resolver) amountSources(rule *EffectRule) []Source {
	if _, ok := r.choose(rule.Amount); ok || len(rule.Absent) == 0 {
		return rule.Amount
	}
	return rule.Absent
}

// effect completes one effect and pins its amount.
func (r *resolver) effect(rule *EffectRule, e *policy.Effect) (*policy.Refusal, error) {
	if e.Known || e.Unmeterable {
		return nil, nil
	}
	amount, found, refusal, err := r.amount(r.amountSources(rule))
	if refusal != nil || err != nil {
		return refusal, err
	}
	if !found {
		e.Unmeterable, e.Why = true, "its amount cannot be found out before it is sent"
		return nil, nil
	}
	if rule.Signed && amount < 0 {
		amount = -amount
	}
	resolved := len(rule.Pin) > 0 && r.req.Params.Get(rule.Pin) == nil
	if amount < 0 || resolved && amount == 0 {
		return malformed(rule.Pin.Param(), "Nothing is left on the object that this call is about, so there is no amount to hold and to send."), nil
	}
	floor, found, refusal, err := r.amount(rule.Floor)
	if refusal != nil || err != nil {
		return refusal, err
	}
	if found {
		amount = max(amount, floor)
	}
	currency, refusal, err := r.currency(rule)
	if refusal != nil || err != nil {
		return refusal, err
	}
	if e.Ceiling, refusal, err = r.ceiling(rule, amount); refusal != nil || err != nil {
		return refusal, err
	}
	e.Amount, e.Mode, e.Known = money.Amount{Minor: amount, Currency: currency}, rule.Mode, true
	if id, ok := r.req.Value(rule.ObjectFrom); ok && rule.ObjectFrom != "" {
		e.Object = policy.ObjectID(id)
	}
	if resolved {
		r.req.Params.Set(rule.Pin, strconv.FormatInt(amount, 10))
		r.call.Body = r.req.Params.Encode()
		// A call without any parameter had none for the policy's rules to judge; now it has.
		r.call.Operation.Params = r.req.Params
	}
	return nil, nil
}

// amount reads the first usable source; found is false where none can be used.
func (r *resolver) amount(list []Source) (n int64, found bool, refusal *policy.Refusal, err error) {
	src, ok := r.choose(list)
	if !ok {
		return 0, false, nil, nil
	}
	switch src.Kind {
	case IsZero:
		return 0, true, nil, nil
	case IsDenied:
		return 0, false, malformed("amount", "This call needs an amount, and what is not named cannot be held. Add it."), nil
	case FromRequest:
		text := r.req.Params.Get(src.Field).Text
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, false, malformed(src.Field.Param(), "The amount must be a whole number of minor units."), nil
		}
		return n, true, nil, nil
	case FromLookup:
		return r.amountOf(src)
	default: // previews and worst cases: no bound is known, so the effect stays unmeterable
		return 0, false, nil, nil
	}
}

func (r *resolver) amountOf(src Source) (n int64, found bool, refusal *policy.Refusal, err error) {
	body, refusal, err := r.object(src)
	if refusal != nil || err != nil {
		return 0, false, refusal, err
	}
	if k, _ := findJSON(body, src.Field); k == 0 || k == jsonNull {
		return 0, false, malformed(r.paramOf(src.Ref), "The object that this call is about has no "+
			src.Field.String()+", so there is nothing to act on."), nil
	}
	n, ok := wholeNumber(body, src.Field)
	if !ok {
		return 0, false, nil, fmt.Errorf("look up %s: %s is no whole number", src.Ref.Template, src.Field)
	}
	if len(src.Minus) > 0 {
		m, ok := wholeNumber(body, src.Minus)
		if !ok {
			return 0, false, nil, fmt.Errorf("look up %s: %s is no whole number", src.Ref.Template, src.Minus)
		}
		if n < 0 || m < 0 { // also keeps the difference from overflowing
			return 0, false, nil, fmt.Errorf("look up %s: negative %s or %s", src.Ref.Template, src.Field, src.Minus)
		}
		n -= m
	}
	return n, true, nil, nil
}

// object reads the object of a source. One that does not exist is a refusal here, in words that tell nothing
// under a customer list.
func (r *resolver) object(src Source) ([]byte, *policy.Refusal, error) {
	path, _ := src.Ref.Path(r.req.Value)
	body, refusal, err := r.fetch(src.Ref, path, r.paramOf(src.Ref))
	if body == nil && refusal == nil && err == nil {
		refusal = &policy.Refusal{Code: policy.CodeCustomerDenied, Param: r.paramOf(src.Ref),
			Message: "This call concerns an object that is not among those of this key's customers."}
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
func (r *resolver) currency(rule *EffectRule) (money.Currency, *policy.Refusal, error) {
	src, ok := r.choose(rule.Currency)
	if !ok {
		return "", malformed("currency", "This call needs a currency. Add it."), nil
	}
	switch src.Kind {
	case FromRequest:
		return money.Currency(strings.ToLower(r.req.Params.Get(src.Field).Text)), nil, nil
	case FromLookup:
	default: // the account's default is not known: without a currency there is no rate, and policy denies
		return "", nil, nil
	}
	body, refusal, err := r.object(src)
	if refusal != nil || err != nil {
		return "", refusal, err
	}
	fixed := strings.ToLower(findText(body, src.Field))
	if fixed == "" {
		return "", nil, fmt.Errorf("look up %s: no %s", src.Ref.Template, src.Field)
	}
	if n := r.req.Params.Get(Field{"currency"}); n != nil && !strings.EqualFold(n.Text, fixed) {
		return "", malformed("currency", "The object that this call is about is in "+strings.ToUpper(clip(fixed))+
			". Leave `currency` out or name that one."), nil
	}
	return money.Currency(fixed), nil, nil
}

// ceiling reads the object's authorised total for a part. It is never below what was taken already plus what
// is asked: beyond the authorisation (overcapture) every part counts.
func (r *resolver) ceiling(rule *EffectRule, amount int64) (int64, *policy.Refusal, error) {
	if rule.Mode != policy.Part {
		return 0, nil, nil
	}
	top, _, refusal, err := r.amount(rule.Ceiling)
	if refusal != nil || err != nil {
		return 0, refusal, err
	}
	base, _, refusal, err := r.amount(rule.Base)
	if refusal != nil || err != nil {
		return 0, refusal, err
	}
	if base > 0 && amount > (1<<63-1)-base {
		return 0, nil, fmt.Errorf("look up the total of %s: %w", rule.Bucket, money.ErrOverflow)
	}
	return max(top, base+amount), nil, nil
}
