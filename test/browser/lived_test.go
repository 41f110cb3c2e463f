package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// lived is a store in which two weeks of work lie: what agents did, and the people who look after them. Its calls went through
// the gateway to the sandbox, on a clock that was behind.
type lived struct {
	Store    string            `json:"-"`
	Sandbox  string            `json:"sandbox"`
	Upstream string            `json:"upstream"`
	Keys     map[string]string `json:"keys"` // text by name

	clock   atomic.Int64 // how far it is behind, in nanoseconds
	admin   *admin.Service
	gateway http.Handler
	charges []string // that may be refunded
	refunds int
}

var (
	ines  = admin.Actor{Name: "ines", Role: vault.RoleAdmin, From: "10.4.0.7"}
	tomas = admin.Actor{Name: "tomas", Role: vault.RoleResponder, From: "10.4.0.19"}
)

const (
	livedDays = 14
	refunder  = "agent-support-refunds-runner42"
	retired   = "agent-support-refunds-runner17"
	finance   = "agent-finance-reconcile-runner3"
	trial     = "agent-support-refunds-trial"
)

// cents are what the refunder gives back in an hour, by the hours before now; each day has its own share of it.
var (
	cents  = []int{700, 0, 1300, 1900, 500, 0, 1100, 2400, 1600, 600, 0, 0, 400, 1200, 2200, 1500, 900, 0, 500, 1500, 2000, 800, 300, 0}
	shares = []int{100, 70, 130, 55, 90, 160, 40, 35, 110, 85, 145, 60, 95, 120} // per cent, by the days before now
)

func liveIn(t *testing.T) *lived {
	t.Helper()
	l := &lived{Store: filepath.Join(t.TempDir(), "keybrake.db"), Upstream: "stripe-test", Keys: map[string]string{}}
	l.goTo(livedDays * 24 * time.Hour)
	box := sandbox.New(sandbox.Options{Seed: 1, Now: l.now})
	for _, c := range box.Seed().Customers[:2] {
		l.charges = append(l.charges, c.Charges[:9]...)
	}
	vendor := httptest.NewServer(box)
	t.Cleanup(func() { box.Close(); vendor.Close() })
	l.Sandbox = vendor.URL
	defer l.open(t)()
	l.peopleAndKeys(t)
	for back := livedDays*24 - 1; back >= 0; back-- {
		l.hour(t, back)
	}
	return l
}

func (l *lived) now() time.Time            { return time.Now().Add(-time.Duration(l.clock.Load())) }
func (l *lived) goTo(before time.Duration) { l.clock.Store(int64(before)) }

// open opens the store with a gateway on it, until close is called.
func (l *lived) open(t *testing.T) (shut func()) {
	t.Helper()
	master, _, err := vault.LoadOrCreateMaster(l.Store + ".key")
	well(t, err)
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: l.Store, Signer: master, MasterCheck: master.CheckValue(), Clock: l.now})
	well(t, err)
	adapter, err := stripe.New()
	well(t, err)
	ring, client, log := vault.NewRing(master), upstream.NewClient(nil), slog.New(slog.DiscardHandler)
	l.admin = admin.New(admin.Config{Store: db, Ring: ring, Vocabulary: adapter.Catalog().Vocabulary(), Version: stripe.DefaultVersion, Log: log})
	_, err = l.admin.Load(t.Context())
	well(t, err)
	g := gateway.New(gateway.Config{Adapter: adapter, Ring: ring, Store: db, Client: client, Rates: l.admin.Rates, Log: log, LookupsPerSecond: 1e6, LookupsPerUpstream: 1e6})
	l.gateway = g
	return func() {
		g.Close()
		client.Close()
		l.admin.Close()
		well(t, db.Close())
	}
}

func (l *lived) peopleAndKeys(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for _, o := range []admin.OperatorRequest{{Name: ines.Name, Role: "admin"}, {Name: tomas.Name, Role: "responder"}} {
		_, err := l.admin.CreateOperator(ctx, ines, o)
		well(t, err)
	}
	_, err := l.admin.AddUpstream(ctx, ines, admin.UpstreamRequest{Name: l.Upstream, Secret: "sk_test_sandbox", BaseURL: l.Sandbox, RotateEvery: "90d"})
	well(t, err)
	_, err = l.admin.SetRates(ctx, ines, admin.RateInputs{Rates: []admin.RateInput{{Currency: "EUR", Rate: "1.09"}, {Currency: "GBP", Rate: "1.27"}}})
	well(t, err)
	for name, req := range map[string]admin.KeyRequest{
		refunder: {Preset: "refund-support", PolicyEdit: admin.PolicyEdit{Caps: []string{"refunds/day=200"}, Expires: "90d", RotateEvery: "30d"}},
		retired:  {Preset: "refund-support", PolicyEdit: admin.PolicyEdit{Caps: []string{"refunds/day=100"}}},
		finance:  {Preset: "reconciliation"},
		trial:    {Preset: "refund-support", PolicyEdit: admin.PolicyEdit{Caps: []string{"refunds/day=50", "refunds/hour=30calls"}, Expires: "20d"}},
	} {
		req.Name, req.Customers = name, []string{"any"}
		made, err := l.admin.CreateKey(ctx, ines, req)
		well(t, err)
		l.Keys[name] = made.Key
	}
}

// hour is what happened so many hours before now.
func (l *lived) hour(t *testing.T, back int) {
	t.Helper()
	at := time.Duration(back) * time.Hour
	l.goTo(at)
	l.refund(t, refunder, cents[back%24]*shares[back/24]/100)
	switch {
	case back == 6*24:
		_, err := l.admin.UpdateKey(t.Context(), ines, refunder, admin.KeyUpdate{PolicyEdit: admin.PolicyEdit{Caps: []string{"refunds/day=250"}}, Reason: "the holidays bring more returns"})
		well(t, err)
	case back > 6 && back%5 == 0:
		l.refund(t, retired, cents[(back+7)%24])
	case back == 3:
		_, err := l.admin.Kill(t.Context(), tomas, admin.KillRequest{Target: admin.Target{Keys: []string{retired}}, Reason: "its runner has left"})
		well(t, err)
	case back%6 == 2:
		l.call(t, finance, http.MethodGet, "/v1/balance_transactions?limit=3", nil)
	}
	if back == 1 { // the last hour is shown by the minute
		for minute := 58; minute > 0; minute-- {
			l.goTo(time.Duration(minute) * time.Minute)
			for range (minute*7 + minute/9) % 5 {
				l.call(t, finance, http.MethodGet, "/v1/charges?limit=2", nil)
			}
			if minute%13 == 4 {
				l.call(t, trial, http.MethodPost, "/v1/payouts", url.Values{"amount": {"500"}, "currency": {"usd"}})
			}
		}
	}
}

// refund gives so many cents back, of one charge after the other.
func (l *lived) refund(t *testing.T, key string, cents int) {
	t.Helper()
	if cents == 0 {
		return
	}
	l.refunds++
	l.call(t, key, http.MethodPost, "/v1/refunds", url.Values{"charge": {l.charges[l.refunds%len(l.charges)]}, "amount": {fmt.Sprint(cents)}})
}

// call is one call of an agent. What is wrong with it is for the policy to say; it must be answered.
func (l *lived) call(t *testing.T, key, method, path string, form url.Values) {
	t.Helper()
	req := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(form.Encode()))
	req.SetBasicAuth(l.Keys[key], "")
	req.Header.Set("User-Agent", "Stripe/v1 NodeBindings/22.4.0")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer := httptest.NewRecorder()
	l.gateway.ServeHTTP(answer, req)
	if answer.Code >= 500 {
		t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}

// write says in a file what tests in a browser must know of it.
func (l *lived) write(t *testing.T) (path string) {
	t.Helper()
	text, err := json.Marshal(l)
	well(t, err)
	path = filepath.Join(t.TempDir(), "lived.json")
	well(t, os.WriteFile(path, text, 0o600))
	return path
}

func well(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
