package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/vault"
)

// invited makes an account and a link for it, and returns the link's secret.
func (s *site) invited(name string, role vault.Role) string {
	s.t.Helper()
	if _, err := s.api.CreateOperator(s.t.Context(), admin.OperatorRequest{Name: name, Role: role.String()}); err != nil {
		s.t.Fatal(err)
	}
	invite, err := s.api.Invite(s.t.Context(), name, admin.InviteRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return secretOf(s.t, invite)
}

func secretOf(t *testing.T, invite admin.Invite) string {
	t.Helper()
	u, err := url.Parse(invite.Path)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("link")
}

// leave ends this browser's session.
func (s *site) leave() {
	s.t.Helper()
	if got := s.post("/logout", nil); got.url != "/login" {
		s.t.Fatalf("signing out leads to %s", got.url)
	}
}

func TestSigningOutEndsTheSessionOnTheServer(t *testing.T) {
	s := newSite(t)
	if list, err := s.api.Sessions(t.Context()); err != nil || len(list.Items) != 1 {
		t.Fatal(list, err)
	}
	s.leave()
	if list, err := s.api.Sessions(t.Context()); err != nil || len(list.Items) != 0 {
		t.Error(list, err)
	}
	if got := s.get("/keys"); got.url != "/login?next=%2Fkeys" {
		t.Errorf("after signing out: %s", got.url)
	}
}

func TestALinkAsksForOnePressAndThenShowsHowToMakeAToken(t *testing.T) {
	s := newSite(t)
	link := s.invited("ben", vault.RoleResponder)
	s.leave()
	at := "/welcome?link=" + link
	for range 2 {
		if got := s.get(at); got.status != http.StatusOK || !strings.Contains(got.body, "Sign in as ben") {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	got := s.post("/welcome", url.Values{"link": {link}})
	if got.url != "/welcome" || !strings.Contains(got.body, "Welcome, ben") || !strings.Contains(got.body, "keybrake token create ben-laptop --operator ben") {
		t.Fatalf("%s %s", got.url, got.body)
	}
	if got := s.get("/"); got.url != "/" {
		t.Errorf("not signed in: %s", got.url)
	}
	s.leave()
	if got := s.get(at); got.status != http.StatusNotFound || !strings.Contains(got.body, "keybrake operator invite") {
		t.Errorf("a used link: %d %s", got.status, got.body)
	}
	if got := s.post("/welcome", url.Values{"link": {link}}); got.status != http.StatusUnauthorized {
		t.Errorf("a used link, pressed: %d", got.status)
	}
}

func TestTheFirstAdminSaysTheirNameAndKeepsWhatWasTyped(t *testing.T) {
	s := newSite(t)
	s.leave()
	invite, ok, err := s.service.FirstAdmin(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got := s.get(invite.Path); !strings.Contains(got.body, `name="name"`) {
		t.Fatalf("nobody asks for a name: %s", got.body)
	}
	link := secretOf(t, invite)
	wrong := s.post("/welcome", url.Values{"link": {link}, "name": {"ines <b>"}})
	if wrong.status != http.StatusBadRequest || !strings.Contains(wrong.body, "write letters") || !strings.Contains(wrong.body, `value="ines &lt;b&gt;"`) {
		t.Errorf("%d %s", wrong.status, wrong.body)
	}
	if got := s.post("/welcome", url.Values{"link": {link}, "name": {"ines"}}); !strings.Contains(got.body, "Welcome, ines") || !strings.Contains(got.body, "signed in as admin") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestTheSessionsCookieIsForThisHostAndItsOwnPagesAlone(t *testing.T) {
	s := newSite(t)
	token := s.service.MintLocal("ines", vault.RoleAdmin).Reveal()
	pages, err := New(Config{API: s.service.Handler(), Door: s.service, Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	behindTLS := httptest.NewServer(pages)
	defer behindTLS.Close()
	for name, c := range map[string]struct {
		at, cookie string
		secure     bool
	}{
		"plain, on loopback": {s.server.URL, "keybrake_session", false},
		"TLS ends in front":  {behindTLS.URL, "__Host-keybrake_session", true},
	} {
		t.Run(name, func(t *testing.T) {
			client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			resp, err := client.PostForm(c.at+"/login", url.Values{"token": {token}})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if len(resp.Cookies()) != 1 {
				t.Fatal(resp.Header)
			}
			got := resp.Cookies()[0]
			if got.Name != c.cookie || got.Secure != c.secure || !got.HttpOnly || got.SameSite != http.SameSiteStrictMode || got.Path != "/" || got.Domain != "" || got.Expires.IsZero() {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestWhoFollowsALinkFromElsewhereIsAskedAgainFromHere(t *testing.T) {
	s := newSite(t)
	s.leave()
	from := func(site string) seen {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/keys?x=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", site)
		return s.read(s.browser.Do(r))
	}
	if got := from("cross-site"); got.url != "/keys?x=1" || !strings.Contains(got.body, `<meta http-equiv="refresh" content="0;url=/keys?x=1">`) {
		t.Errorf("%s %s", got.url, got.body)
	}
	if got := from("same-origin"); !strings.HasPrefix(got.url, "/login") {
		t.Errorf("asked from here it leads to %s", got.url)
	}
}

func TestTheWayInSaysWhenItIsTriedTooOften(t *testing.T) {
	s := newSite(t)
	var last seen
	for range 11 {
		last = s.post("/login", url.Values{"token": {"bad"}})
	}
	if last.status != http.StatusTooManyRequests || !strings.Contains(last.body, "wait a minute") {
		t.Errorf("%d %s", last.status, last.body)
	}
}

func TestAPageThatRefreshesItselfKeepsNobodySignedIn(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		in     bool
	}{"a person asks": {"", true}, "the page's script asks": {"1", false}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.clock.pass(admin.SessionIdle - time.Minute)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/more", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Keybrake-Live", c.header)
			if got := s.read(s.browser.Do(r)); got.url != "/more" {
				t.Fatalf("signed out too early: %s", got.url)
			}
			s.clock.pass(2 * time.Minute)
			if got := s.get("/more"); (got.url == "/more") != c.in {
				t.Errorf("it leads to %s", got.url)
			}
		})
	}
}

func TestSigningOutWithoutAStoreForgetsTheSessionHere(t *testing.T) {
	s := newSite(t)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.post("/logout", nil); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "has forgotten its session") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := s.get("/more"); !strings.HasPrefix(got.url, "/login") {
		t.Errorf("still signed in: %s", got.url)
	}
}
