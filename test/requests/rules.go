package requests

import (
	"slices"
	"strings"
)

// rule is what an operation demands beyond the document.
type rule struct {
	why string
	// with: optional parameters that every request has all the same.
	with []string
	// without: parameters that cannot stand beside the others.
	without []string
}

// rules by method and path. The contract test fails on one that is no longer needed.
var rules = map[string]rule{
	"POST /v1/billing/credit_grants": {
		why:  "a grant's amount says how much it is",
		with: []string{"amount[monetary]"},
	},
	"POST /v1/charges": {
		why:  "a charge has an amount and a currency",
		with: []string{"amount", "currency"},
	},
	"POST /v1/refunds": {
		why:  "a refund is of one charge, of one payment intent, or of a customer's cash balance",
		with: []string{"charge"}, without: []string{"payment_intent", "origin", "customer"},
	},
	"POST /v1/terminal/readers/{reader}/refund_payment": {
		why:  "a refund is of one charge or of one payment intent",
		with: []string{"charge"}, without: []string{"payment_intent"},
	},
	"POST /v1/transfers": {
		why:  "a transfer has an amount",
		with: []string{"amount"},
	},
}

// Why says what the rules of an operation are for: its own, and the one for all about card data.
func Why(method, path string) string {
	if r, ok := rules[method+" "+path]; ok {
		return r.why
	}
	return "card data never passes through Keybrake"
}

func (r rule) adds(name string) bool { return slices.Contains(r.with, name) }

// cardData are members that never pass through Keybrake: a card's number and its code.
var cardData = []string{"cvc", "number"}

func (r rule) leavesOut(name string) bool {
	member := strings.Contains(name, "[")
	return slices.Contains(r.without, name) || member && slices.Contains(cardData, lastName(name))
}
