package stripe

import (
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// noSuchCustomer stands for the customer of an object that does not exist. It is on no list, so the call is
// denied in the very words of a foreign customer's, and ids cannot be probed.
const noSuchCustomer policy.CustomerID = ""

// customers completes the call's tie. Every object that the call names is followed to its customer; an
// object without one makes the call a guest's.
func (r *resolver) customers() (*policy.Refusal, error) {
	rule := &r.req.Row.Customer
	tie := policy.CustomerTie{Kind: policy.TieKnown, Add: r.call.Operation.Customer.Add}
	refusal, err := r.mainCustomer(rule, &tie)
	if refusal != nil || err != nil {
		return refusal, err
	}
	for i := range rule.Checks {
		if refusal, err := r.checked(&rule.Checks[i], &tie); refusal != nil || err != nil {
			return refusal, err
		}
	}
	touchesNobody := rule.Form == CustomerNone || rule.Creates
	if tie.Kind == policy.TieKnown && len(tie.Customers) == 0 && !tie.Guest && touchesNobody {
		tie.Kind = policy.TieNone
	}
	r.call.Operation.Customer = tie
	return nil, nil
}

// mainCustomer follows the row's own rule. A call that could name its customer and does not is left without
// one, and denied: policy says so where it judges an empty list.
func (r *resolver) mainCustomer(rule *CustomerRule, tie *policy.CustomerTie) (*policy.Refusal, error) {
	switch rule.Form {
	case CustomerPath:
		if id, ok := r.req.Value(rule.Name); ok {
			addCustomer(tie, policy.CustomerID(id))
		}
	case CustomerParam:
		if n := r.req.Params.Get(rule.Param); n != nil && n.Plain() && n.Text != "" {
			addCustomer(tie, policy.CustomerID(n.Text))
		}
	case CustomerLookup, CustomerParent:
		for _, chain := range rule.Chains {
			if len(chain) == 0 {
				continue
			}
			if _, ok := chain[0].Ref.Path(r.req.Value); ok {
				return r.follow(chain, r.req.Value, tie)
			}
		}
		tie.Kind = policy.TieUnfilterable
	case CustomerListFilter:
		if rule.Search {
			tie.Kind = policy.TieUnfilterable
		}
	case CustomerNone:
	default:
		if !rule.Creates { // a call that makes a customer touches none that exists, but by its parameters
			tie.Kind = policy.TieUnfilterable
		}
	}
	return nil, nil
}

// checked follows every value of one parameter.
func (r *resolver) checked(c *Check, tie *policy.CustomerTie) (*policy.Refusal, error) {
	for _, n := range r.req.Params.All(c.Field, nil) {
		switch {
		case n.Kind == Null || n.Plain() && n.Text == "":
			continue // takes something away, names nobody
		case !n.Plain():
			tie.Kind = policy.TieUnfilterable
			return nil, nil
		case c.Direct:
			addCustomer(tie, policy.CustomerID(n.Text))
			continue
		}
		i := slices.IndexFunc(c.Chains, func(pc PrefixedChain) bool { return strings.HasPrefix(n.Text, pc.Prefix) })
		if i < 0 {
			tie.Kind = policy.TieUnfilterable
			return nil, nil
		}
		refusal, err := r.follow(c.Chains[i].Chain, func(string) (string, bool) { return n.Text, true }, tie)
		if refusal != nil || err != nil {
			return refusal, err
		}
	}
	return nil, nil
}

func addCustomer(tie *policy.CustomerTie, id policy.CustomerID) {
	if !slices.Contains(tie.Customers, id) {
		tie.Customers = append(tie.Customers, id)
	}
}

// follow walks a chain to its customer. value fills the placeholders of the first step; what one step finds
// fills those of the next.
func (r *resolver) follow(chain Chain, value func(string) (string, bool), tie *policy.CustomerTie) (*policy.Refusal, error) {
	for i, step := range chain {
		path, ok := step.Ref.Path(value)
		if !ok {
			tie.Kind = policy.TieUnfilterable
			return nil, nil
		}
		found, refusal, err := r.step(step, path)
		switch {
		case refusal != nil || err != nil:
			return refusal, err
		case !found.exists:
			addCustomer(tie, noSuchCustomer)
			return nil, nil
		case found.id == "":
			tie.Guest = true
			return nil, nil
		case i == len(chain)-1:
			addCustomer(tie, policy.CustomerID(found.id))
			return nil, nil
		}
		value = func(string) (string, bool) { return found.id, true }
	}
	tie.Kind = policy.TieUnfilterable
	return nil, nil
}

// stepResult is what one look-up of a chain found; no id means that the object leads nowhere.
type stepResult struct {
	exists bool
	id     string
}

func (r *resolver) step(s Step, path string) (stepResult, *policy.Refusal, error) {
	e, lasting := edgeOf(r.call, s.Ref, path, s.Field)
	if _, here := r.fetched[path]; lasting && !here && !r.wants(s.Ref) {
		if id, ok := r.edge.get(e); ok {
			return stepResult{exists: true, id: string(id)}, nil, nil
		}
	}
	body, refusal, err := r.fetch(s.Ref, path, "")
	if refusal != nil || err != nil || body == nil {
		return stepResult{}, refusal, err
	}
	id := identity(body, s.Field)
	if lasting && id != "" {
		r.edge.put(e, policy.CustomerID(id))
	}
	return stepResult{exists: true, id: id}, nil, nil
}

// seenCustomers adds to the call's tie the customers of objects that were looked up for other reasons or are
// remembered. Nothing is judged by it: it is for the record, where every customer is allowed.
func (r *resolver) seenCustomers() {
	tie := &r.call.Operation.Customer
	keep := func(chain Chain, value func(string) (string, bool)) {
		if id := r.seen(chain, value); id != "" {
			addCustomer(tie, id)
		}
	}
	for _, chain := range r.req.Row.Customer.Chains {
		keep(chain, r.req.Value)
	}
	for i := range r.req.Row.Customer.Checks {
		c := &r.req.Row.Customer.Checks[i]
		for _, n := range r.req.Params.All(c.Field, nil) {
			for _, pc := range c.Chains {
				if n.Plain() && n.Text != "" && strings.HasPrefix(n.Text, pc.Prefix) {
					keep(pc.Chain, func(string) (string, bool) { return n.Text, true })
				}
			}
		}
	}
}

// seen walks a chain as far as nothing has to be looked up; empty if it does not reach a customer.
func (r *resolver) seen(chain Chain, value func(string) (string, bool)) (id policy.CustomerID) {
	for _, step := range chain {
		path, ok := step.Ref.Path(value)
		if !ok {
			return ""
		}
		e, lasting := edgeOf(r.call, step.Ref, path, step.Field)
		if body, fetched := r.fetched[path]; fetched {
			id = policy.CustomerID(identity(body, step.Field))
		} else if id, ok = r.edge.get(e); !ok {
			return ""
		}
		if lasting && id != "" {
			r.edge.put(e, id)
		}
		next := string(id)
		value = func(string) (string, bool) { return next, next != "" }
	}
	return id
}

// wants reports whether the amounts need the object too, so that asking the cache would save nothing.
func (r *resolver) wants(ref LookupRef) bool {
	return slices.ContainsFunc(r.wanted, func(w LookupRef) bool { return w.Template == ref.Template })
}

// identity reads an id in any of its forms: a string, or the object expanded. Anything else is nobody.
func identity(body []byte, f Field) string {
	if k, _ := findJSON(body, f); k == jsonObject {
		return findText(body, append(slices.Clone(f), "id"))
	}
	return findText(body, f)
}
