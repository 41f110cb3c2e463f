package stripe

import "bytes"

// memberClass says what a member's name means to the guard, whatever the object around it. The guard goes
// by names and not by id prefixes, because Stripe takes customer ids of any form.
type memberClass uint8

const (
	memberOther memberClass = iota
	memberClientSecret
	memberSecret // of a webhook endpoint, an ephemeral key, a connection token
	memberCVC
	memberNumber
	memberExpiry
	memberCustomer
	memberCustomerAccount
	memberID
	memberObject
	memberType
	memberMetadata
)

// identity reports whether the member's value names a customer.
func (c memberClass) identity() bool { return c == memberCustomer || c == memberCustomerAccount }

// classify reads a member's name. The names were collected from every object of Stripe's OpenAPI document
// of 2026 whose name says customer or secret, and from the v2 types.
func classify(name []byte) memberClass {
	switch string(name) {
	case "client_secret":
		return memberClientSecret
	case "secret", "signing_secret":
		return memberSecret
	case "cvc":
		return memberCVC
	case "number":
		return memberNumber
	case "exp_month", "exp_year":
		return memberExpiry
	case "customer", "related_customer":
		return memberCustomer
	case "customer_account", "related_customer_account", "customer_account_id":
		return memberCustomerAccount
	case "id":
		return memberID
	case "object":
		return memberObject
	case "type":
		return memberType
	case "metadata":
		return memberMetadata
	}
	return memberOther
}

// isCustomerType reports whether an object of the type is a customer itself. `type` is how v2 events name
// what they are about; an account of v2 can be a customer, and nothing in its id tells.
func isCustomerType(t []byte) bool {
	switch string(t) {
	case "customer", "v2.core.account":
		return true
	}
	return false
}

// Lengths of card numbers (ISO/IEC 7812: up to 19 digits; the shortest in use have 12).
const (
	minPAN = 12
	maxPAN = 19
)

// isPAN reports whether a value is nothing but the digits of a card number. Invoice, quote and credit note
// numbers are called `number` too, but stand beside no expiry date.
func isPAN(b []byte, s span) bool {
	d := bytes.Trim(s.of(b), `"`)
	if len(d) < minPAN || len(d) > maxPAN {
		return false
	}
	for _, c := range d {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
