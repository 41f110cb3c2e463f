package sandbox_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// draft is a new draft of Ada's with one item of $10.
func (r *rig) draft(more string) string {
	r.t.Helper()
	id := r.ok("POST", "/v1/invoices", "customer="+r.seed.Customers[0].ID+"&"+more).str("id")
	r.ok("POST", "/v1/invoiceitems", "invoice="+id+"&amount=1000&currency=usd")
	return id
}

func TestInvoicesAddUpDiscountsTaxesAndShipping(t *testing.T) {
	r := newRig(t)
	vat := r.ok("POST", "/v1/tax_rates", "display_name=VAT&percentage=20&inclusive=false&country=DE").str("id")
	inside := r.ok("POST", "/v1/tax_rates", "display_name=GST&percentage=25&inclusive=true").str("id")
	r.ok("POST", "/v1/coupons", "id=TENTH&percent_off=10")
	r.ok("POST", "/v1/coupons", "id=FOUR&amount_off=400&currency=usd")
	r.ok("POST", "/v1/coupons", "id=EURO&amount_off=400&currency=eur")
	post := r.ok("POST", "/v1/shipping_rates", "display_name=Post&type=fixed_amount&fixed_amount[amount]=500&fixed_amount[currency]=usd").str("id")
	for _, tc := range []struct {
		name, form, item           string
		discount, tax, total, base int64 // base is total_excluding_tax
	}{
		{"plain", "", "", 0, 0, 2000, 2000},
		{"a share off", "discounts[0][coupon]=TENTH", "", 200, 0, 1800, 1800},
		{"an amount off", "discounts[0][coupon]=FOUR", "", 400, 0, 1600, 1600},
		{"an amount off in another currency", "discounts[0][coupon]=EURO", "", 0, 0, 2000, 2000},
		{"one after the other", "discounts[0][coupon]=TENTH&discounts[1][coupon]=FOUR", "", 600, 0, 1400, 1400},
		{"an item's own, then the invoice's", "discounts[0][coupon]=TENTH", "discounts[0][coupon]=FOUR", 400 + 160, 0, 1440, 1440},
		{"not on what takes none", "discounts[0][coupon]=TENTH", "discountable=false", 100, 0, 1900, 1900},
		{"tax on top", "default_tax_rates[0]=" + vat, "", 0, 400, 2400, 2000},
		{"tax on top of what discounts leave", "default_tax_rates[0]=" + vat + "&discounts[0][coupon]=TENTH", "", 200, 360, 2160, 1800},
		{"tax inside of the price", "default_tax_rates[0]=" + inside, "", 0, 400, 2000, 1600},
		{"an item's own tax", "default_tax_rates[0]=" + vat, "tax_rates[0]=" + inside, 0, 400, 2200, 1800},
		{"shipping", "shipping_cost[shipping_rate]=" + post, "", 0, 0, 2500, 2500},
		{"shipping made on the spot", "shipping_cost[shipping_rate_data][display_name]=Air&shipping_cost[shipping_rate_data][type]=fixed_amount" +
			"&shipping_cost[shipping_rate_data][fixed_amount][amount]=900&shipping_cost[shipping_rate_data][fixed_amount][currency]=usd", "", 0, 0, 2900, 2900},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := r.draft(tc.form)
			r.ok("POST", "/v1/invoiceitems", "invoice="+id+"&amount=1000&currency=usd&"+tc.item)
			in := r.ok("POST", "/v1/invoices/"+id+"/finalize", "expand[]=discounts&expand[]=total_discount_amounts.discount")
			sum := func(list string) (n int64) {
				all, _ := in.at(list).([]any)
				for _, v := range all {
					n += int64(v.(map[string]any)["amount"].(float64))
				}
				return n
			}
			r.want(in.num("subtotal"), int64(2000), "subtotal")
			r.want(sum("total_discount_amounts"), tc.discount, "discount")
			r.want(sum("total_taxes"), tc.tax, "tax")
			r.want(in.num("total"), tc.total, "total")
			r.want(in.num("total_excluding_tax"), tc.base, "total without tax")
			r.want(in.num("amount_due"), tc.total, "due")
			before := r.moved(sandbox.EffectPayment)
			r.ok("POST", "/v1/invoices/"+id+"/pay", "")
			r.want(r.moved(sandbox.EffectPayment)-before, tc.total, "moved")
		})
	}
	exempt := r.ok("POST", "/v1/customers", "tax_exempt=exempt&source=tok_visa").str("id")
	id := r.ok("POST", "/v1/invoices", "customer="+exempt+"&default_tax_rates[0]="+vat).str("id")
	r.ok("POST", "/v1/invoiceitems", "invoice="+id+"&amount=1000&currency=usd")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").num("total"), int64(1000), "nobody taxes the exempt")
	r.refused(400, "resource_missing", "POST", "/v1/invoices", "customer="+exempt+"&discounts[0][coupon]=NONE")
	r.refused(400, "resource_missing", "POST", "/v1/invoices", "customer="+exempt+"&default_tax_rates[0]=txr_none")
}

func TestTheLinesOfADraftCanBeChanged(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0].ID
	id := r.draft("")
	pending := r.ok("POST", "/v1/invoiceitems", "customer="+ada+"&amount=200&currency=usd").str("id")
	in := r.ok("POST", "/v1/invoices/"+id+"/add_lines", "lines[0][amount]=300&lines[0][description]=More&lines[1][invoice_item]="+pending+
		"&lines[2][price_data][currency]=usd&lines[2][price_data][unit_amount]=50&lines[2][price_data][product_data][name]=New&lines[2][quantity]=4&invoice_metadata[a]=b")
	r.want(in.num("total"), int64(1000+300+200+200), "added")
	r.want(in.str("metadata.a"), "b", "metadata")
	lines := r.ok("GET", "/v1/invoices/"+id+"/lines?limit=2", "")
	r.want(lines.at("has_more"), true, "more lines")
	next := r.ok("GET", "/v1/invoices/"+id+"/lines?starting_after="+lines.ids()[1], "").ids()
	r.want(len(next), 2, "lines of the second page")
	r.want(r.ok("GET", "/v1/invoices/"+id+"/lines?limit=1&ending_before="+next[1], "").ids()[0], next[0], "backwards")
	r.refused(400, "resource_missing", "GET", "/v1/invoices/"+id+"/lines?starting_after=il_none", "")

	r.want(r.ok("POST", "/v1/invoices/"+id+"/update_lines", "lines[0][id]="+lines.ids()[1]+"&lines[0][amount]=5000").num("total"), int64(6400), "updated")
	r.want(r.ok("POST", "/v1/invoices/"+id+"/lines/"+lines.ids()[1], "amount=100").num("amount"), int64(100), "one line")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").num("total"), int64(1500), "and the invoice")
	r.refused(404, "resource_missing", "POST", "/v1/invoices/"+id+"/lines/il_none", "amount=100")
	r.refused(400, "resource_missing", "POST", "/v1/invoices/"+id+"/update_lines", "lines[0][id]=il_none&lines[0][amount]=5000")
	r.refused(400, "", "POST", "/v1/invoices/"+id+"/add_lines", "lines[0][invoice_item]="+pending)

	out := r.ok("POST", "/v1/invoices/"+id+"/remove_lines", "lines[0][id]="+next[0]+"&lines[0][behavior]=unassign&lines[1][id]="+lines.ids()[1]+"&lines[1][behavior]=delete")
	r.want(out.num("total"), int64(1200), "removed")
	left := r.ok("GET", "/v1/invoiceitems?pending=true&customer="+ada, "").ids()
	r.want(len(left), 1, "pending again")
	r.want(left[0], pending, "the one that was unassigned")
	r.ok("POST", "/v1/invoices/"+id+"/finalize", "")
	for _, route := range []string{"add_lines", "update_lines", "remove_lines"} {
		form := "lines[0][id]=" + lines.ids()[0] + "&lines[0][behavior]=delete"
		if route == "add_lines" {
			form = "lines[0][amount]=1"
		} else if route == "update_lines" {
			form = "lines[0][id]=" + lines.ids()[0]
		}
		r.refused(400, "invoice_not_editable", "POST", "/v1/invoices/"+id+"/"+route, form)
	}
}

func TestNegativeItemsLowerAnInvoiceOrBecomeCredit(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0].ID
	id := r.draft("")
	item := r.ok("POST", "/v1/invoiceitems", "invoice="+id+"&amount=-400&currency=usd")
	r.want(item.at("discountable"), false, "a credit takes no discounts")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").num("amount_due"), int64(600), "due")
	r.ok("DELETE", "/v1/invoiceitems/"+item.str("id"), "")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").num("amount_due"), int64(1000), "deleting a credit raises the invoice")
	r.ok("POST", "/v1/invoiceitems", "invoice="+id+"&amount=-1700&currency=usd")
	in := r.ok("POST", "/v1/invoices/"+id+"/finalize", "")
	r.want(in.str("status"), "paid", "status")
	r.want(in.num("total"), int64(-700), "total")
	r.want(r.ok("GET", "/v1/customers/"+ada, "").num("balance"), int64(-700), "credit")
	r.want(r.moved(sandbox.EffectPayment), int64(0), "moved")
}

func TestTheCustomersBalanceIsUsedAndGivenBack(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0].ID
	balance := func() int64 { return r.ok("GET", "/v1/customers/"+ada, "").num("balance") }
	t1 := r.ok("POST", "/v1/customers/"+ada+"/balance_transactions", "amount=-300&currency=usd&description=Sorry").str("id")
	id := r.draft("")
	in := r.ok("POST", "/v1/invoices/"+id+"/finalize", "")
	r.want(in.num("amount_due"), int64(700), "due")
	r.want(in.num("starting_balance"), int64(-300), "starting_balance")
	r.want(in.num("ending_balance"), int64(0), "ending_balance")
	r.ok("POST", "/v1/invoices/"+id+"/void", "")
	r.want(balance(), int64(-300), "after the void")
	last := r.ok("GET", "/v1/customers/"+ada+"/balance_transactions?limit=1&expand[]=data.invoice", "")
	r.want(last.str("data.0.type"), "unapplied_from_invoice", "why")
	r.want(last.str("data.0.invoice.id"), id, "for which")
	one := "/v1/customers/" + ada + "/balance_transactions/" + t1
	r.want(r.ok("GET", one, "").num("amount"), int64(-300), "one of them")
	r.want(r.ok("POST", one, "description=So sorry&metadata[a]=b").str("description"), "So sorry", "described")
	r.refused(404, "resource_missing", "GET", "/v1/customers/"+r.seed.Customers[1].ID+"/balance_transactions/"+t1, "")
	r.ok("POST", "/v1/customers/"+ada, "balance=0")

	small := r.ok("POST", "/v1/invoices", "customer="+ada).str("id")
	r.ok("POST", "/v1/invoiceitems", "invoice="+small+"&amount=49&currency=usd")
	r.want(r.ok("POST", "/v1/invoices/"+small+"/pay", "").str("status"), "paid", "too little to charge")
	r.want(balance(), int64(49), "is owed with the next")
	next := r.draft("")
	r.want(r.ok("POST", "/v1/invoices/"+next+"/pay", "").num("amount_paid"), int64(1049), "the next one asks for both")
	r.want(balance(), int64(0), "nothing is owed")
	r.want(r.moved(sandbox.EffectPayment), int64(1049), "moved")
}

func TestAnInvoiceIsPaidByTheMerchantsOwnPayments(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	id := r.draft("")
	in := r.ok("POST", "/v1/invoices/"+id+"/finalize", "expand[]=payments.data.payment.payment_intent&expand[]=confirmation_secret")
	own := in.str("payments.data.0.payment.payment_intent.id")
	r.want(in.str("payments.data.0.payment.payment_intent.client_secret"), in.str("confirmation_secret.client_secret"), "secret")
	r.refused(400, "", "POST", "/v1/invoices/"+id+"/attach_payment", "payment_intent="+r.seed.Customers[1].PaymentIntent)
	part := r.ok("POST", "/v1/payment_intents", "amount=400&currency=usd&customer="+ada.ID+"&payment_method="+ada.Card).str("id")
	r.want(r.ok("POST", "/v1/invoices/"+id+"/attach_payment", "payment_intent="+part).num("amount_paid"), int64(0), "not paid yet")
	r.ok("POST", "/v1/payment_intents/"+part+"/confirm", "")
	after := r.ok("GET", "/v1/invoices/"+id, "")
	r.want(after.num("amount_paid"), int64(400), "paid in part")
	r.want(after.num("amount_remaining"), int64(600), "remaining")
	rest := r.ok("POST", "/v1/payment_intents", "amount=600&currency=usd&confirm=true&customer="+ada.ID+"&payment_method="+ada.Card).str("id")
	r.want(r.ok("POST", "/v1/invoices/"+id+"/attach_payment", "payment_intent="+rest).str("status"), "paid", "paid by both")
	r.want(r.ok("GET", "/v1/payment_intents/"+own, "").str("status"), "canceled", "its own intent")
	r.want(len(r.ok("GET", "/v1/invoice_payments?invoice="+id+"&status=paid", "").ids()), 2, "payments")
	r.want(r.ok("GET", "/v1/invoice_payments?payment[type]=payment_intent&payment[payment_intent]="+rest, "").str("data.0.invoice"), id, "found by intent")
	r.want(r.moved(sandbox.EffectPayment), int64(1000), "moved")
	r.refused(400, "resource_missing", "POST", "/v1/invoices/"+r.draft("")+"/pay", "payment_method=pm_none")
}

func TestARevisionReplacesAnInvoice(t *testing.T) {
	r := newRig(t)
	first := r.draft("collection_method=send_invoice&days_until_due=5")
	r.refused(400, "", "POST", "/v1/invoices", "from_invoice[action]=revision&from_invoice[invoice]="+first)
	r.ok("POST", "/v1/invoices/"+first+"/finalize", "")
	again := r.ok("POST", "/v1/invoices", "from_invoice[action]=revision&from_invoice[invoice]="+first)
	r.want(again.num("total"), int64(1000), "total")
	r.want(again.str("from_invoice.invoice"), first, "from_invoice")
	r.ok("POST", "/v1/invoiceitems", "invoice="+again.str("id")+"&amount=50&currency=usd")
	r.ok("POST", "/v1/invoices/"+again.str("id")+"/finalize", "")
	old := r.ok("GET", "/v1/invoices/"+first, "")
	r.want(old.str("status"), "void", "the first one")
	r.want(old.str("latest_revision"), again.str("id"), "what replaced it")
}

func TestPaymentsOfInvoicesAreShared(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	id := r.draft("transfer_data[destination]=" + shop + "&transfer_data[amount]=300")
	r.ok("POST", "/v1/invoices/"+id+"/pay", "")
	r.want(r.balance(shop), int64(300), "the account's share of an invoice")
	b := newBiller(r, "visa")
	sub := b.subscribe(b.basic, "transfer_data[destination]="+shop+"&transfer_data[amount_percent]=25&on_behalf_of="+shop)
	r.want(sub.str("transfer_data.destination"), shop, "rendered")
	r.want(r.balance(shop), int64(800), "of a subscription")
	b.pass(30, 3600)
	r.want(r.balance(shop), int64(1300), "and of its renewal")
	r.ok("POST", "/v1/subscriptions/"+sub.str("id"), "transfer_data=")
	b.pass(31, 3600)
	r.want(r.balance(shop), int64(1300), "no more")
	for _, bad := range []string{"transfer_data[destination]=acct_none", "application_fee_percent=5", "on_behalf_of=acct_none",
		"transfer_data[destination]=" + shop + "&application_fee_percent=101"} {
		if out := r.do("POST", "/v1/subscriptions", "customer="+b.customer+"&items[0][price]="+b.basic+"&"+bad); out.status != 400 {
			t.Errorf("%s: %d %s", bad, out.status, out.raw)
		}
	}
}

func TestAPreviewTellsWhatAChangeWillCost(t *testing.T) {
	for _, tc := range []struct {
		name, details, change string
		due                   int64
	}{
		{"an upgrade billed at once", "[items][0][id]=ITEM&D[items][0][price]=PLUS&D[proration_behavior]=always_invoice",
			"items[0][id]=ITEM&items[0][price]=PLUS&proration_behavior=always_invoice", 1500},
		{"an upgrade billed at the renewal", "[items][0][id]=ITEM&D[items][0][price]=PLUS", "items[0][id]=ITEM&items[0][price]=PLUS", 6500},
		{"another interval", "[items][0][id]=ITEM&D[items][0][price]=YEAR", "items[0][id]=ITEM&items[0][price]=YEAR", 19000},
		{"a new anchor", "[billing_cycle_anchor]=now", "billing_cycle_anchor=now", 1000},
		{"no change", "[proration_behavior]=none", "description=x", 2000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			sub := b.subscribe(b.basic, "")
			b.pass(15, 0)
			words := []any{"ITEM", sub.str("items.data.0.id"), "PLUS", b.plus, "YEAR", b.year}
			details := replace("&D"+tc.details, append(words, "D[", "subscription_details[")...)
			before := b.ok("GET", "/v1/events?limit=1", "").ids()[0]
			seen := b.ok("POST", "/v1/invoices/create_preview", "subscription="+sub.str("id")+details)
			b.want(seen.num("amount_due"), tc.due, "previewed")
			b.want(b.ok("GET", "/v1/events?limit=1", "").ids()[0], before, "a preview leaves no trace")
			b.ok("POST", "/v1/subscriptions/"+sub.str("id"), replace(tc.change, words...))
			if in := b.invoice(sub.str("id")); in.str("billing_reason") == "subscription_create" {
				b.pass(15, 0)
			}
			b.want(b.invoice(sub.str("id")).num("amount_due"), tc.due, "what came")
		})
	}
}

func TestPreviewsOfWhatDoesNotExistYet(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	preview := func(form string) *reply { return b.ok("POST", "/v1/invoices/create_preview", form) }
	item := "subscription_details[items][0][price]=" + b.plus
	b.want(preview("customer="+b.customer+"&"+item+"&subscription_details[items][0][quantity]=2").num("amount_due"), int64(10000), "a subscription")
	b.want(preview("customer="+b.customer+"&"+item+"&subscription_details[trial_end]="+text(b.now()+86400)).num("amount_due"), int64(0), "a trial")
	b.want(preview("customer_details[tax_exempt]=none&"+item).num("amount_due"), int64(5000), "without a customer")
	b.want(preview("customer="+b.customer+"&schedule_details[phases][0][items][0][price]="+b.basic).num("amount_due"), int64(2000), "a schedule")
	b.want(preview("customer="+b.customer+"&invoice_items[0][amount]=70&invoice_items[0][currency]=usd").num("amount_due"), int64(70), "an item")
	b.ok("POST", "/v1/customers/"+b.customer+"/balance_transactions", "amount=-500&currency=usd")
	b.want(preview("customer="+b.customer+"&"+item).num("amount_due"), int64(4500), "less the customer's credit")
	b.want(preview("customer="+b.customer+"&"+item+"&preview_mode=recurring").num("amount_due"), int64(5000), "what recurs")
	b.ok("POST", "/v1/coupons", "id=HALF&percent_off=50")
	b.want(preview("customer="+b.customer+"&"+item+"&discounts[0][coupon]=HALF").num("amount_due"), int64(2000), "with a coupon")
	b.want(b.get("coupons", "HALF").num("times_redeemed"), int64(0), "a preview redeems nothing")
	inline := "&subscription_details[items][0][price_data][currency]=usd&subscription_details[items][0][price_data][unit_amount]=900&subscription_details[items][0]" +
		"[price_data][product]=" + b.product + "&subscription_details[items][0][price_data][recurring][interval]=week"
	prices := len(b.ok("GET", "/v1/prices?limit=100", "").ids())
	b.want(preview("customer="+b.customer+inline).num("total"), int64(900), "a price of its own")
	b.want(len(b.ok("GET", "/v1/prices?limit=100", "").ids()), prices, "which is not kept")
	b.refused(400, "parameter_missing", "POST", "/v1/invoices/create_preview", "currency=usd")
	b.refused(400, "resource_missing", "POST", "/v1/invoices/create_preview", "subscription=sub_none")

	sub := b.subscribe(b.basic, "").str("id")
	b.want(preview("customer="+b.customer).str("parent.subscription_details.subscription"), sub, "the customer's next")
	b.want(preview("subscription="+sub+"&subscription_details[cancel_now]=true").num("total"), int64(-2000), "a cancellation")
	b.ok("DELETE", "/v1/subscriptions/"+sub, "")
	b.refused(404, "invoice_upcoming_none", "POST", "/v1/invoices/create_preview", "subscription="+sub)
}
