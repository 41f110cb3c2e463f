package stripe

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// dashboard is where people make restricted keys; test mode has a path of its own.
const dashboard = "https://dashboard.stripe.com"

// RestrictedKey describes the least restricted key of Stripe's under which a policy works: what an upstream
// must hold for it.
type RestrictedKey struct {
	// Link opens the page of Stripe's Dashboard that makes the key, with the permissions ticked. The page ignores
	// names that it does not know, so Permissions are worth a look before the key is made.
	Link string
	// Permissions are Stripe's names, with "rak_", sorted. Write implies Read there too.
	Permissions []string
	// Notes say what the link cannot: what has no name, what a permission opens beside, what Keybrake itself
	// reads. One sentence each.
	Notes []string
}

// RestrictedKey works out the least restricted key for a policy: what its scopes open, and what Keybrake itself
// reads to judge and settle its calls. name is what the key will be called in the Dashboard.
func (c *Catalog) RestrictedKey(p *policy.Policy, name string, live bool) RestrictedKey {
	w := wish{policy: p, all: c.Permissions(), scopes: map[policy.Resource]policy.Access{}, own: map[policy.Resource]bool{}}
	w.fromScopes()
	w.fromLookups(c)
	names := w.names()
	link := dashboard
	if !live {
		link += "/test"
	}
	link += "/apikeys/create?name=" + url.QueryEscape(name)
	for _, n := range names {
		link += "&permissions[]=" + n
	}
	return RestrictedKey{Link: link, Permissions: names, Notes: w.notes()}
}

// wish collects what a restricted key has to open.
type wish struct {
	policy *policy.Policy
	all    []Permission
	scopes map[policy.Resource]policy.Access // what the policy opens
	own    map[policy.Resource]bool          // what Keybrake reads for itself
	posts  []string                          // routes among them that are a POST
}

func (w *wish) fromScopes() {
	for i := range w.all {
		p := &w.all[i]
		access := w.policy.Scope(p.Resource)
		if access == policy.Write && !p.Writable() {
			access = policy.Read
		}
		if access > policy.None {
			w.scopes[p.Resource] = access
		}
	}
}

// fromLookups adds what Keybrake reads to judge the calls that the scopes admit: amounts, currencies, under a
// list customers; and events and balance transactions, from which outcomes are learned.
func (w *wish) fromLookups(c *Catalog) {
	for i := range w.all {
		for _, op := range w.all[i].Operations {
			if w.scopes[op.Resource] < op.Access {
				continue
			}
			refs, resources := c.moneyReads(op.Row, w.scopes)
			if !w.policy.Customers.Any {
				refs = append(refs, op.Row.customerReads()...)
			}
			for _, ref := range refs {
				resources = append(resources, c.reads(ref)...)
				if route := ref.Method + " " + ref.Template; ref.Method == "POST" && !slices.Contains(w.posts, route) {
					w.posts = append(w.posts, route)
				}
			}
			if slices.ContainsFunc(op.Moves, func(m Movement) bool { return m.Counted }) {
				resources = append(resources, "events", "balance_transactions")
			}
			for _, r := range resources {
				w.own[r] = true
			}
		}
	}
	for r := range w.scopes {
		delete(w.own, r) // write implies read
	}
}

// worstCaseReads says what each worst case may look up beside what the tables say.
var worstCaseReads = map[string][]policy.Resource{
	"account_balance":      {"treasury.financial_accounts"},
	"amount":               {},
	"line_items":           {"prices", "shipping_rates", "tax_rates"},
	"line_price":           {"prices", "tax_rates"},
	"lines":                {"prices", "tax_rates"},
	"metric_tons":          {"climate.products"},
	"payment_link":         {"prices", "shipping_rates", "tax_rates"},
	"phases":               {"prices", "tax_rates"},
	"recurring_item":       {"prices", "subscription_items", "tax_rates"},
	"recurring_line_items": {"prices", "tax_rates"},
	"recurring_period":     {"prices", "subscriptions", "tax_rates"},
	"removed_credit":       {"invoiceitems"},
	"removed_lines":        {"invoices"},
	"sends_on":             {"payment_intents"},
	"spending_limits":      {},
}

// moneyReads lists what may be looked up for the amounts of a row's calls. A call that moves money of a bucket
// which the scopes do not let it write is denied before anything is looked up.
func (c *Catalog) moneyReads(r *Row, scopes map[policy.Resource]policy.Access) (refs []LookupRef, resources []policy.Resource) {
	var follow func(Source)
	follow = func(s Source) {
		switch s.Kind {
		case FromLookup:
			refs = append(refs, s.Ref)
		case FromWorstCase:
			resources = append(resources, worstCaseReads[s.Name]...)
		case FromPreview:
			preview := c.previews[s.Name]
			refs = append(refs, preview.Ref)
			for _, p := range preview.Send {
				follow(p.Source)
			}
		}
	}
	for _, e := range r.Money.Effects {
		if scopes[e.Bucket] != policy.Write {
			continue
		}
		for _, list := range [][]Source{e.Amount, e.Absent, e.Floor, e.Base, e.Currency, e.Ceiling, e.Settle} {
			for _, s := range list {
				follow(s)
			}
		}
	}
	return refs, resources
}

// customerReads lists what may be looked up for the customers of a row's calls.
func (r *Row) customerReads() []LookupRef {
	var out []LookupRef
	for _, chain := range r.Customer.Chains {
		for _, step := range chain {
			out = append(out, step.Ref)
		}
	}
	for _, check := range r.Customer.Checks {
		for _, chain := range check.Chains {
			for _, step := range chain.Chain {
				out = append(out, step.Ref)
			}
		}
	}
	return out
}

// reads lists the resources that a look-up opens: the object's own, and those that it expands.
func (c *Catalog) reads(ref LookupRef) []policy.Resource {
	path, _ := ref.Path(func(string) (string, bool) { return "x", true })
	row, _, refusal := c.routes.match(ref.Method, path, nil)
	if refusal != nil {
		return nil // the tables were checked when they were loaded
	}
	out := []policy.Resource{row.Resource}
	if params, refusal := parseForm(ref.Query); refusal == nil && !params.Empty() {
		needs, _ := c.expands.needs(row, params, nil)
		for _, n := range needs {
			out = append(out, n.Resource)
		}
	}
	return out
}

// names lists Stripe's names for all of it. A name for reading goes where the same thing is written.
func (w *wish) names() []string {
	set := map[string]bool{}
	for i := range w.all {
		p := &w.all[i]
		switch {
		case w.scopes[p.Resource] == policy.Write:
			addNames(set, p.RestrictedWrite)
			if len(p.RestrictedWrite) == 0 {
				addNames(set, p.RestrictedRead)
			}
		case w.scopes[p.Resource] == policy.Read || w.own[p.Resource]:
			addNames(set, p.RestrictedRead)
		}
	}
	for name := range set {
		if stem, read := strings.CutSuffix(name, "_read"); read && set[stem+"_write"] {
			delete(set, name)
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func addNames(set map[string]bool, names []string) {
	for _, n := range names {
		set["rak_"+n] = true
	}
}

func (w *wish) notes() []string {
	var out []string
	var own, byHand []string
	for i := range w.all {
		p := &w.all[i]
		access := w.scopes[p.Resource]
		if w.own[p.Resource] {
			own = append(own, string(p.Resource))
			access = policy.Read
		}
		if access == policy.Write && len(p.RestrictedWrite) == 0 || access == policy.Read && len(p.RestrictedRead) == 0 {
			byHand = append(byHand, string(p.Resource)+" ("+access.String()+")")
		}
		if access > policy.None && p.RestrictedNote != "" {
			out = append(out, string(p.Resource)+": "+p.RestrictedNote)
		}
	}
	if len(own) > 0 {
		out = append(out, "Keybrake itself reads "+strings.Join(own, ", ")+": amounts and customers before a call, outcomes after it.")
	}
	for _, route := range w.posts {
		out = append(out, "Keybrake asks "+route+" for a preview, which changes nothing; if Stripe refuses it to the restricted key, tick Write there.")
	}
	out = append(out, w.beside()...)
	if len(w.policy.Accounts) > 0 {
		out = append(out, "Acting for connected accounts takes the Connect permissions of the same rows, which the link does not tick.")
	}
	if slices.ContainsFunc(w.all, func(p Permission) bool {
		return strings.HasPrefix(string(p.Resource), "v2.") && w.scopes[p.Resource] > policy.None
	}) {
		out = append(out, "Stripe's pages have not always said that restricted keys work on /v2: try it in test mode first.")
	}
	if len(byHand) > 0 {
		out = append(out, "No name of Stripe's is known for "+strings.Join(byHand, ", ")+": tick it by hand.")
	}
	return out
}

// beside names what a permission opens at Stripe and the policy does not: there the vault key is narrower than
// any restricted key can be.
func (w *wish) beside() []string {
	opened := map[string][]string{}
	for i := range w.all {
		p := &w.all[i]
		if w.scopes[p.Resource] == policy.Write || !p.Writable() {
			continue
		}
		for _, name := range p.RestrictedWrite {
			opened[name] = append(opened[name], string(p.Resource))
		}
	}
	var out []string
	for i := range w.all {
		p := &w.all[i]
		if w.scopes[p.Resource] != policy.Write {
			continue
		}
		for _, name := range p.RestrictedWrite {
			if others := opened[name]; len(others) > 0 {
				out = append(out, fmt.Sprintf("rak_%s also opens writing %s at Stripe; the vault key does not.", name, strings.Join(others, ", ")))
				delete(opened, name)
			}
		}
	}
	return out
}
