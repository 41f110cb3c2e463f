package stripe

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
)

func TestTheRestrictedKeyOpensWhatThePolicyNeedsAndNoMore(t *testing.T) {
	c := newAdapter(t).Catalog()
	for name, tt := range map[string]struct {
		yaml  string
		want  []string
		notes []string // parts of notes that must be there
	}{
		"refunds sit under charges, and their look-ups come along": {
			yaml: "scopes: {charges: read, payment_intents: read, customers: read, refunds: write}\n" +
				"caps: [{resource: refunds, per: day, usd: 500}]\ncustomers: []",
			want: []string{"rak_balance_transaction_source_read", "rak_charge_write", "rak_customer_read", "rak_event_read", "rak_payment_intent_read"},
			notes: []string{
				"there is none for refunds alone", "rak_charge_write also opens writing charges at Stripe", "Keybrake itself reads balance_transactions, events",
			},
		},
		"look-ups alone are reason enough": {
			yaml:  "scopes: {refunds: write}\ncaps: [{resource: refunds, per: day, usd: 500}]\ncustomers: any",
			want:  []string{"rak_balance_transaction_source_read", "rak_charge_write", "rak_event_read", "rak_payment_intent_read"},
			notes: []string{"Keybrake itself reads balance_transactions, charges, events, payment_intents"},
		},
		"prices sit under plans, and what moves no money needs nothing else": {
			yaml:  "scopes: {products: write, plans: write, prices: write}",
			want:  []string{"rak_plan_write", "rak_product_write"},
			notes: []string{"prices: Its row is Plans and prices.", "rak_product_write also opens writing products.features"},
		},
		"reading alone asks for reading alone": {
			yaml:  "scopes: {charges: read, events: read, balance_transactions: read}\ncustomers: any",
			want:  []string{"rak_balance_transaction_source_read", "rak_charge_read", "rak_event_read"},
			notes: []string{"Each type of event needs read on its object as well"},
		},
		"a customer list has to be followed": {
			yaml: "scopes: {disputes: read}\ncustomers: [cus_a]",
			want: []string{"rak_charge_read", "rak_dispute_read", "rak_payment_intent_read"},
		},
		"previews and worst cases are read too": {
			yaml: "scopes: {subscriptions: write}\ncaps: [{resource: subscriptions, per: day, usd: 500}]\ncustomers: any",
			want: []string{
				"rak_balance_transaction_source_read", "rak_event_read", "rak_invoice_read", "rak_plan_read", "rak_subscription_write", "rak_tax_rate_read",
			},
			notes: []string{"POST /v1/invoices/create_preview for a preview"},
		},
		"connected accounts and v2 need a word": {
			yaml:  "scopes: {balance: read, v2.core.events: read}\ncustomers: any\naccounts: [acct_1]",
			want:  []string{"rak_balance_read"},
			notes: []string{"Connect permissions of the same rows", "restricted keys work on /v2", "v2.core.events (read): tick it by hand"},
		},
		"what has no name is said": {
			yaml:  "scopes: {billing.alerts: write}\ncustomers: any",
			notes: []string{"No name of Stripe's is known for billing.alerts (write): tick it by hand."},
		},
		"write on what cannot be written is read": {
			yaml: "scopes: {events: write}\ncustomers: any",
			want: []string{"rak_event_read"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := policy.Parse("p.yaml", []byte(tt.yaml), c.Vocabulary())
			if err != nil {
				t.Fatal(err)
			}
			got := c.RestrictedKey(p, "agent-a-b-c", false)
			if !slices.Equal(got.Permissions, tt.want) {
				t.Errorf("opens %v, want %v", got.Permissions, tt.want)
			}
			for _, want := range tt.notes {
				if !slices.ContainsFunc(got.Notes, func(n string) bool { return strings.Contains(n, want) }) {
					t.Errorf("no note says %q: %q", want, got.Notes)
				}
			}
		})
	}
}

func TestTheLinkTicksThePermissionsInItsMode(t *testing.T) {
	c := newAdapter(t).Catalog()
	p, _, err := policy.Parse("p.yaml", []byte("scopes: {products: write, events: read}\ncustomers: any"), c.Vocabulary())
	if err != nil {
		t.Fatal(err)
	}
	want := "https://dashboard.stripe.com/test/apikeys/create?name=agent-a%26b&permissions[]=rak_event_read&permissions[]=rak_product_write"
	if got := c.RestrictedKey(p, "agent-a&b", false).Link; got != want {
		t.Errorf("test mode: %s", got)
	}
	live := c.RestrictedKey(p, "agent-a&b", true).Link
	if live != strings.Replace(want, "/test/", "/", 1) {
		t.Errorf("live mode: %s", live)
	}
	u, err := url.Parse(live)
	if err != nil {
		t.Fatal(err)
	}
	if q := u.Query(); q.Get("name") != "agent-a&b" || !slices.Equal(q["permissions[]"], []string{"rak_event_read", "rak_product_write"}) {
		t.Errorf("the link is read as %v", q)
	}
}

func TestTheOpenPolicysKeyHasEveryNameOnce(t *testing.T) {
	c := newAdapter(t).Catalog()
	p, _, err := policy.Parse("p.yaml", []byte("scopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any"), c.Vocabulary())
	if err != nil {
		t.Fatal(err)
	}
	got := c.RestrictedKey(p, "x", true).Permissions
	if len(got) < 80 || len(slices.Compact(slices.Clone(got))) != len(got) || slices.Contains(got, "rak_charge_read") {
		t.Errorf("%d names: %v", len(got), got)
	}
	if none := c.RestrictedKey(&policy.Policy{}, "x", true); len(none.Permissions) > 0 || len(none.Notes) > 0 {
		t.Errorf("the zero policy needs %+v", none)
	}
}

// TestWhatWorstCasesReadIsKnown reads their source: a look-up that is not in the table would be missing from
// the restricted keys that the links make.
func TestWhatWorstCasesReadIsKnown(t *testing.T) {
	known := map[policy.Resource]bool{}
	for name := range worstCases {
		resources, ok := worstCaseReads[name]
		if !ok {
			t.Errorf("nobody says what worst_case:%s reads", name)
		}
		for _, r := range resources {
			known[r] = true
		}
	}
	if len(worstCaseReads) != len(worstCases) {
		t.Errorf("%d worst cases, the table has %d", len(worstCases), len(worstCaseReads))
	}
	files, err := filepath.Glob("bounds*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := 0
	c := newAdapter(t).Catalog()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(/v[12]/[^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			ref, err := ParseLookupRef("GET " + m[1])
			if err != nil {
				t.Fatal(err)
			}
			found++
			for _, r := range c.reads(ref) {
				if !known[r] {
					t.Errorf("%s reads %s, and no worst case is said to read %s", name, m[1], r)
				}
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d look-ups were found", found)
	}
}
