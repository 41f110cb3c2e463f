package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/internal/vault"
)

// demo is what --dev sets up: a sandbox with data, and two keys of the refund-support preset.
type demo struct {
	sandbox *sandbox.Server
	url     string
	seeded  sandbox.Seeded
	listed  admin.KeyCreated // two customers
	any     admin.KeyCreated // any customer
	console admin.Invite     // signs in as devOperator
}

// devOperator is the admin that --dev makes.
const devOperator = "dev"

// demoUpstream is the name of the sandbox as upstream.
const demoUpstream = "stripe-sandbox"

// demoCap is small enough that the printed snippets meet it.
const demoCap = "refunds/day=100"

// demoRates are typed rates of the day this was written: enough to see how other currencies are held.
var demoRates = []admin.RateInput{{Currency: "EUR", Rate: "1.09"}, {Currency: "GBP", Rate: "1.27"}, {Currency: "JPY", Rate: "0.0067"}}

// openDemo starts the sandbox and makes upstream, rates and keys, as an operator would.
func (s *server) openDemo(ctx context.Context) error {
	d := &demo{sandbox: sandbox.New(sandbox.Options{Seed: 1})}
	d.seeded = d.sandbox.Seed()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the sandbox: %w", err)
	}
	srv := &http.Server{Handler: d.sandbox, ReadHeaderTimeout: headTimeout}
	go func() { _ = srv.Serve(l) }() // ends with close
	s.closers = append(s.closers, srv.Close, func() error { d.sandbox.Close(); return nil })
	d.url = "http://" + l.Addr().String()

	who := admin.Actor{Name: "serve --dev", Role: vault.RoleAdmin}
	if _, err := s.admin.AddUpstream(ctx, who, admin.UpstreamRequest{
		Name: demoUpstream, Secret: "sk_test_sandbox", BaseURL: d.url,
	}); err != nil {
		return fmt.Errorf("add the sandbox as upstream: %w", err)
	}
	if _, err := s.admin.SetRates(ctx, who, admin.RateInputs{Rates: demoRates}); err != nil {
		return fmt.Errorf("set rates: %w", err)
	}
	if d.listed, err = s.admin.CreateKey(ctx, who, admin.KeyRequest{
		Name: "agent-support-refunds-demo", Preset: "refund-support",
		PolicyEdit: admin.PolicyEdit{
			Caps: []string{demoCap}, Customers: []string{d.seeded.Customers[0].ID, d.seeded.Customers[1].ID},
		},
	}); err != nil {
		return fmt.Errorf("make the first key: %w", err)
	}
	if d.any, err = s.admin.CreateKey(ctx, who, admin.KeyRequest{
		Name: "agent-support-refunds-any", Preset: "refund-support",
		PolicyEdit: admin.PolicyEdit{Caps: []string{demoCap}, Customers: []string{"any"}},
	}); err != nil {
		return fmt.Errorf("make the second key: %w", err)
	}
	if _, err = s.admin.CreateOperator(ctx, who, admin.OperatorRequest{Name: devOperator, Role: vault.RoleAdmin.String()}); err != nil {
		return fmt.Errorf("make the operator: %w", err)
	}
	if d.console, err = s.admin.Invite(ctx, who, devOperator, admin.InviteRequest{}); err != nil {
		return fmt.Errorf("make the operator's link: %w", err)
	}
	s.demo = d
	return nil
}

// printDemo tells what is ready and how to use it.
func (s *server) printDemo(a addresses) error {
	d := s.demo
	u, err := url.Parse(a.Gateway)
	if err != nil {
		return err
	}
	first := d.seeded.Customers[0]
	var b strings.Builder
	fmt.Fprintf(&b, "\nKeybrake is ready. Everything is temporary and ends with Ctrl-C.\n\n")
	fmt.Fprintf(&b, "  gateway   %s   (agents)\n", a.Gateway)
	fmt.Fprintf(&b, "  admin     %s   (operators; the CLI finds it by itself)\n", a.Admin)
	fmt.Fprintf(&b, "  sandbox   %s   (a Stripe in memory, the upstream)\n", d.url)
	fmt.Fprintf(&b, "  console   %s\n            (signs you in, once; `keybrake operator invite %s` makes another link)\n\n", s.consoleURL()+d.console.Path, devOperator)
	fmt.Fprintf(&b, "Two vault keys of the preset refund-support, $100 of refunds a day:\n\n")
	fmt.Fprintf(&b, "  %-30s %s\n", d.listed.Name, d.listed.Key)
	fmt.Fprintf(&b, "  %-30s customers %s and %s\n\n", "", first.ID, d.seeded.Customers[1].ID)
	fmt.Fprintf(&b, "  %-30s %s\n", d.any.Name, d.any.Key)
	fmt.Fprintf(&b, "  %-30s any customer\n\n", "")
	fmt.Fprintf(&b, "Try: keybrake spend · keybrake kill %s · keybrake audit tail\n\n", d.listed.Name)
	if _, err := fmt.Fprint(s.streams.out, b.String()); err != nil {
		return err
	}
	return printSnippets(s.streams.out, snippetData{
		URL: a.Gateway, Host: u.Hostname(), Port: u.Port(),
		Key: d.listed.Key, Customer: first.ID, Charge: first.Charges[1],
	})
}
