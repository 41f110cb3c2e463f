package sandbox

import (
	"fmt"
	"strings"
)

// maxExpandDepth is Stripe's limit on the levels of one expand path.
const maxExpandDepth = 4

// expansion is the tree of what a caller asked to have expanded.
type expansion struct {
	names []string
	subs  []*expansion
}

func (x *expansion) child(name string) *expansion {
	if x == nil {
		return nil
	}
	for i, n := range x.names {
		if n == name {
			return x.subs[i]
		}
	}
	return nil
}

func (x *expansion) add(path []string) {
	for _, name := range path {
		next := x.child(name)
		if next == nil {
			next = &expansion{}
			x.names = append(x.names, name)
			x.subs = append(x.subs, next)
		}
		x = next
	}
}

// kind names an object type for expansion: Stripe's "object" value, or
// kindAny where the type is open, with a "list:" prefix for lists.
type kind string

const (
	kindAny  kind = "any"
	listOf        = "list:"
	kindNone kind = ""
)

// fieldsOf says which fields of an object may be expanded and into what. Fields
// that this sandbox always leaves null are included: asking for them is no error
// at Stripe either.
type fieldsOf map[kind]map[string]kind

// expandable joins the tables of the rooms.
var expandable = join(coreFields)

// join makes one table out of several; a kind that two of them tell of is a mistake.
func join(tables ...fieldsOf) fieldsOf {
	all := fieldsOf{}
	for _, t := range tables {
		for name, fields := range t {
			if all[name] != nil {
				panic("sandbox: two tables tell of the fields of " + string(name)) // a broken table, caught by any test
			}
			all[name] = fields
		}
	}
	return all
}

var coreFields = fieldsOf{
	"customer": {"default_source": "payment_method", "sources": "list:payment_method", "test_clock": kindAny,
		"subscriptions": kindAny, "tax": kindAny, "tax_ids": kindAny, "cash_balance": kindAny, "invoice_settings": "invoice_settings"},
	"invoice_settings": {"default_payment_method": "payment_method"},
	"payment_method":   {"customer": "customer"},
	"payment_intent": {"customer": "customer", "latest_charge": "charge", "payment_method": "payment_method",
		"application": kindAny, "on_behalf_of": kindAny, "review": kindAny},
	"charge": {"customer": "customer", "payment_intent": "payment_intent", "balance_transaction": "balance_transaction",
		"refunds": "list:refund", "failure_balance_transaction": "balance_transaction", "application": kindAny,
		"application_fee": kindAny, "on_behalf_of": kindAny, "review": kindAny, "transfer": kindAny, "source_transfer": kindAny},
	"refund": {"charge": "charge", "payment_intent": "payment_intent", "balance_transaction": "balance_transaction",
		"customer": "customer", "failure_balance_transaction": "balance_transaction", "payment_method": "payment_method",
		"source_transfer_reversal": kindAny, "transfer_reversal": kindAny},
	"balance_transaction": {"source": kindAny},
	"payout": {"balance_transaction": "balance_transaction", "destination": kindAny, "original_payout": "payout",
		"failure_balance_transaction": "balance_transaction", "reversed_by": "payout", "application_fee": kindAny},
	"invoice": {"customer": "customer", "default_payment_method": "payment_method", "default_source": "payment_method",
		"payments": kindAny, "confirmation_secret": kindAny, "discounts": kindAny, "lines": kindAny},
	"invoiceitem": {"customer": "customer", "invoice": "invoice", "discounts": kindAny},
	"price":       {"product": "product", "tiers": kindAny, "currency_options": kindAny},
	"plan":        {"product": "product", "tiers": kindAny},
	"product":     {"default_price": "price"},
	"customer_balance_transaction": {"customer": "customer", "invoice": "invoice",
		"credit_note": kindAny, "checkout_session": kindAny},
}

// element is the kind of what is in a list; other kinds are their own.
func (k kind) element() kind {
	inner, _ := strings.CutPrefix(string(k), listOf)
	return kind(inner)
}

// parseExpand turns expand[] into a tree and checks each path against what the
// answer will be.
func (s *account) parseExpand(n *node, answer kind, who *credential) (*expansion, *stripeError) {
	if n.blank() {
		return nil, nil
	}
	items, ok := n.items()
	if !ok {
		return nil, errInvalid("expand", "", "Invalid array")
	}
	root := &expansion{}
	for _, item := range items {
		path := strings.Split(item.text(), ".")
		if len(path) > maxExpandDepth {
			return nil, errInvalid("expand", "", fmt.Sprintf(
				"You cannot expand more than %d levels of a property. Property: %s", maxExpandDepth, item.text()))
		}
		at := answer
		for _, name := range path {
			if at = step(at, name); at == kindNone {
				return nil, errInvalid("expand", "", "This property cannot be expanded ("+item.text()+").")
			}
			// Before anything runs: a write must not happen and then fail on its answer.
			if resource := s.scopes[at.element()]; resource != "" && !who.may(resource, Read) {
				return nil, errPermission(s, who, resource, Read)
			}
		}
		root.add(path)
	}
	return root, nil
}

// step is the kind behind a field, or kindNone where it cannot be expanded.
func step(at kind, name string) kind {
	if at == kindAny {
		return kindAny
	}
	if inner, ok := strings.CutPrefix(string(at), listOf); ok {
		if name == "data" {
			return kind(inner)
		}
		return kindNone
	}
	return expandable[at][name]
}
