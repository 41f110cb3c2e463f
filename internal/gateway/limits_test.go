package gateway_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestWhatIsJustWithinTheLimitsPasses(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(allPerDay))
	charge := w.Seeded.Customers[0].Charges[0]
	var many strings.Builder
	for i := range 40 {
		many.WriteString("&metadata[k" + strings.Repeat("x", i%20) + string(rune('a'+i%26)) + "]=v")
	}
	w.refund(key, charge, "100"+many.String()).want(t, 200, "")
	w.refund(key, charge, "100", "Idempotency-Key", strings.Repeat("k", 255)).want(t, 200, "")
}

func TestWhatAnAgentSaysOfItselfIsBounded(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(refundPolicy)
	w.call(key, "GET", "/v1/charges/"+w.Seeded.Customers[0].Charges[0], "",
		"User-Agent", strings.Repeat("a", 5000), "X-Agent-Run-Id", strings.Repeat("r", 5000)).want(t, 200, "")
	if got := w.outcome(); len(got.UserAgent) > 512 || len(got.RunID) > 128 || got.RunID == "" {
		t.Errorf("%d and %d bytes", len(got.UserAgent), len(got.RunID))
	}
}

func TestOnlyATrustedProxyMayNameTheAgentsAddress(t *testing.T) {
	const policy = `
name: agent-support-network-test
scopes: {charges: read}
customers: any
network: [10.1.0.0/16]
`
	trusted := setup{config: func(c *gateway.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }}
	for _, c := range []struct {
		name      string
		setup     setup
		forwarded string
		status    int
	}{
		{"nobody is trusted", setup{}, "10.1.2.3", 401},
		{"the proxy names an address inside", trusted, "10.1.2.3", 200},
		{"the agent puts one before what the proxy saw", trusted, "10.1.2.3, 203.0.113.9", 401},
		{"nothing is named", trusted, "", 401},
		{"nonsense is named", trusted, "10.1.2.3, nonsense", 401},
		{"a chain of trusted proxies", trusted, "10.1.2.3, 127.0.0.5", 200},
		{"an address of IPv6 that is one of IPv4", trusted, "::ffff:10.1.2.3", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := buildWorld(t, c.setup)
			key, _ := w.key(policy)
			r := w.call(key, "GET", "/v1/charges/"+w.Seeded.Customers[0].Charges[0], "", "X-Forwarded-For", c.forwarded)
			if r.Status != c.status || c.status == 401 && r.errCode() != "keybrake_key_network" {
				t.Fatalf("%d %s", r.Status, r.Raw)
			}
		})
	}
}

func TestKeysThatAreOverGetA401(t *testing.T) {
	w := newWorld(t)
	charge := w.Seeded.Customers[0].Charges[0]
	expired, e := w.key(refundPolicy)
	revoked, r := w.key(refundPolicy)
	gone, g := w.key(refundPolicy)
	_, err := w.Ring.ChangeKey(e.ID, func(k vault.Key) vault.Key { k.Expires = w.Clock.Now().Add(time.Hour); return k })
	must(t, err)
	_, err = w.Ring.ChangeKey(r.ID, func(k vault.Key) vault.Key { k.Revoked = w.Clock.Now(); return k })
	must(t, err)
	w.Ring.RemoveKey(g.ID)
	w.call(expired, "GET", "/v1/charges/"+charge, "").want(t, 200, "")
	w.Clock.Advance(2 * time.Hour)
	w.call(expired, "GET", "/v1/charges/"+charge, "").want(t, 401, "keybrake_key_expired")
	w.call(revoked, "GET", "/v1/charges/"+charge, "").want(t, 401, "keybrake_key_revoked")
	w.call(gone, "GET", "/v1/charges/"+charge, "").want(t, 401, "keybrake_key_invalid")
}

func TestScopeDenialsHaveTheStatusOfTheSetting(t *testing.T) {
	for setting, want := range map[int]int{0: 401, 401: 401, 403: 403} {
		w := buildWorld(t, setup{config: func(c *gateway.Config) { c.ScopeStatus = setting }})
		key, _ := w.key(refundPolicy)
		w.call(key, "GET", "/v1/products", "").want(t, want, "keybrake_scope_denied")
		w.call(key, "GET", "/v1/unheard", "").want(t, want, "keybrake_scope_denied")
	}
}

// A hanging upstream takes one slot per call until the deadline, and no longer.
func TestADeadlineFreesItsSlot(t *testing.T) {
	w := buildWorld(t, setup{deadline: deadline})
	key, k := w.key(refundPolicy)
	charge := w.Seeded.Customers[0].Charges[0]
	must(t, w.Sandbox.Inject(sandbox.Fault{Kind: sandbox.FaultHang, Method: "POST"}))
	w.refund(key, charge, "100").want(t, 504, "keybrake_upstream_unknown")
	if n := w.Ring.InFlight(vault.Scope{Key: k.ID}); n != 0 {
		t.Errorf("%d in flight", n)
	}
	eventually(t, "the upstream's side is closed", func() bool { return w.Sandbox.Hanging() == 0 })
}
