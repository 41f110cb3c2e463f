package sandbox

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// Access is what a restricted key may do with a resource; the zero value is nothing.
type Access uint8

// The levels of Access, each including the one before.
const (
	None Access = iota
	Read
	Write
)

// MarshalText writes none, read or write.
func (a Access) MarshalText() ([]byte, error) {
	switch a {
	case None:
		return []byte("none"), nil
	case Read:
		return []byte("read"), nil
	case Write:
		return []byte("write"), nil
	}
	return nil, fmt.Errorf("access %d is not known", a)
}

// UnmarshalText reads none, read or write.
func (a *Access) UnmarshalText(text []byte) error {
	switch string(text) {
	case "none":
		*a = None
	case "read":
		*a = Read
	case "write":
		*a = Write
	default:
		return fmt.Errorf("access %q is not none, read or write", text)
	}
	return nil
}

// credential is a key that was recognised.
type credential struct {
	key   string
	full  bool
	perms map[string]Access
}

// group is the Stripe permission that a resource falls under where it has none
// of its own: refunds are part of charges, prices of plans, items of invoices.
var group = map[string]string{
	"accounts":                            "account",
	"customers.balance_transactions":      "customers",
	"customers.cash_balance":              "customers",
	"customers.cash_balance_transactions": "customers",
	"customers.discount":                  "coupons",
	"customers.funding_instructions":      "customers",
	"customers.sources":                   "customers",
	"invoice_payments":                    "invoices",
	"invoiceitems":                        "invoices",
	"prices":                              "plans",
	"promotion_codes":                     "coupons",
	"refunds":                             "charges",
	"setup_attempts":                      "setup_intents",
	"subscription_items":                  "subscriptions",
	"subscription_schedules":              "subscriptions",
	"subscriptions.discount":              "subscriptions",
	"tax_ids":                             "customers",
}

func (c *credential) may(resource string, need Access) bool {
	if c.full || resource == "" {
		return true
	}
	return max(c.perms[resource], c.perms[group[resource]]) >= need
}

// permissionName is Stripe's name of the missing permission.
func permissionName(resource string, need Access) string {
	if g, ok := group[resource]; ok {
		resource = g
	}
	name := map[string]string{"account": "connected_account", "balance_transactions": "balance_transaction_source", "balance": "balance"}[resource]
	if name == "" {
		name = strings.TrimSuffix(resource, "s")
	}
	if need == Write {
		return "rak_" + name + "_write"
	}
	return "rak_" + name + "_read"
}

func maskKey(key string) string {
	parts := strings.SplitN(key, "_", 3)
	head := ""
	if len(parts) == 3 {
		head, key = parts[0]+"_"+parts[1]+"_", parts[2]
	}
	if len(key) <= 4 {
		return head + strings.Repeat("*", len(key))
	}
	return head + strings.Repeat("*", min(len(key)-4, 20)) + key[len(key)-4:]
}

// secretOf takes the key out of the Authorization header, Bearer or Basic.
func secretOf(h http.Header) string {
	scheme, rest, _ := strings.Cut(h.Get("Authorization"), " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(scheme) {
	case "bearer":
		return rest
	case "basic":
		raw, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return ""
		}
		user, _, _ := strings.Cut(string(raw), ":")
		return user
	}
	return ""
}

// authenticate finds the credential behind a key.
func (s *Server) authenticate(key string) (*credential, *stripeError) {
	if key == "" {
		return nil, errUnauthorized("You did not provide an API key. You need to provide your API key in the Authorization header, " +
			"using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")
	}
	if c, ok := s.keys[key]; ok {
		return c, nil
	}
	prefix := "sk_" + string(s.opts.Mode) + "_"
	if strings.HasPrefix(key, prefix) && len(key) > len(prefix) {
		return &credential{key: key, full: true}, nil
	}
	return nil, errUnauthorized("Invalid API Key provided: " + maskKey(key))
}

// onBehalfOf is the account that a call is for: the platform, or the connected
// account that the Stripe-Account header names.
func (s *Server) onBehalfOf(who *credential, id string) (*account, *stripeError) {
	if id == "" || id == s.platform.accountID {
		return s.platform, nil
	}
	if !who.full {
		return nil, errForbidden("You passed a restricted API key with the Stripe-Account header, but the restricted API key does not have any Connect permissions.")
	}
	if a := s.connectedAccount(id); a != nil {
		return a, nil
	}
	return nil, errNoAccount(who, id)
}

// errNoAccount is an account that is not connected, or does not exist: Stripe
// does not tell which.
func errNoAccount(who *credential, account string) *stripeError {
	f := errForbidden(fmt.Sprintf("The provided key '%s' does not have access to account '%s' (or that account does not exist). "+
		"Application access may have been revoked.", maskKey(who.key), account))
	f.code = "account_invalid"
	return f
}

// AddRestrictedKey registers a restricted key (rk_test_... or rk_live_...) with
// its access per resource collection ("charges", "payment_intents", "refunds",
// ...). A resource that Stripe files under another permission (refunds under
// charges, prices under plans, invoiceitems under invoices) is also reached
// through that one. Registering a key again replaces its permissions. Safe for
// concurrent use.
func (s *Server) AddRestrictedKey(key string, perms map[string]Access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := make(map[string]Access, len(perms))
	for k, v := range perms {
		own[k] = v
	}
	s.keys[key] = &credential{key: key, perms: own}
}
