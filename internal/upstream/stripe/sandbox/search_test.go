package sandbox_test

import (
	"net/url"
	"strings"
	"testing"
)

func (r *rig) search(resource, query string) *reply {
	r.t.Helper()
	return r.ok("GET", "/v1/"+resource+"/search?limit=100&query="+url.QueryEscape(query), "")
}

func TestSearchUnderstandsStripesLanguage(t *testing.T) {
	r := newRig(t)
	ada, ben := r.seed.Customers[0], r.seed.Customers[1]
	r.ok("POST", "/v1/customers/"+ada.ID, "metadata[tier]=Gold&metadata[it's \"odd\"]=x&phone=%2B15550100")
	for _, tc := range []struct {
		name, resource, query string
		want                  int
	}{
		{"an exact text, in any letter case", "customers", `email:"ADA@example.com"`, 1},
		{"a part of a text", "customers", `name~"dam"`, 1},
		{"metadata", "customers", `metadata["tier"]:"gold"`, 1},
		{"metadata in single quotes", "customers", `metadata['tier']:'gold'`, 1},
		{"what is not there", "customers", `metadata["tier"]:null`, 2},
		{"what is there", "customers", `-metadata["tier"]:null`, 1},
		{"all but one", "customers", `-email:"ada@example.com"`, 2},
		{"both", "customers", `email:"ada@example.com" AND name~"Ben"`, 0},
		{"both, without a word", "customers", `email:"ada@example.com" metadata["tier"]:"gold"`, 1},
		{"either", "customers", `email:"ada@example.com" or name~"Ben"`, 2},
		{"a customer's charges", "charges", `customer:"` + ada.ID + `"`, 10},
		{"a larger amount", "charges", `customer:"` + ada.ID + `" AND amount>20000`, 0},
		{"an amount between", "charges", `customer:"` + ada.ID + `" AND amount>=20000 AND amount<20001`, 10},
		{"the digits of a card", "charges", `payment_method_details.card.last4:4242`, 21},
		{"a boolean", "charges", `refunded:"false" AND disputed:"false"`, 21},
		{"intents", "payment_intents", `customer:"` + ben.ID + `" AND status:"succeeded"`, 1},
		{"invoices", "invoices", `total>4999`, 3},
		{"prices", "prices", `active:"true" AND product:"` + r.seed.Product + `"`, 2},
		{"products", "products", `name~"Support"`, 1},
		{"subscriptions", "subscriptions", `status:"active"`, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := r.search(tc.resource, tc.query)
			r.want(out.str("object"), "search_result", "object")
			r.want(len(out.ids()), tc.want, tc.query)
		})
	}
}

func TestSearchRefusesWhatStripeDoes(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct{ name, resource, query string }{
		{"an unknown field", "charges", `colour:"red"`},
		{"another resource's field", "customers", `amount>1`},
		{"AND beside OR", "customers", `name:"a" AND name:"b" OR name:"c"`},
		{"the size of a text", "customers", `name>"a"`},
		{"a part of a token", "charges", `currency~"us"`},
		{"a part of two letters", "customers", `name~"ad"`},
		{"an open quote", "customers", `name:"ada`},
		{"an open bracket", "customers", `metadata["a:"b"`},
		{"no operator", "customers", `ada`},
		{"no value", "customers", `name:`},
		{"a text without quotes", "customers", `name:ada`},
		{"a number that is none", "charges", `amount:"many"`},
		{"a word at the end", "customers", `name:"a" AND`},
		{"eleven clauses", "customers", strings.TrimSpace(strings.Repeat(`name:"a" `, 11))},
		{"nothing", "customers", " "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.refused(400, "", "GET", "/v1/"+tc.resource+"/search?query="+url.QueryEscape(tc.query), "")
		})
	}
	r.refused(400, "parameter_missing", "GET", "/v1/customers/search", "")
}

func TestSearchGoesFromPageToPage(t *testing.T) {
	r := newRig(t)
	seen, page := map[string]bool{}, ""
	for range 10 {
		out := r.ok("GET", "/v1/charges/search?limit=8&query="+url.QueryEscape(`currency:"usd"`)+page, "")
		for _, id := range out.ids() {
			if seen[id] {
				t.Errorf("%s came twice", id)
			}
			seen[id] = true
		}
		if out.at("has_more") != true {
			break
		}
		page = "&page=" + out.str("next_page")
	}
	r.want(len(seen), 21, "charges seen")
}
