package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestUpstreamsAreAddedChangedAndRemoved(t *testing.T) {
	s := newSite(t)
	find := func() admin.UpstreamView {
		t.Helper()
		list, err := s.api.Upstreams(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range list.Items {
			if u.Name == "stripe-two" {
				return u
			}
		}
		return admin.UpstreamView{}
	}
	const secret = "rk_test_51CanaryCanaryCanaryTwo"
	refused := s.post("/upstreams", url.Values{"name": {"stripe-two"}, "secret": {secret}, "base": {"http://insecure.example"}})
	if refused.status != http.StatusUnprocessableEntity || !strings.Contains(refused.body, `value="http://insecure.example"`) || !strings.Contains(refused.body, `value="stripe-two"`) {
		t.Errorf("an address without TLS: %d %s", refused.status, shown(refused.body))
	}
	added := s.post("/upstreams", url.Values{"name": {"stripe-two"}, "secret": {secret}, "base": {"http://insecure.example"}, "insecure": {"on"}})
	if added.status != http.StatusOK || find().BaseURL != "http://insecure.example" {
		t.Fatalf("%d %s", added.status, shown(added.body))
	}
	for _, page := range []seen{refused, added, s.get("/upstreams"), s.get("/upstreams/stripe-two")} {
		if strings.Contains(page.body, secret) {
			t.Errorf("%s shows the secret", page.url)
		}
	}
	at := "/upstreams/stripe-two"
	if got := s.post(at, url.Values{"do": {"version"}, "version": {"2024-06-20"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `value="2024-06-20"`) {
		t.Errorf("a version without a reason: %d", got.status)
	}
	if got := s.post(at, url.Values{"do": {"version"}, "version": {"2024-06-20"}, "reason": {"the SDK is old"}}); got.status != http.StatusOK || find().Version != "2024-06-20" {
		t.Errorf("%d %s", got.status, shown(got.body))
	}
	if got := s.post(at, url.Values{"do": {"webhook"}, "secret": {"whsec_" + strings.Repeat("a", 32)}}); got.status != http.StatusOK || !find().Webhook {
		t.Errorf("%d %s", got.status, shown(got.body))
	}
	if got := s.post(at, url.Values{"do": {"webhook"}, "secret": {""}}); got.status != http.StatusUnprocessableEntity || !find().Webhook {
		t.Errorf("an empty secret: %d, messages are taken: %v", got.status, find().Webhook)
	}
	if s.post(at, url.Values{"do": {"webhook-off"}}); find().Webhook {
		t.Error("messages are taken still")
	}
	if got := s.post(at, url.Values{"do": {"explode"}}); got.status != http.StatusUnprocessableEntity && got.status != http.StatusBadRequest {
		t.Errorf("an action that there is not: %d", got.status)
	}
	if got := s.post(at, url.Values{"do": {"remove"}}); got.url != "/upstreams" || find().Name != "" {
		t.Errorf("%s", got.url)
	}
	if got := s.get(at); got.status != http.StatusNotFound {
		t.Errorf("a removed one: %d", got.status)
	}
}

func TestRatesAreSetAndImportedAndKeepWhatWasTyped(t *testing.T) {
	s := newSite(t)
	if got := s.get("/rates").body; !strings.Contains(got, "No rates") {
		t.Error("an empty table says nothing")
	}
	if got := s.post("/rates", url.Values{"do": {"set"}, "currency": {"EURO"}, "rate": {"1.09"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `value="EURO"`) {
		t.Errorf("a currency that there is not: %d", got.status)
	}
	if got := s.post("/rates", url.Values{"do": {"set"}, "currency": {"EUR"}, "rate": {"1.09"}}); got.status != http.StatusOK || !strings.Contains(got.body, "1.09") {
		t.Errorf("%d", got.status)
	}
	if got := s.post("/rates", url.Values{"do": {"import"}, "file": {"currency,rate\r\nGBP,1.27\r\nJPYX,1\r\n"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "line 3") || !strings.Contains(got.body, "GBP,1.27") {
		t.Errorf("a file with a fault: %d %s", got.status, shown(got.body))
	}
	s.post("/rates", url.Values{"do": {"import"}, "file": {"currency,rate\r\nGBP,1.27\r\n"}})
	if list, err := s.api.Rates(t.Context()); err != nil || len(list.Items) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestWhatARoleMayNotDoIsNotOfferedAndIsRefused: a page is not what keeps somebody from doing it.
func TestWhatARoleMayNotDoIsNotOfferedAndIsRefused(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	s.signIn(vault.RoleAuditor)
	for path, offers := range map[string]string{
		"/keys": `href="/keys/new"`, "/keys/" + k.ID: `value="rotate"`, "/upstreams": `name="secret"`, "/upstreams/stripe-test": `name="secret"`, "/rates": `name="rate"`,
	} {
		if got := s.get(path); got.status != http.StatusOK || strings.Contains(got.body, offers) {
			t.Errorf("%s answers %d and offers %s", path, got.status, offers)
		}
	}
	for path, form := range map[string]url.Values{
		"/rates":                 {"do": {"set"}, "currency": {"EUR"}, "rate": {"1"}},
		"/upstreams":             {"name": {"x"}, "secret": {"rk_test_51CanaryCanaryCanary"}},
		"/upstreams/stripe-test": {"do": {"remove"}},
		"/keys/" + k.ID:          {"do": {"revoke"}},
		"/resume":                {"target": {"all"}, "reason": {"x"}},
	} {
		if got := s.post(path, form); got.status < 400 {
			t.Errorf("%s answers %d", path, got.status)
		}
	}
	if got := s.post("/stop", url.Values{"target": {"all"}, "mode": {"stopped"}}); got.status != http.StatusOK || !strings.Contains(got.body, "Everything is stopped.") {
		t.Errorf("a stop: %d", got.status)
	}
}

func TestTimesAreShownAndReadInTheZoneThatIsChosen(t *testing.T) {
	s := newSite(t)
	if got := s.get("/audit").body; !strings.Contains(got, "times in UTC") {
		t.Error("the zone is not said")
	}
	if got := s.post("/look", url.Values{"zone": {"America/New_York"}, "next": {"/audit"}}); got.url != "/audit" || !strings.Contains(got.body, "times in New York") {
		t.Errorf("%s does not say New York", got.url)
	}
	s.post("/look", url.Values{"zone": {"Mars/Olympus"}})
	s.post("/look", url.Values{"zone": {"../../etc/passwd"}})
	if got := s.get("/audit").body; !strings.Contains(got, "times in New York") {
		t.Error("a zone that there is not took the place of one that there is")
	}
	york, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-24": "2026-11-24T05:00:00Z", "2026-11-24 02:07": "2026-11-24T07:07:00Z", "2026-11-24T10:00:00Z": "2026-11-24T10:00:00Z", "24h": "2026-11-23T12:00:00Z",
	} {
		if got, err := instant(text, now, york); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}
