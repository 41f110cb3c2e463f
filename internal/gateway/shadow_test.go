package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestShadowMarksAndRefusesNothingOfItsKind(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(`
name: agent-support-shadow-test
scopes: {charges: read, refunds: write}
caps: [{resource: refunds, per: day, usd: 10.00}]
customers: any
enforcement: shadow
`)
	charge := w.Seeded.Customers[0].Charges[0]
	w.refund(key, charge, "2000").want(t, 200, "")
	if got := w.lastOf(audit.KindIntent); !got.Shadowed || len(got.Failures) == 0 || got.Failures[0].Code != policy.CodeCapExceeded {
		t.Errorf("recorded as %+v", got)
	}
	w.wantUSD(k.ID, "refunds", 0, 2000)
	w.call(key, "POST", "/v1/refunds", "charge="+charge+"&amount=1&amount=2").want(t, 400, "keybrake_request_malformed")
	w.call(key, "GET", "/v1/unheard", "").want(t, 401, "keybrake_scope_denied")
}

// shadowPolicy refuses nearly everything, in shadow.
const shadowPolicy = `
name: agent-support-shadow-test
scopes: {charges: read, refunds: write, customers: none}
caps:
  - {resource: refunds, per: day, usd: 10.00}
  - {resource: refunds, per: call, usd: 5.00}
  - {resource: refunds, per: hour, calls: 1}
customers: [CUSTOMER]
params: {refunds.create: {reason: deny}}
enforcement: shadow
`

func TestShadowSoftensScopesCapsCustomersAndParameters(t *testing.T) {
	w := newWorld(t)
	mine, foreign := w.Seeded.Customers[0], w.Seeded.Customers[1]
	for name, c := range map[string]struct {
		before             int // refunds
		method, path, form string
		code               policy.Code
		rule               string
	}{
		"a scope":           {0, "GET", "/v1/products", "", policy.CodeScopeDenied, "scopes.products"},
		"a cap per call":    {0, "POST", "/v1/refunds", "amount=600&charge=" + mine.Charges[1], policy.CodeCapExceeded, "caps.refunds/call"},
		"a cap in dollars":  {0, "POST", "/v1/refunds", "amount=1100&charge=" + mine.Charges[2], policy.CodeCapExceeded, "caps.refunds/day"},
		"a cap on calls":    {1, "POST", "/v1/refunds", "amount=100&charge=" + mine.Charges[3], policy.CodeCapExceeded, "caps.refunds/hour"},
		"a customer":        {0, "POST", "/v1/refunds", "amount=100&charge=" + foreign.Charges[1], policy.CodeCustomerDenied, "customers"},
		"a list of anybody": {0, "GET", "/v1/charges", "", policy.CodeCustomerDenied, "customers"},
		"a parameter":       {0, "POST", "/v1/refunds", "reason=duplicate&amount=100&charge=" + mine.Charges[4], policy.CodeParamDenied, "params.refunds.create.reason"},
	} {
		t.Run(name, func(t *testing.T) {
			key, k := w.key(strings.Replace(shadowPolicy, "CUSTOMER", mine.ID, 1))
			for range c.before {
				w.refund(key, mine.Charges[5], "100").want(t, 200, "")
			}
			arrived := w.Sandbox.Arrivals()
			w.call(key, c.method, c.path, c.form).want(t, 200, "")
			if w.Sandbox.Arrivals() == arrived {
				t.Error("it was not forwarded")
			}
			rec := w.lastOf(audit.KindIntent)
			found := false
			for _, f := range rec.Failures {
				found = found || f.Code == c.code && f.Rule == c.rule && f.Soft
			}
			if !rec.Shadowed || rec.Verdict != "allow" || !found {
				t.Errorf("recorded as %+v", rec)
			}
			if c.method == "POST" && !w.last(k.ID).Marked {
				t.Error("its holds are not marked")
			}
			w.outcome()
		})
	}
}

func TestShadowSoftensNothingElse(t *testing.T) {
	w := newWorld(t)
	mine := w.Seeded.Customers[0]
	for name, c := range map[string]struct {
		policy string // added to it
		spoil  func(*vault.Key)
		then   func(*vault.Key)
		form   string
		header []string
		path   string
		status int
		code   string
	}{
		"a revoked key":         {spoil: func(k *vault.Key) { k.Revoked = time.Now() }, status: 401, code: "keybrake_key_revoked"},
		"an expired key":        {spoil: func(k *vault.Key) { k.Expires = time.Now().Add(-time.Hour) }, status: 401, code: "keybrake_key_expired"},
		"another network":       {policy: "network: [10.0.0.0/8]\n", status: 401, code: "keybrake_key_network"},
		"the brake of the key":  {then: func(k *vault.Key) { w.pull(vault.Scope{Key: k.ID}, vault.Stopped) }, status: 401, code: "keybrake_key_killed"},
		"read-only":             {then: func(k *vault.Key) { w.pull(vault.Scope{Key: k.ID}, vault.ReadOnly) }, status: 401, code: "keybrake_key_readonly"},
		"two amounts":           {form: "&amount=2", status: 400, code: "keybrake_request_malformed"},
		"an unknown parameter":  {form: "&surprise=1", status: 400, code: "keybrake_request_malformed"},
		"an unknown route":      {path: "/v1/unheard", status: 401, code: "keybrake_scope_denied"},
		"an account":            {header: []string{"Stripe-Account", "acct_9"}, status: 401, code: "keybrake_scope_denied"},
		"an unknown version":    {header: []string{"Stripe-Version", "2019-01-01"}, status: 400, code: "keybrake_version_unknown"},
		"a key's other content": {header: []string{"Idempotency-Key", "used"}, status: 400, code: "keybrake_idempotency_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			key, k := w.key(strings.Replace(shadowPolicy, "CUSTOMER", mine.ID, 1) + c.policy)
			if len(c.header) > 0 && c.header[0] == "Idempotency-Key" {
				w.refund(key, mine.Charges[6], "100", c.header...).want(t, 200, "")
			}
			if c.spoil != nil {
				_, err := w.Ring.ChangeKey(k.ID, func(k vault.Key) vault.Key { c.spoil(&k); return k })
				must(t, err)
			}
			if c.then != nil {
				c.then(k)
			}
			path := c.path
			if path == "" {
				path = "/v1/refunds"
			}
			arrived := w.Sandbox.Arrivals()
			w.call(key, "POST", path, "charge="+mine.Charges[7]+"&amount=1"+c.form, c.header...).want(t, c.status, c.code)
			if w.Sandbox.Arrivals() != arrived {
				t.Error("something was forwarded")
			}
		})
	}
}

// TestShadowTakesHoldsAsEnforcementWould: an unknown outcome stays held beyond the cap, and the same call waits for it.
func TestShadowTakesHoldsAsEnforcementWould(t *testing.T) {
	w := newWorld(t)
	mine := w.Seeded.Customers[0]
	key, k := w.key(strings.Replace(shadowPolicy, "CUSTOMER", mine.ID, 1))
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultCut, Method: "POST", After: true}))
	w.refund(key, mine.Charges[1], "2500").want(t, 504, "keybrake_upstream_unknown")
	w.wantUSD(k.ID, "refunds", 2500, 0)
	w.refund(key, mine.Charges[1], "2500").want(t, 409, "keybrake_outcome_pending")
	if got := w.lastOf(audit.KindDenied); got.Shadowed || got.Failures[0].Code != policy.CodeOutcomePending || len(got.Failures) < 2 {
		t.Errorf("recorded as %+v", got)
	}
	r := w.refund(key, mine.Charges[2], "700").want(t, 200, "")
	if got := r.Header.Get("Keybrake-Remaining"); !strings.Contains(got, "refunds/day=0.00") {
		t.Errorf("what is left: %s", got)
	}
	w.wantUSD(k.ID, "refunds", 2500, 700)
}

// pull pulls a brake.
func (w *world) pull(scope vault.Scope, brake vault.Brake) {
	w.t.Helper()
	_, err := w.Ring.SetBrake(scope, brake)
	must(w.t, err)
}
