package console

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/admin"
)

// shownOnce is what a page shows this once.
func shownOnce(t *testing.T, body string) string {
	t.Helper()
	m := regexp.MustCompile(`<code id="secret">([^<]+)</code>`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no secret is shown: %s", shown(body))
	}
	return strings.ReplaceAll(m[1], "&#43;", "+")
}

func TestAnOperatorIsMadeInvitedChangedAndDisabled(t *testing.T) {
	s := newSite(t)
	refused := s.post("/operators", url.Values{"do": {"add"}, "name": {"no spaces here"}, "role": {"auditor"}, "email": {"ben@example.com"}})
	if refused.status != http.StatusUnprocessableEntity || !strings.Contains(refused.body, `value="no spaces here"`) || !strings.Contains(refused.body, `value="ben@example.com"`) {
		t.Errorf("a name that is none: %d", refused.status)
	}
	if got := s.post("/operators", url.Values{"do": {"add"}, "name": {"ben"}, "role": {"auditor"}}); got.url != "/operators/ben" {
		t.Fatalf("%d %s", got.status, shown(got.body))
	}
	at := "/operators/ben"
	link := shownOnce(t, s.post(at, url.Values{"do": {"invite"}}).body)
	if !strings.HasPrefix(link, s.server.URL+"/welcome?link=keybrake_link_") {
		t.Errorf("the link is %s", link)
	}
	if got := s.get("/operators"); strings.Contains(got.body, "keybrake_link_") || !strings.Contains(got.body, "a link is open") {
		t.Error("the list shows the link, or not that there is one")
	}
	if got := s.post(at, url.Values{"do": {"change"}, "role": {"responder"}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "<option selected>responder") {
		t.Errorf("a higher role without a reason: %d", got.status)
	}
	s.post(at, url.Values{"do": {"change"}, "role": {"responder"}, "reason": {"takes over"}, "email": {"ben@example.com"}})
	if o, err := s.api.Operator(t.Context(), "ben"); err != nil || o.Role != "responder" || o.Email != "ben@example.com" {
		t.Errorf("%+v, %v", o, err)
	}
	s.post(at, url.Values{"do": {"disable"}})
	if o, err := s.api.Operator(t.Context(), "ben"); err != nil || o.Disabled.IsZero() {
		t.Errorf("%+v, %v", o, err)
	}
	if got := s.post(at, url.Values{"do": {"enable"}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("enabling without a reason: %d", got.status)
	}
	if got := s.get("/operators/nobody"); got.status != http.StatusNotFound {
		t.Errorf("an account that there is not: %d", got.status)
	}
}

func TestATokenIsShownOnceAndEnded(t *testing.T) {
	s := newSite(t)
	token := shownOnce(t, s.post("/operators", url.Values{"do": {"token"}, "name": {"pager"}, "operator": {""}, "role": {"stop"}}).body)
	if !strings.HasPrefix(token, "keybrake_admin_") {
		t.Errorf("the token is %.20s", token)
	}
	list := s.get("/operators").body
	if strings.Contains(list, token) || !strings.Contains(list, "pager") {
		t.Error("the list shows the token, or not its name")
	}
	s.post("/operators", url.Values{"do": {"end-token"}, "name": {"pager"}})
	if all, err := s.api.Tokens(t.Context()); err != nil || hasToken(all.Items, "pager") {
		t.Error(all, err)
	}
}

func hasToken(tokens []admin.Token, name string) bool {
	for _, t := range tokens {
		if t.Name == name {
			return true
		}
	}
	return false
}

func TestSessionsAreToldApartByTheirBrowser(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36":                                   "Chrome on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0":                                                        "Firefox on Windows",
		"Go-http-client/1.1": "another browser", "": "another browser",
	} {
		if got := browser(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
