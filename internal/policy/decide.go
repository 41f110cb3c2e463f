package policy

import (
	"slices"
	"strings"
)

// noOperation and noPolicy stand in for nil: both deny.
var (
	noOperation Operation
	noPolicy    Policy
)

// Decide says whether the policy allows the operation. It judges every rule that needs no account:
// scopes, connected account, parameters, customers, countable amounts, the presence of caps, caps per
// call. What is earlier (key, expiry, network, mode, brake) and what needs an account (caps over time) is
// judged elsewhere.
//
// Before resolution (op.Resolved false) it judges what is known and leaves the rest open: an Allow then
// means only that no denial is certain yet. After resolution whatever is still open is a denial.
//
// Failures come in the order of the rules; under Shadow those that deny all the same come first. Decide is
// pure and safe for concurrent use, as long as nobody changes its arguments. A call that breaks no rule
// costs no allocation, unless the policy has parameter rules for it.
func Decide(p *Policy, op *Operation) Decision {
	if p == nil {
		p = &noPolicy
	}
	if op == nil {
		op = &noOperation
	}
	if op.Name == "" || op.Resource == "" || (op.Access != Read && op.Access != Write) {
		return verdict(p, []Failure{unknownRoute(op)})
	}
	var f []Failure
	if op.Refused != nil {
		f = append(f, refused(op.Refused))
	}
	f = scopeFailures(f, p, op)
	f = accountFailures(f, p, op)
	f = paramFailures(f, p, op)
	f = customerFailures(f, p, op)
	f = amountFailures(f, p, op)
	f = capMissing(f, p, op)
	f = perCallFailures(f, p, op)
	return verdict(p, f)
}

// verdict turns failures into the decision.
func verdict(p *Policy, failures []Failure) Decision {
	if len(failures) == 0 {
		return Decision{Verdict: Allow}
	}
	if p.Enforcement != Shadow {
		return Decision{Verdict: Deny, Failures: failures}
	}
	var hard, soft []Failure
	for _, f := range failures {
		if f.Soft {
			soft = append(soft, f)
		} else {
			hard = append(hard, f)
		}
	}
	if hard == nil {
		return Decision{Verdict: Allow, Failures: soft, Shadowed: true}
	}
	return Decision{Verdict: Deny, Failures: append(hard, soft...)}
}

func unknownRoute(op *Operation) Failure {
	if op.Refused != nil {
		return refused(op.Refused)
	}
	return Failure{
		Code: CodeUnknownRoute, Rule: "catalog",
		Message: "This route is not in the catalog, and what is not known is refused. Use a route of the vendor's " +
			"documented API, or update Keybrake if the route is new.",
	}
}

func refused(r *Refusal) Failure {
	code, message := r.Code, r.Message
	if code == "" {
		code = CodeUnknownRoute
	}
	if message == "" {
		message = "The catalog refuses this operation for every key."
	}
	return Failure{Code: code, Rule: "catalog", Param: r.Param, Message: message}
}

func scopeFailures(f []Failure, p *Policy, op *Operation) []Failure {
	if p.Scope(op.Resource) < op.Access {
		f = append(f, scopeFailure(p, op, op.Resource, op.Access, ""))
	}
	for _, n := range op.Needs {
		if needed := max(n.Access, Read); p.Scope(n.Resource) < needed {
			f = append(f, scopeFailure(p, op, n.Resource, needed, n.Because))
		}
	}
	for i, e := range op.Effects {
		own := e.Bucket == op.Resource && op.Access == Write
		if own || p.Scope(e.Bucket) == Write || bucketSeen(op.Effects[:i], e.Bucket) {
			continue
		}
		f = append(f, scopeFailure(p, op, e.Bucket, Write, "it moves money there"))
	}
	return f
}

func scopeFailure(p *Policy, op *Operation, r Resource, a Access, because string) Failure {
	granted := p.Scope(r)
	rule := r
	if _, named := p.Scopes[r]; !named {
		if _, wild := p.Scopes[AllResources]; wild {
			rule = AllResources
		}
	}
	var b strings.Builder
	b.WriteString("This key may not ")
	b.WriteString(a.String())
	b.WriteString(" " + string(r) + ", which " + string(op.Name) + " needs")
	if because != "" {
		b.WriteString(" (" + because + ")")
	}
	b.WriteString(": its scope there is " + granted.String() + ". Add `" + string(r) + ": " + a.String() +
		"` to the policy's scopes to allow it.")
	return Failure{Code: CodeScopeDenied, Rule: "scopes." + string(rule), Message: b.String(), Soft: true}
}

func bucketSeen(before []Effect, bucket Resource) bool {
	for i := range before {
		if before[i].Bucket == bucket {
			return true
		}
	}
	return false
}

func accountFailures(f []Failure, p *Policy, op *Operation) []Failure {
	if op.Account == "" || slices.Contains(p.Accounts, op.Account) {
		return f
	}
	return append(f, Failure{
		Code: CodeAccountDenied, Rule: "accounts",
		Message: "This call acts for a connected account that is not among this key's accounts. Leave the account " +
			"out, or add it to the policy's `accounts`.",
	})
}

// customerFailures names no customer: one that a look-up found must not be told to an agent that may not
// see it.
func customerFailures(f []Failure, p *Policy, op *Operation) []Failure {
	if p.Customers.Any {
		return f
	}
	fail := func(param, message string) []Failure {
		return append(f, Failure{Code: CodeCustomerDenied, Rule: "customers", Param: param, Message: message, Soft: true})
	}
	tie := &op.Customer
	for _, id := range tie.Customers {
		if !p.Customers.Allows(id) {
			return fail("", "This call concerns a customer that is not among this key's customers. Add the customer to the "+
				"policy's `customers` to allow it.")
		}
	}
	if tie.Guest {
		return fail("", "This call concerns an object without a customer, and a guest is not an allowed customer. Only a "+
			"policy with `customers: any` allows it.")
	}
	if op.CreatesCustomer {
		if !p.MayCreate {
			return fail("", "This key is bound to a list of customers and may not create one. Set `may_create_customers: true` "+
				"in the policy to allow it; the new customer then joins the list.")
		}
	}
	switch tie.Kind {
	case TieNone:
		return f
	case TieKnown:
		if len(tie.Customers) > 0 || op.CreatesCustomer {
			return f
		}
		return fail("", "This call names no customer, and this key is bound to a list of customers. Name one of them.")
	case TieLookup:
		if !op.Resolved {
			return f
		}
		return fail("", "The customer of this call could not be found out, and this key is bound to a list of customers. Only "+
			"a policy with `customers: any` allows it.")
	case TieFilter:
		return fail(tie.Add, "This list may show objects of any customer, and this key is bound to a list of customers. Add "+
			"the parameter `"+tie.Add+"` so that it shows those of one of them.")
	default:
		if op.CreatesCustomer {
			return fail("", "This call gives the new customer something whose present customer cannot be found out, and this key is "+
				"bound to a list of customers. Create the customer without it.")
		}
		if slices.Contains(p.NoCustomer, op.Name) {
			return f
		}
		return fail("", string(op.Name)+" may concern any customer, and this key is bound to a list of customers. List "+
			"the operation under `no_customer` in the policy to allow it all the same.")
	}
}
