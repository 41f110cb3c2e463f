package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

// stripeURL is Stripe's only API host.
const stripeURL = "https://api.stripe.com"

// stripeNeeds are the reads that Keybrake itself makes at Stripe.
var stripeNeeds = []admin.Need{
	{Name: "Charges: Read", Path: "/v1/charges", Query: "limit=1", Without: "refunds of a charge cannot be held or tied to their customer, so they are denied"},
	{Name: "PaymentIntents: Read", Path: "/v1/payment_intents", Query: "limit=1", Without: "confirming, capturing and refunding a payment intent are denied"},
	{Name: "Refunds: Read", Path: "/v1/refunds", Query: "limit=1", Without: "what became of a refund with no answer cannot be learned; its hold stays"},
	{Name: "Customers: Read", Path: "/v1/customers", Query: "limit=1", Without: "a customer allowlist cannot be followed to payment methods"},
	{Name: "Invoices: Read", Path: "/v1/invoices", Query: "limit=1", Without: "finalizing and paying an invoice are denied"},
	{Name: "Events: Read", Path: "/v1/events", Query: "limit=1", Without: "what became of a call with no answer cannot be learned from events"},
	{Name: "Balance Transactions: Read", Path: "/v1/balance_transactions", Query: "limit=1", Without: "the books cannot be compared with Stripe's ledger"},
}

// stripeAccount is how Stripe is asked whose a secret is.
var stripeAccount = admin.AccountQuestion{Path: stripe.AccountPath, Of: stripe.AccountOf, Needs: "the permission connected_account_read"}

// prober asks through the same client as the data plane: pinned host, no redirect, no proxy.
type prober struct{ client *upstream.Client }

// Probe implements admin.Prober.
func (p prober) Probe(ctx context.Context, up *vault.Upstream, path, query string) (int, []byte, error) {
	answer := p.client.Do(ctx, up.BaseURL, up, &upstream.Request{Method: "GET", Path: path, Query: query})
	return answer.Status, answer.Body, answer.Err
}

// Try implements admin.Prober.
func (p prober) Try(ctx context.Context, up *vault.Upstream, probe upstream.Probe) (int, error) {
	r := &upstream.Request{Method: probe.Method, Path: probe.Path, Header: http.Header{"Stripe-Version": {up.Version}}}
	if probe.Method == http.MethodPost {
		r.Body = []byte(probe.Broken)
		r.Header["Content-Type"] = []string{probe.ContentType}
	} else {
		r.Query = probe.Broken
	}
	answer := p.client.Do(ctx, up.BaseURL, up, r)
	return answer.Status, answer.Err
}

var _ admin.Prober = prober{}

// restrictedKeys says what a restricted key of Stripe's must open for a policy. It is called as the vault key is.
func restrictedKeys(c *stripe.Catalog) func(*policy.Policy, vault.Mode) admin.RestrictedKey {
	return func(p *policy.Policy, mode vault.Mode) admin.RestrictedKey {
		r := c.RestrictedKey(p, p.Name, mode == vault.Live)
		return admin.RestrictedKey{Link: r.Link, Permissions: append([]string{}, r.Permissions...), Notes: append([]string{}, r.Notes...)}
	}
}

// printRestricted tells what the upstream's own key needs for a vault key.
func printRestricted(w io.Writer, upstream string, r *admin.RestrictedKey) {
	if r == nil {
		return
	}
	fmt.Fprintf(w, "\nAt Stripe the upstream %s needs for this key, and no more:\n  %s\nThis link ticks it:\n  %s\n", upstream,
		strings.Join(r.Permissions, ", "), r.Link)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  - %s\n", printable(n))
	}
}
