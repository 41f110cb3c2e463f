package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/keybrake/keybrake/internal/gateway"
)

// checkConsoleURL refuses an address to which no path can be added.
func (s *settings) checkConsoleURL() error {
	if s.ConsoleURL == "" {
		return nil
	}
	u, err := url.Parse(s.ConsoleURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("--console-url %q: write an address without a path, like https://keybrake.example.com", s.ConsoleURL)
	}
	return nil
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
func (s *server) consoleURL(a addresses) string { return firstOf(s.settings.ConsoleURL, a.Admin) }

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
func (s *server) printFirstLink(ctx context.Context, a addresses) error {
	invite, none, err := s.admin.FirstAdmin(ctx)
	if err != nil {
		s.log.Warn("no link for the first admin could be made; `keybrake operator add` and `keybrake operator invite` make one", "err", err)
		return nil
	}
	if !none {
		return nil
	}
	_, err = fmt.Fprintf(s.streams.out, "\nNobody has an account yet. Whoever opens this link first makes the first admin's (it works once, until %s):\n\n  %s\n\n",
		when(invite.Expires), s.consoleURL(a)+invite.Path)
	return err
}
