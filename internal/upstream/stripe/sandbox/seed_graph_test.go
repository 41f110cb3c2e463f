package sandbox_test

import (
	"strings"
	"testing"
	"time"
)

func TestEachSeededGraphIsOneCustomersOnly(t *testing.T) {
	r := newRig(t)
	ada, ben := r.seed.Customers[0], r.seed.Customers[1]
	for _, who := range []struct {
		own, other string
		graph      map[string]string
		customer   string
	}{
		{ada.Graph.Canary, ben.Graph.Canary, routesOf(ada.Graph.Subscription, ada.Graph.Schedule, ada.Graph.SetupIntent, ada.Graph.PaidInvoice, ada.Graph.CreditNote,
			ada.Graph.Quote, ada.Graph.Session, ada.Graph.TaxID, ada.Graph.PromotionCode, ada.Graph.CreditGrant), ada.ID},
		{ben.Graph.Canary, ada.Graph.Canary, routesOf(ben.Graph.Subscription, ben.Graph.Schedule, ben.Graph.SetupIntent, ben.Graph.PaidInvoice, ben.Graph.CreditNote,
			ben.Graph.Quote, ben.Graph.Session, ben.Graph.TaxID, ben.Graph.PromotionCode, ben.Graph.CreditGrant), ben.ID},
	} {
		for path, id := range who.graph {
			one := r.ok("GET", path+"/"+id, "")
			r.want(one.str("id"), id, path)
			if !strings.Contains(one.raw, who.own) || strings.Contains(one.raw, who.other) {
				t.Errorf("%s/%s holds the wrong canary: %s", path, id, one.raw)
			}
			if path == "/v1/tax_ids" {
				path = "/v1/customers/" + who.customer + "/tax_ids"
			}
			list := r.ok("GET", path+"?limit=100"+filterOf(path, who.customer), "")
			if !strings.Contains(list.raw, id) || strings.Contains(list.raw, who.other) {
				t.Errorf("the list %s of %s lacks its object, or holds another's", path, who.customer)
			}
		}
	}
	r.want(r.seed.Customers[2].Graph.Canary, "", "the third has none")
	for _, c := range []string{ada.ID, ben.ID} {
		r.want(r.ok("GET", "/v1/customers/"+c, "").num("balance"), int64(0), "balance")
	}
	if err := r.s.Advance(600 * 24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	r.want(len(r.s.Effects()), 0, "what the seed moves by itself")
}

func routesOf(ids ...string) map[string]string {
	out := map[string]string{}
	for i, path := range []string{"subscriptions", "subscription_schedules", "setup_intents", "invoices", "credit_notes", "quotes", "checkout/sessions", "tax_ids",
		"promotion_codes", "billing/credit_grants"} {
		out["/v1/"+path] = ids[i]
	}
	return out
}

func filterOf(path, customer string) string {
	if strings.HasSuffix(path, "/tax_ids") {
		return ""
	}
	return "&customer=" + customer
}
