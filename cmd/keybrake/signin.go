package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/console"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/vault"
)

// openIDSettings are what the config file says of the OpenID provider.
type openIDSettings struct {
	Issuer           string `yaml:"issuer"`
	ClientID         string `yaml:"client_id"`
	ClientSecretFile string `yaml:"client_secret_file"`
	// Label is what the button calls it.
	Label string `yaml:"label"`
	// CreateRole and CreateDomain let people in whom nobody has added: whose verified email is of the domain.
	CreateRole   string `yaml:"create_role"`
	CreateDomain string `yaml:"create_domain"`
}

// checkSignIn refuses what cannot work about how operators come in.
func (s *settings) checkSignIn() error {
	if u, err := url.Parse(s.ConsoleURL); s.ConsoleURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "") {
		return fmt.Errorf("--console-url %q: write an address without a path, like https://keybrake.example.com", s.ConsoleURL)
	}
	o := s.OpenID
	if o == (openIDSettings{}) {
		return nil
	}
	if err := admin.CheckOpenID(o.Issuer, o.ClientID); err != nil {
		return fmt.Errorf("openid: %w", err)
	}
	role, ok := vault.ParseRole(o.CreateRole)
	switch host, _, _ := net.SplitHostPort(s.AdminListen); {
	case (o.CreateRole == "") != (o.CreateDomain == ""):
		return errors.New("openid: create_role and create_domain go together: who gets an account by themselves, and which")
	case o.CreateRole != "" && (!ok || role != vault.RoleAuditor && role != vault.RoleResponder):
		return fmt.Errorf("openid: create_role %q: write auditor or responder; admins are made by admins", o.CreateRole)
	case s.ConsoleURL == "" && !loopback(host):
		return errors.New("openid: say with console_url where the provider sends browsers back to, like https://keybrake.example.com")
	}
	return nil
}

// openID reads what sign-in through a provider needs; nil: nobody signs in that way.
func (s *server) openID() (*admin.OpenIDConfig, error) {
	o := s.settings.OpenID
	if o == (openIDSettings{}) {
		return nil, nil
	}
	var secret vault.Secret // a public client has none
	if o.ClientSecretFile != "" {
		text, err := os.ReadFile(o.ClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("openid: read client_secret_file: %w", err)
		}
		secret = vault.NewSecret(strings.TrimSpace(string(text)))
	}
	role, _ := vault.ParseRole(o.CreateRole) // checked before
	return &admin.OpenIDConfig{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: secret, Label: o.Label, CreateRole: role, CreateDomain: strings.ToLower(o.CreateDomain),
		Redirect:  func() string { return s.consoleURL() + console.OpenIDReturnPath },
		SignedOut: func() string { return s.consoleURL() + console.LoginPath },
	}, nil
}

// operatorsHosts are the names under which the operators' port may be called: those that were given, and the console's own.
func (s *settings) operatorsHosts() []string {
	hosts := s.AdminHost
	if u, err := url.Parse(s.ConsoleURL); err == nil && u.Hostname() != "" {
		hosts = append(hosts[:len(hosts):len(hosts)], u.Hostname())
	}
	return hosts
}

// consoleURL is where operators' browsers reach the console.
func (s *server) consoleURL() string { return firstOf(s.settings.ConsoleURL, s.operatorsURL) }

// behindProxies gives requests the address of who sent them, where a trusted proxy stands between.
func (s *server) behindProxies(next http.Handler) (http.Handler, error) {
	proxies, err := s.settings.proxies()
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := gateway.ClientAddr(r, proxies); from.IsValid() {
			if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && at.Addr().Unmap() != from {
				r.RemoteAddr = netip.AddrPortFrom(from, 0).String()
			}
		}
		next.ServeHTTP(w, r)
	}), nil
}

// printFirstLink prints a link with which the first admin comes in, as long as there is none. It goes to standard output
// alone: a log is kept, and read by others.
func (s *server) printFirstLink(ctx context.Context) error {
	invite, none, err := s.admin.FirstAdmin(ctx)
	if err != nil {
		s.log.Warn("no link for the first admin could be made; `keybrake operator add` and `keybrake operator invite` make one", "err", err)
		return nil
	}
	if !none {
		return nil
	}
	_, err = fmt.Fprintf(s.streams.out, "\nNobody has an account yet. Whoever opens this link first makes the first admin's (it works once, until %s):\n\n  %s\n\n",
		when(invite.Expires), s.consoleURL()+invite.Path)
	return err
}
