package stripe

import "github.com/keybrake/keybrake/internal/policy"

// customerTie says whose objects a call touches, as far as the call alone tells.
func customerTie(req *Request) policy.CustomerTie {
	rule := &req.Row.Customer
	tie := policy.CustomerTie{Kind: policy.TieKnown}
	switch rule.Form {
	case CustomerPath:
		id, _ := req.Value(rule.Name)
		tie.Customers = []policy.CustomerID{policy.CustomerID(id)}
	case CustomerParam:
		tie.Add = rule.Param.Param()
		// A call without its customer is for nobody in particular: a guest.
		tie.Guest = !addCustomers(&tie, req.Params, rule.Param)
	case CustomerLookup, CustomerParent:
		tie.Kind = policy.TieLookup
	case CustomerListFilter:
		return filterTie(req)
	case CustomerNone:
		tie.Kind = policy.TieNone
	default:
		// A call that makes a customer touches none that exists, but by its parameters.
		if tie.Kind = policy.TieUnfilterable; rule.Creates {
			tie.Kind = policy.TieNone
		}
	}
	named, lookups := addChecks(&tie, req)
	switch {
	case tie.Kind == policy.TieUnfilterable:
	case lookups:
		tie.Kind = policy.TieLookup
	case named && tie.Kind == policy.TieNone:
		tie.Kind = policy.TieKnown
	}
	// A second identity in place of the first is a customer all the same.
	if tie.Guest && len(tie.Customers) > 0 {
		tie.Guest = false
	}
	return tie
}

// addChecks adds the customers that further parameters name. lookups is true if one names an object whose
// customer only Stripe knows.
func addChecks(tie *policy.CustomerTie, req *Request) (named, lookups bool) {
	for i := range req.Row.Customer.Checks {
		c := &req.Row.Customer.Checks[i]
		if c.Direct {
			named = addCustomers(tie, req.Params, c.Field) || named
			continue
		}
		for _, n := range req.Params.All(c.Field, nil) {
			lookups = lookups || !n.Plain() || n.Text != ""
		}
	}
	return named, lookups
}

// addCustomers adds the ids that a parameter holds. An empty one takes a customer away and names none. A
// parameter that is no plain value is kept as a customer that nobody has: it can be allowed by no list.
func addCustomers(tie *policy.CustomerTie, p *Params, f Field) (found bool) {
	for _, n := range p.All(f, nil) {
		switch {
		case !n.Plain():
			tie.Customers = append(tie.Customers, policy.CustomerID("("+f.Param()+")"))
		case n.Text == "":
			continue
		default:
			tie.Customers = append(tie.Customers, policy.CustomerID(n.Text))
		}
		found = true
	}
	return found
}

// filterTie ties a list to the customers of its filters. Every filter that is there must lead to an allowed
// one; without any the list shows everybody's objects.
func filterTie(req *Request) policy.CustomerTie {
	rule := &req.Row.Customer
	tie := policy.CustomerTie{Kind: policy.TieKnown, Add: rule.Param.Param()}
	if rule.Search {
		if n := req.Params.Get(rule.Param); n != nil && n.Plain() {
			if id, ok := searchCustomer(n.Text); ok {
				tie.Customers = []policy.CustomerID{policy.CustomerID(id)}
				return tie
			}
		}
		tie.Kind = policy.TieFilter
		tie.Add = `query with customer:"cus_...", joined to the rest by AND only`
		return tie
	}
	named, lookups := addChecks(&tie, req)
	switch {
	case lookups:
		tie.Kind = policy.TieLookup
	case !named:
		tie.Kind = policy.TieFilter
	}
	return tie
}
