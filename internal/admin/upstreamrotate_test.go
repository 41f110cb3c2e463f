package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// accounts is a Stripe with two accounts behind one host, told apart by the secret, as it is. Secrets can be revoked.
type accounts struct {
	own, foreign *sandbox.Server
	server       *httptest.Server
	mu           sync.Mutex
	revoked      map[string]bool
	silent       bool // who asks for the account is not told
	used         map[string]int
}

func newAccounts(t *testing.T) *accounts {
	a := &accounts{
		own: sandbox.New(sandbox.Options{Seed: 1}), foreign: sandbox.New(sandbox.Options{Seed: 2}),
		revoked: map[string]bool{}, used: map[string]int{},
	}
	everything := map[string]sandbox.Access{"charges": sandbox.Read, "events": sandbox.Read, "account": sandbox.Read}
	for _, s := range []string{"rk_test_51KeybrakeTestfirst", "rk_test_51KeybrakeTestsecond", "rk_test_51KeybrakeTestthird"} {
		a.own.AddRestrictedKey(s, everything)
	}
	a.own.AddRestrictedKey("rk_test_51KeybrakeTestnarrow", map[string]sandbox.Access{"charges": sandbox.Read})
	a.foreign.AddRestrictedKey("rk_test_51KeybrakeTestforeign", everything)
	a.foreign.AddRestrictedKey("rk_test_51KeybrakeTestforeignnarrow", map[string]sandbox.Access{"charges": sandbox.Read, "events": sandbox.Read})
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	t.Cleanup(a.own.Close)
	t.Cleanup(a.foreign.Close)
	return a
}

func (a *accounts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	a.used[secret]++
	revoked, silent := a.revoked[secret], a.silent
	a.mu.Unlock()
	switch {
	case revoked:
		http.Error(w, `{"error":{"message":"Expired API Key provided"}}`, http.StatusUnauthorized)
	case silent && r.URL.Path == stripe.AccountPath:
		http.Error(w, "", http.StatusForbidden)
	case strings.HasPrefix(secret, "rk_test_51KeybrakeTestforeign"):
		a.foreign.ServeHTTP(w, r)
	default:
		a.own.ServeHTTP(w, r)
	}
}

func (a *accounts) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// withAccounts is a world whose upstream "own" is at a Stripe with two accounts, with the secret rk_test_51KeybrakeTestfirst.
func withAccounts(t *testing.T) (*world, *accounts) {
	w, a := newWorld(t), newAccounts(t)
	w.Service.Account = AccountQuestion{Path: stripe.AccountPath, Of: stripe.AccountOf, Needs: "Account: Read"}
	u, err := w.client.AddUpstream(t.Context(), UpstreamRequest{Name: "own", Secret: "rk_test_51KeybrakeTestfirst", BaseURL: a.server.URL})
	if err != nil || !strings.HasPrefix(u.Account, "acct_") || len(u.Missing) > 0 {
		t.Fatalf("%+v, %v", u, err)
	}
	return w, a
}

// sends is the secret that the upstream's next call is sent with.
func (w *world) sends(t *testing.T, upstream string) string {
	t.Helper()
	u, ok := w.Ring.FindUpstream(upstream)
	if !ok {
		t.Fatalf("there is no upstream %s", upstream)
	}
	r := httptest.NewRequest(http.MethodGet, u.BaseURL.String(), nil)
	if err := u.Attach(r); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func TestAnUpstreamsSecretIsRotatedUnderItsVaultKeys(t *testing.T) {
	w, _ := withAccounts(t)
	k, err := w.client.CreateKey(t.Context(), KeyRequest{
		Name: "agent-a-b-c", Preset: "refund-support", Upstream: "own", PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100"}, Customers: []string{"cus_A"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	before := w.upstreamView(w.mustUpstream(t, "own"), nil)
	u, err := w.client.RotateUpstream(t.Context(), "own", UpstreamSecret{Secret: "rk_test_51KeybrakeTestsecond"})
	if err != nil || u.Secret != "rk_test_…cond" || u.Account != before.Account || !u.SecretSince.After(before.SecretSince) || !u.Created.Equal(before.Created) {
		t.Fatalf("%+v, %v", u, err)
	}
	if got := w.sends(t, "own"); got != "rk_test_51KeybrakeTestsecond" {
		t.Errorf("calls are sent with %s", got)
	}
	w.restart(t)
	if got := w.sends(t, "own"); got != "rk_test_51KeybrakeTestsecond" || !w.passes(t, k.Key, true) {
		t.Errorf("after a restart calls are sent with %s", got)
	}
}

func (w *world) mustUpstream(t *testing.T, name string) *vault.Upstream {
	t.Helper()
	u, ok := w.Ring.FindUpstream(name)
	if !ok {
		t.Fatalf("there is no upstream %s", name)
	}
	return u
}

func TestASecretThatDoesNotHoldChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		secret string
		before func(*world, *accounts)
		answer SwitchRequest
		status int
		says   string
	}{
		"of another account":                    {secret: "rk_test_51KeybrakeTestforeign", status: 409, says: "add another upstream"},
		"of another account, answered for":      {secret: "rk_test_51KeybrakeTestforeign", answer: SwitchRequest{SameAccount: true, AllowMissing: true}, status: 409, says: "add another upstream"},
		"of another account, told by a refusal": {secret: "rk_test_51KeybrakeTestforeignnarrow", status: 409, says: "add another upstream"},
		"that the vendor does not know":         {secret: "rk_test_51KeybrakeTestunknown", status: 400, says: "copied whole"},
		"that was revoked":                      {secret: "rk_test_51KeybrakeTestsecond", before: func(_ *world, a *accounts) { a.revoked["rk_test_51KeybrakeTestsecond"] = true }, status: 400, says: "copied whole"},
		"that may less than the present one":    {secret: "rk_test_51KeybrakeTestnarrow", status: 409, says: "Events: Read"},
		"while nobody answers":                  {secret: "rk_test_51KeybrakeTestsecond", before: func(_ *world, a *accounts) { a.server.Close() }, status: 409, says: "was not reached"},
		"of an account that nobody tells":       {secret: "rk_test_51KeybrakeTestsecond", before: func(_ *world, a *accounts) { a.silent = true }, status: 409, says: "--same-account"},
		"for live mode":                         {secret: "rk_live_second", status: 409, says: "live mode"},
		"that is none":                          {secret: "hunter2", status: 400, says: "rk_test_"},
	} {
		for _, stage := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w, a := withAccounts(t)
				if c.before != nil {
					c.before(w, a)
				}
				records := len(w.records(t))
				_, err := w.client.RotateUpstream(t.Context(), "own", UpstreamSecret{Secret: c.secret, Stage: stage, SwitchRequest: c.answer})
				if !said(err, c.status, c.says) {
					t.Errorf("%v", err)
				}
				if strings.Contains(err.Error(), c.secret) {
					t.Errorf("the secret is in the answer: %v", err)
				}
				u := w.mustUpstream(t, "own")
				if got := w.sends(t, "own"); got != "rk_test_51KeybrakeTestfirst" || u.Staged != nil || len(w.records(t)) != records {
					t.Errorf("calls are sent with %s, staged is %+v, %d records more", got, u.Staged, len(w.records(t))-records)
				}
			})
		}
	}
}

func TestWhatTheVendorDoesNotTellAnOperatorAnswersFor(t *testing.T) {
	for name, c := range map[string]struct {
		secret string
		before func(*accounts)
		answer SwitchRequest
		record string
	}{
		"the account":                {"rk_test_51KeybrakeTestsecond", func(a *accounts) { a.silent = true }, SwitchRequest{SameAccount: true}, "same_account: yes"},
		"fewer permissions":          {"rk_test_51KeybrakeTestnarrow", nil, SwitchRequest{AllowMissing: true}, "allow_missing: yes"},
		"after the old one was lost": {"rk_test_51KeybrakeTestnarrow", func(a *accounts) { a.revoked["rk_test_51KeybrakeTestfirst"] = true }, SwitchRequest{}, "secret: rk_test_…irst -> rk_test_…rrow"},
	} {
		t.Run(name, func(t *testing.T) {
			w, a := withAccounts(t)
			if c.before != nil {
				a.set(func() { c.before(a) })
			}
			if _, err := w.client.RotateUpstream(t.Context(), "own", UpstreamSecret{Secret: c.secret, SwitchRequest: c.answer}); err != nil {
				t.Fatal(err)
			}
			records := w.records(t)
			if last := records[len(records)-1]; last.Action != "upstream.rotate" || !strings.Contains(last.Diff, c.record) {
				t.Errorf("%+v", last)
			}
			if got := w.sends(t, "own"); got != c.secret {
				t.Errorf("calls are sent with %s", got)
			}
		})
	}
}

func TestAStagedSecretWaits(t *testing.T) {
	w, a := withAccounts(t)
	ctx := t.Context()
	if _, err := w.client.SwitchUpstream(ctx, "own", SwitchRequest{}); !said(err, 409, "--stage") {
		t.Error(err)
	}
	if _, err := w.client.AbandonUpstream(ctx, "own"); !said(err, 409, "--stage") {
		t.Error(err)
	}
	stage := func(secret string) UpstreamView {
		t.Helper()
		u, err := w.client.RotateUpstream(ctx, "own", UpstreamSecret{Secret: secret, Stage: true})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := stage("rk_test_51KeybrakeTestsecond")
	if u.Staged == nil || u.Staged.Secret != "rk_test_…cond" || u.Staged.By != "local" || u.Secret != "rk_test_…irst" {
		t.Errorf("%+v", u)
	}
	w.restart(t)
	w.Service.Account = AccountQuestion{Path: stripe.AccountPath, Of: stripe.AccountOf, Needs: "Account: Read"}
	if got := w.sends(t, "own"); got != "rk_test_51KeybrakeTestfirst" {
		t.Errorf("calls are sent with %s", got)
	}
	if _, err := w.client.AbandonUpstream(ctx, "own"); err != nil {
		t.Fatal(err)
	}
	stage("rk_test_51KeybrakeTestsecond")
	stage("rk_test_51KeybrakeTestthird") // takes the other's place
	a.set(func() { a.revoked["rk_test_51KeybrakeTestthird"] = true })
	if _, err := w.client.SwitchUpstream(ctx, "own", SwitchRequest{}); !said(err, 400, "nothing was changed") {
		t.Error(err)
	}
	a.set(func() { a.revoked["rk_test_51KeybrakeTestthird"] = false })
	u, err := w.client.SwitchUpstream(ctx, "own", SwitchRequest{})
	if err != nil || u.Staged != nil || u.Secret != "rk_test_…hird" {
		t.Fatalf("%+v, %v", u, err)
	}
	w.restart(t)
	if got := w.sends(t, "own"); got != "rk_test_51KeybrakeTestthird" {
		t.Errorf("calls are sent with %s", got)
	}
	var actions []string
	for _, r := range w.records(t) {
		if strings.HasPrefix(r.Action, "upstream.") && strings.HasSuffix(r.Subject, "own") {
			actions = append(actions, strings.TrimPrefix(r.Action, "upstream."))
		}
	}
	if diff := cmp.Diff([]string{"add", "stage", "abandon", "stage", "stage", "switch"}, actions); diff != "" {
		t.Error(diff)
	}
}

// Sealed secrets are bound to their version, and no version comes twice: one that was abandoned cannot be put back.
func TestAnAbandonedSecretOpensNoMore(t *testing.T) {
	w, _ := withAccounts(t)
	u := w.mustUpstream(t, "own")
	first, err := u.Stage(w.master, vault.NewSecret("rk_test_51KeybrakeTestsecond"), time.Now(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	abandoned := *first.Staged
	first.Staged = nil
	second, err := first.Stage(w.master, vault.NewSecret("rk_test_51KeybrakeTestthird"), time.Now(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	second.Staged.Sealed = abandoned.Sealed
	if _, err := second.Switched(w.master, time.Now()); err == nil {
		t.Error("an abandoned secret was put into the place of a staged one")
	}
}

func TestTwoRotationsAtOnceAreOne(t *testing.T) {
	w, _ := withAccounts(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = w.client.RotateUpstream(t.Context(), "own", UpstreamSecret{Secret: []string{"rk_test_51KeybrakeTestsecond", "rk_test_51KeybrakeTestthird"}[i%2]})
		})
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		switch {
		case err == nil:
			done++
		case !said(err, 409, "meanwhile"):
			t.Error(err)
		}
	}
	u := w.mustUpstream(t, "own")
	if got := w.sends(t, "own"); done == 0 || int(u.SecretVersion) != 1+done || !strings.HasSuffix(got, u.SecretLast4) {
		t.Errorf("%d were done, the secret has version %d, calls are sent with %s", done, u.SecretVersion, got)
	}
}

func TestAnUpstreamsSecretIsDue(t *testing.T) {
	w, _ := withAccounts(t)
	update := func(every string) (UpstreamView, error) {
		return w.client.UpdateUpstream(t.Context(), "own", UpstreamUpdate{RotateEvery: every})
	}
	u, err := update("90d")
	if err != nil || u.RotateEvery != "90d" || !u.RotateBy.Equal(u.SecretSince.Add(90*24*time.Hour)) || u.Overdue {
		t.Fatalf("%+v, %v", u, err)
	}
	if u, err = w.client.RotateUpstream(t.Context(), "own", UpstreamSecret{Secret: "rk_test_51KeybrakeTestsecond"}); err != nil || !u.RotateBy.Equal(u.SecretSince.Add(90*24*time.Hour)) {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err = update("never"); err != nil || u.RotateEvery != "" || !u.RotateBy.IsZero() {
		t.Errorf("%+v, %v", u, err)
	}
	for _, wrong := range []string{"soon", "", "0d"} {
		if _, err := update(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}
