package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// welcome STATUS FILE [NAME]: presses the button of the page that the link in a file leads to, on the server at $ADMIN.
func welcome(ts *testscript.TestScript, _ bool, args []string) {
	_, rest, found := strings.Cut(ts.ReadFile(args[1]), "link=")
	if !found {
		ts.Fatalf("there is no link in %s", args[1])
	}
	form := url.Values{"link": {strings.Fields(rest)[0]}}
	if len(args) > 2 {
		form.Set("name", args[2])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.PostForm(ts.Getenv("ADMIN")+"/welcome", form)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if !strings.HasPrefix(resp.Status, args[0]) {
		ts.Fatalf("the link answers %s, not %s", resp.Status, args[0])
	}
}

func TestOnlyATrustedProxyMayNameAnOperatorsAddress(t *testing.T) {
	for name, c := range map[string]struct {
		trusted         []string
		from, forwarded string
		want            string
	}{
		"nobody is trusted":        {nil, "192.0.2.1:4000", "198.51.100.7", "192.0.2.1:4000"},
		"the proxy is":             {[]string{"192.0.2.0/24"}, "192.0.2.1:4000", "203.0.113.9, 198.51.100.7", "198.51.100.7:0"},
		"somebody else is":         {[]string{"203.0.113.0/24"}, "192.0.2.1:4000", "198.51.100.7", "192.0.2.1:4000"},
		"the proxy says nothing":   {[]string{"192.0.2.0/24"}, "192.0.2.1:4000", "", "192.0.2.1:4000"},
		"it is on an IPv6 address": {[]string{"2001:db8::/32"}, "[2001:db8::1]:4000", "2001:db8:1::7, 198.51.100.7", "198.51.100.7:0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{settings: settings{TrustedProxy: c.trusted}}
			got := ""
			h, err := s.behindProxies(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.from
			if c.forwarded != "" {
				r.Header.Set("X-Forwarded-For", c.forwarded)
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got != c.want {
				t.Errorf("the address is %s, want %s", got, c.want)
			}
		})
	}
}

func TestSettingsOfTheSignInThatAreRefused(t *testing.T) {
	good := openIDSettings{Issuer: "https://id.example.com", ClientID: "keybrake"}
	for name, c := range map[string]struct {
		change func(*settings)
		says   string // empty: taken
	}{
		"a provider":                          {func(*settings) {}, ""},
		"a provider on this machine":          {func(s *settings) { s.OpenID.Issuer = "http://127.0.0.1:9" }, ""},
		"a provider without TLS":              {func(s *settings) { s.OpenID.Issuer = "http://id.example.com" }, "must be https"},
		"no issuer":                           {func(s *settings) { s.OpenID.Issuer = "" }, "must be an address"},
		"no client id":                        {func(s *settings) { s.OpenID.ClientID = "" }, "client_id"},
		"admins by themselves":                {func(s *settings) { s.OpenID.CreateRole, s.OpenID.CreateDomain = "admin", "x.example" }, "admins are made by admins"},
		"a role for whoever comes":            {func(s *settings) { s.OpenID.CreateRole = "auditor" }, "go together"},
		"beyond loopback, without an address": {func(s *settings) { s.AdminListen = "0.0.0.0:8788" }, "console_url"},
		"beyond loopback, with one":           {func(s *settings) { s.AdminListen, s.ConsoleURL = "0.0.0.0:8788", "https://keybrake.example.com" }, ""},
		"an address with a path":              {func(s *settings) { s.ConsoleURL = "https://example.com/keybrake" }, "without a path"},
	} {
		t.Run(name, func(t *testing.T) {
			s := defaultSettings()
			s.OpenID = good
			c.change(&s)
			if err := s.checkSignIn(); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestALinkLeadsWhereABrowserCanGo(t *testing.T) {
	for listener, want := range map[string]string{
		"127.0.0.1:8788": "127.0.0.1:8788",
		"[::1]:8788":     "[::1]:8788",
		"10.0.0.7:8788":  "10.0.0.7:8788",
		"[::]:8788":      "localhost:8788",
		"0.0.0.0:8788":   "localhost:8788",
	} {
		if got := openable(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(listener))); got != want {
			t.Errorf("a listener on %s is opened at %s, not %s", listener, got, want)
		}
	}
}
