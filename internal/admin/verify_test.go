package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// testProbes are a small vendor's: what the test vocabulary knows, and an operation that nothing admits.
var testProbes = []upstream.Probe{
	{Operation: "charges.retrieve", Resource: "charges", Access: policy.Read, Method: "GET", Path: "/v1/charges/x", Permissions: []string{"charge_read"}},
	{Operation: "refunds.create", Resource: "refunds", Access: policy.Write, Method: "POST", Path: "/v1/refunds", Broken: "x=1", Permissions: []string{"charge_write"}},
	{Operation: "payouts.create", Resource: "payouts", Access: policy.Write, Method: "POST", Path: "/v1/payouts", Broken: "x=1", Permissions: []string{"payout_write"}},
	{Operation: "payouts.list", Resource: "payouts", Access: policy.Read, Method: "GET", Path: "/v1/payouts", Permissions: []string{"payout_read"}},
	{Operation: "orders.create", Resource: "orders", Access: policy.Write, Closed: true, Method: "POST", Path: "/v1/orders"},
}

// agentsSide answers for the gateway: by what a key's scopes say, but for the operations in lies.
type agentsSide struct {
	w     *world
	lies  []string // "METHOD path"
	seen  []vault.Key
	asked int
}

func (a *agentsSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked++
	text, _ := vault.PresentedFrom(r.Header["Authorization"])
	key, _, refused := a.w.Ring.Authenticate(vault.Attempt{Presented: text, Now: a.w.Store.Now()})
	code := policy.Code("")
	if refused != nil {
		code = refused.Code
	} else {
		a.seen = append(a.seen, *key)
		i := slices.IndexFunc(testProbes, func(p upstream.Probe) bool { return p.Method == r.Method && p.Path == r.URL.Path })
		open := !testProbes[i].Closed && key.Policy.Scope(testProbes[i].Resource) >= testProbes[i].Access
		if slices.Contains(a.lies, r.Method+" "+r.URL.Path) {
			open = !open
		}
		if !open {
			code = policy.CodeScopeDenied
		}
	}
	if code == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.WriteHeader(http.StatusUnauthorized)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"keybrake": map[string]any{"code": code}}})
}

const verifiedPolicy = "scopes: {charges: read, refunds: write}\ncaps: [{resource: refunds, per: day, usd: 100.00}]\ncustomers: [cus_A]\n"

// verifying is a world with an agents' side, and a test key.
func verifying(t *testing.T) (*world, *agentsSide) {
	t.Helper()
	w := newWorld(t)
	side := &agentsSide{w: w}
	w.Service.Probes, w.Service.Agents = testProbes, func() http.Handler { return side }
	if _, err := w.client.CreateKey(t.Context(), KeyRequest{Name: "agent-a-b-c", PolicyEdit: PolicyEdit{Policy: verifiedPolicy}}); err != nil {
		t.Fatal(err)
	}
	return w, side
}

func (w *world) verify(t *testing.T) (VerifyKeyReport, error) {
	t.Helper()
	told := 0
	r, err := w.client.VerifyKey(t.Context(), "agent-a-b-c", VerifyOptions{Rate: maxProbeRate}, func(p Progress) { told = p.Done })
	if err == nil && told != len(testProbes) {
		t.Errorf("told of %d probes", told)
	}
	return r, err
}

func TestAKeyThatHoldsItsScopesPasses(t *testing.T) {
	w, side := verifying(t)
	r, err := w.verify(t)
	if err != nil || !r.Passed || r.Denied != 3 || r.Open != 2 || side.asked != len(testProbes) {
		t.Fatalf("%+v %v, %d asked", r, err, side.asked)
	}
	for _, k := range side.seen {
		if !k.Probe || k.Name == "agent-a-b-c" || k.Expires.Sub(k.Created) != twinLives {
			t.Errorf("it was asked with %+v", k)
		}
	}
	twin, _ := w.Ring.FindKey(string(side.seen[0].ID))
	if twin == nil || twin.Revoked.IsZero() {
		t.Error("the twin lives on")
	}
}

func TestAnythingOpenOutsideTheScopesFails(t *testing.T) {
	for name, c := range map[string]struct{ lie, operation, expected string }{
		"a write outside that passes": {"POST /v1/payouts", "payouts.create", "denied"},
		"a read outside that passes":  {"GET /v1/payouts", "payouts.list", "denied"},
		"a preview that passes":       {"POST /v1/orders", "orders.create", "denied"},
		"a granted read that is shut": {"GET /v1/charges/x", "charges.retrieve", "open"},
	} {
		t.Run(name, func(t *testing.T) {
			w, side := verifying(t)
			side.lies = []string{c.lie}
			r, err := w.verify(t)
			if err != nil || r.Passed || len(r.Wrong) != 1 || r.Wrong[0].Operation != c.operation || r.Wrong[0].Expected != c.expected {
				t.Errorf("%+v %v", r, err)
			}
		})
	}
}

func TestATestKeysPolicyGoesLiveWhenItWasVerified(t *testing.T) {
	w, side := verifying(t)
	if _, err := w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "stripe-live", Secret: "rk_live_abc"}); err != nil {
		t.Fatal(err)
	}
	runner := 0
	create := func(e PolicyEdit, unverified bool) error {
		runner++
		_, err := w.client.CreateKey(t.Context(), KeyRequest{
			Name: "agent-a-b-live" + strings.Repeat("x", runner), Like: "agent-a-b-c", Upstream: "stripe-live", Unverified: unverified, PolicyEdit: e,
		})
		return err
	}
	refused := func(what, says string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "keybrake verify agent-a-b-c") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("never verified", "nobody has verified", create(PolicyEdit{}, false))

	side.lies = []string{"POST /v1/payouts"}
	if r, err := w.verify(t); err != nil || r.Passed {
		t.Fatal(err)
	}
	refused("verified and failed", "nobody has verified", create(PolicyEdit{}, false))

	side.lies = nil
	if r, err := w.verify(t); err != nil || !r.Passed {
		t.Fatal(err)
	}
	if err := create(PolicyEdit{}, false); err != nil {
		t.Errorf("verified: %v", err)
	}
	if err := create(PolicyEdit{Customers: []string{"cus_live"}}, false); err != nil {
		t.Errorf("other customers, as live mode has them: %v", err)
	}
	refused("a wider cap than was verified", "is not the one", create(PolicyEdit{Caps: []string{"refunds/day=500"}}, false))
	if err := create(PolicyEdit{Caps: []string{"refunds/day=500"}}, true); err != nil {
		t.Errorf("unverified on purpose: %v", err)
	}
	all := w.records(t)
	if last := all[len(all)-1]; !strings.Contains(last.Diff, "unverified: yes") {
		t.Errorf("nothing is recorded of it: %q", last.Diff)
	}
}

func TestAnUpstreamIsHeldAgainstWhatItsKeysNeed(t *testing.T) {
	w, _ := verifying(t)
	w.vendor.answer("/v1/payouts", http.StatusForbidden)
	r, err := w.client.VerifyUpstream(t.Context(), "stripe-test", VerifyOptions{Rate: maxProbeRate}, func(Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed || r.Tried != 4 || r.Open != 2 || r.Closed != 2 || r.NotTried != 1 {
		t.Errorf("%+v", r)
	}
	w.vendor.answer("/v1/payouts", http.StatusNotFound)
	w.vendor.answer("/v1/refunds", http.StatusForbidden)
	r, err = w.client.VerifyUpstream(t.Context(), "stripe-test", VerifyOptions{Rate: maxProbeRate}, func(Progress) {})
	if err != nil || r.Passed || len(r.TooWide) != 2 || r.TooWide[0].Permission != "payout_write" || len(r.Missing) != 1 || r.Missing[0].Permission != "charge_write" {
		t.Errorf("%+v %v", r, err)
	}
	// What Keybrake reads for itself is needed, whatever the keys may do.
	w.Service.Needs = append(w.Service.Needs, Need{Name: "Payouts: Read", Path: "/v1/payouts"})
	r, err = w.client.VerifyUpstream(t.Context(), "stripe-test", VerifyOptions{Rate: maxProbeRate}, func(Progress) {})
	if err != nil || len(r.TooWide) != 1 || r.TooWide[0].Permission != "payout_write" {
		t.Errorf("with a need of its own: %+v %v", r, err)
	}
	w.vendor.answer("/v1/charges/x", http.StatusUnauthorized)
	if _, err = w.client.VerifyUpstream(t.Context(), "stripe-test", VerifyOptions{Rate: maxProbeRate}, func(Progress) {}); err == nil || !strings.Contains(err.Error(), "refuses the secret") {
		t.Errorf("a refused secret: %v", err)
	}
}
