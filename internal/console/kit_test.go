package console

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is the console over a real control plane with a real store, and a browser that is signed in.
type site struct {
	t       *testing.T
	service *admin.Service
	db      *sqlite.DB
	api     *admin.Client // an operator's
	server  *httptest.Server
	browser *http.Client
	clock   *clockAhead
}

func newSite(t *testing.T) *site {
	t.Helper()
	master, err := vault.EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	clock := new(clockAhead)
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "keybrake.db"), Signer: master, MasterCheck: master.CheckValue(), Clock: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	adapter, err := stripe.New()
	if err != nil {
		t.Fatal(err)
	}
	service := admin.New(admin.Config{
		Store: db, Ring: vault.NewRing(master), Vocabulary: adapter.Catalog().Vocabulary(),
		BaseURL: "https://api.stripe.com", Version: stripe.DefaultVersion, Scopes: scopes,
	})
	if _, err := service.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	api := service.Handler()
	pages, err := New(Config{API: api, Door: service})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, service: service, db: db, api: admin.As(api, admin.Actor{Name: "test", Role: vault.RoleAdmin}), server: httptest.NewServer(pages), clock: clock}
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
		service.Close()
		_ = db.Close() // a test may have closed it
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar}
	if _, err := s.api.AddUpstream(t.Context(), admin.UpstreamRequest{Name: "stripe-test", Secret: "rk_test_51CanaryCanaryCanary"}); err != nil {
		t.Fatal(err)
	}
	s.signIn(vault.RoleAdmin)
	return s
}

// clockAhead is a clock that can be put forward.
type clockAhead struct{ by atomic.Int64 }

func (c *clockAhead) now() time.Time       { return time.Now().Add(time.Duration(c.by.Load())) }
func (c *clockAhead) pass(d time.Duration) { c.by.Add(int64(d)) }

// signIn signs ines in with a role.
func (s *site) signIn(role vault.Role) {
	s.t.Helper()
	if got := s.post("/login", url.Values{"token": {s.service.MintLocal("ines", role).Reveal()}}); got.status != http.StatusOK {
		s.t.Fatalf("sign in: %d %s", got.status, got.body)
	}
}

// scopes are a corner of the permission map.
var scopes = []admin.Scope{
	{Resource: "refunds", Title: "Refunds", Risk: "extreme", Worst: "Every payment it could name is given back.", Shows: "amounts", Reads: 2, Writes: 3,
		Moves: []string{"refunds"}, ReachesCustomers: true, Customers: "followed", SuggestedCaps: []string{"refunds/day=500.00", "refunds/hour=30calls"}},
	{Resource: "charges", Title: "Charges", Risk: "extreme", Worst: "Every card on file is charged.", Shows: "amounts, card brand", Reads: 3, Writes: 3,
		Moves: []string{"charges"}, ReachesCustomers: true, Customers: "followed", SuggestedCaps: []string{"charges/day=500.00"}},
	{Resource: "invoices", Title: "Invoices", Risk: "high", Worst: "Customers are billed for what nobody ordered.", Shows: "lines, totals", Reads: 4, Writes: 12,
		Moves: []string{"invoices"}, ReachesCustomers: true, Customers: "followed"},
	{Resource: "events", Title: "Events", Risk: "low", Worst: "Nothing changes.", Shows: "what happened", Reads: 2, Customers: "none"},
}

// seen is an answer as a browser has it after redirects.
type seen struct {
	status int
	url    string
	header http.Header
	body   string
}

func (s *site) get(path string) seen {
	s.t.Helper()
	resp, err := s.browser.Get(s.server.URL + path)
	return s.read(resp, err)
}

func (s *site) post(path string, form url.Values) seen {
	s.t.Helper()
	resp, err := s.browser.PostForm(s.server.URL+path, form)
	return s.read(resp, err)
}

func (s *site) read(resp *http.Response, err error) seen {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return seen{resp.StatusCode, strings.TrimPrefix(resp.Request.URL.String(), s.server.URL), resp.Header, string(b)}
}

// key makes a vault key that refunds up to a hundred dollars a day.
func (s *site) key(name string) admin.KeyCreated {
	s.t.Helper()
	k, err := s.api.CreateKey(s.t.Context(), admin.KeyRequest{
		Name: name, Preset: "refund-support",
		PolicyEdit: admin.PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A", "cus_B"}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}
