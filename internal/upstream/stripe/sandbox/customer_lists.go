package sandbox

import (
	"slices"
	"strings"
)

// renderLists writes what a customer shows only where that is expanded.
func (o *customer) renderLists(e *enc, x *expansion) {
	if sub := x.child("cash_balance"); sub != nil {
		e.key("cash_balance")
		cashView{o}.render(e, sub)
	}
	base := "/v1/customers/" + o.id
	if sub := x.child("sources"); sub != nil {
		e.key("sources")
		(&listView{url: base + "/sources", data: e.s.sourcesOf(o.id, "")}).shown().render(e, sub)
	}
	if sub := x.child("subscriptions"); sub != nil {
		list := &listView{url: base + "/subscriptions"}
		for _, s := range slices.Backward(e.s.subscriptions.index["customer="+o.id]) {
			if s.isOf("") {
				list.data = append(list.data, s)
			}
		}
		e.key("subscriptions")
		list.shown().render(e, sub)
	}
	if x.child("tax") != nil {
		e.constant(`"tax":{"automatic_tax":"unrecognized_location","ip_address":null,"location":null,"provider":"stripe"}`)
	}
	if sub := x.child("tax_ids"); sub != nil {
		list := &listView{url: base + "/tax_ids"}
		for _, id := range slices.Backward(e.s.taxIDs.index["customer="+o.id]) {
			if !id.deleted {
				list.data = append(list.data, id)
			}
		}
		e.key("tax_ids")
		list.shown().render(e, sub)
	}
}

// sourcesOf are a customer's cards and bank accounts as older integrations know
// them, newest first; only one kind of them where that is named.
func (a *account) sourcesOf(customer, only string) []view {
	var out []view
	for _, m := range slices.Backward(a.methods.index["customer="+customer]) {
		if !strings.HasPrefix(m.id, "pm_") && (only == "" || only == "card" && !strings.HasPrefix(m.id, "src_")) {
			out = append(out, asSource(m))
		}
	}
	for _, o := range slices.Backward(a.shelf(customerBankModel).index["customer="+customer]) {
		if !o.deleted && (only == "" || only == "bank_account") {
			out = append(out, o)
		}
	}
	return out
}

// payArrears tries the latest open invoice of each subscription that is past due
// again, which Stripe does when a customer gets a new source.
func (c *call) payArrears(o *customer) {
	for _, sub := range c.s.subscriptions.index["customer="+o.id] {
		in := c.s.invoices.byID[sub.latest]
		if sub.status != subPastDue || in == nil || in.status != "open" || in.collection != "charge_automatically" {
			continue
		}
		own := c.with()
		// A source that declines leaves the invoice open; the customer has it all the same.
		_ = own.collectInvoice(in, false)
		c.effects = own.effects
	}
}
