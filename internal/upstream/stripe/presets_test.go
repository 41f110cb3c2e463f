package stripe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
)

// presetScopes is what each preset grants: the first three as the guide has them.
var presetScopes = map[string]string{
	"refund-support":       "charges:read customers:read payment_intents:read refunds:write",
	"reconciliation":       "balance_transactions:read charges:read customers:read events:read invoices:read payment_intents:read payouts:read",
	"catalog-update":       "plans:write prices:write products:write",
	"billing":              "customers:read invoiceitems:write invoices:write prices:read products:read",
	"subscription-manager": "customers:read invoices:read prices:read products:read subscriptions:write",
	"invoice-finalizer":    "customers:read invoices:write",
	"payment-capturer":     "charges:read payment_intents:write",
	"customer-reader":      "customers:read payment_methods:read subscriptions:read tax_ids:read",
	"dispute-responder":    "charges:read customers:read disputes:write payment_intents:read refunds:read",
	"payout-watcher":       "balance:read balance_transactions:read payouts:read",
	"checkout-links":       "checkout.sessions:write prices:read products:read",
}

func TestEveryPresetIsMinimalAndBounded(t *testing.T) {
	voc := newAdapter(t).Catalog().Vocabulary()
	if len(policy.Presets()) != len(presetScopes) {
		t.Errorf("%d presets, %d are known", len(policy.Presets()), len(presetScopes))
	}
	for _, preset := range policy.Presets() {
		p, warnings, err := policy.ParseEdited(preset.Name, preset.YAML, voc, policy.Edit{Name: "agent-a-b-c"})
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		want := map[policy.Resource]policy.Access{}
		for s := range strings.FieldsSeq(presetScopes[preset.Name]) {
			resource, access, _ := strings.Cut(s, ":")
			want[policy.Resource(resource)] = map[string]policy.Access{"read": policy.Read, "write": policy.Write}[access]
		}
		if diff := cmp.Diff(want, p.Scopes); diff != "" {
			t.Errorf("%s: scopes (-want +got):\n%s", preset.Name, diff)
		}
		if p.Uncapped || len(p.Unmetered) > 0 || p.ClientSecrets || p.RepeatUnknown || p.Enforcement != policy.Enforce || p.RotateEvery == 0 {
			t.Errorf("%s is looser than its scopes", preset.Name)
		}
		for _, w := range warnings {
			if !strings.Contains(w.Message, "the list is empty") { // whoever makes the key names the customers
				t.Errorf("%s warns: %s", preset.Name, w.Message)
			}
		}
		if preset.Title == "" || preset.Description == "" || len(preset.Description) > 100 || strings.Contains(preset.Description, "\n") {
			t.Errorf("%s: title %q, description %q", preset.Name, preset.Title, preset.Description)
		}
	}
}
