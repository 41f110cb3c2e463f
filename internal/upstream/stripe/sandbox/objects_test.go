package sandbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestSeedHoldsWhatItPromises(t *testing.T) {
	r := newRig(t)
	r.want(len(r.s.Effects()), 0, "effects of the seed")
	r.want(r.s.Arrivals(), 0, "arrivals of the seed")
	for i, want := range []int{10, 10, 1} {
		c := r.seed.Customers[i]
		got := r.ok("GET", "/v1/charges?limit=100&customer="+c.ID, "")
		ids := got.ids()
		slices.Reverse(ids)
		if !slices.Equal(ids, c.Charges) || len(ids) != want {
			t.Errorf("customer %d: charges %v, seeded %v", i, ids, c.Charges)
		}
		for n := range ids {
			r.want(got.num(fmt.Sprintf("data.%d.amount", n)), int64(20000), "amount")
			r.want(got.str(fmt.Sprintf("data.%d.status", n)), "succeeded", "status")
		}
		r.want(r.ok("GET", "/v1/customers/"+c.ID, "").str("email"), c.Email, "email")
		r.want(r.ok("GET", "/v1/payment_intents/"+c.PaymentIntent, "").str("status"), "succeeded", "intent")
		r.want(r.ok("GET", "/v1/invoices/"+c.Invoice, "").num("amount_due"), int64(5000), "invoice")
		r.want(r.ok("GET", "/v1/payment_methods/"+c.Card, "").str("customer"), c.ID, "card")
	}
	for _, path := range []string{"/v1/products/" + r.seed.Product, "/v1/prices/" + r.seed.Price, "/v1/plans/" + r.seed.Plan, "/v1/payouts/" + r.seed.Payout} {
		r.ok("GET", path, "")
	}
	if got := r.ok("GET", "/v1/balance", "").num("available.0.amount"); got < 5_000_000 {
		t.Errorf("balance %d is too small to refund from", got)
	}
}

func TestTheSameSeedGivesTheSameIds(t *testing.T) {
	run := func(seed int64) (out []string) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		s := sandbox.New(sandbox.Options{Seed: seed, Now: func() time.Time { return at }})
		return append(out, fmt.Sprint(s.Seed()))
	}
	if a, b := run(7), run(7); !slices.Equal(a, b) {
		t.Errorf("seed 7 gave %v and %v", a, b)
	}
	if slices.Equal(run(7), run(8)) {
		t.Error("seeds 7 and 8 gave the same")
	}
}

func TestListsPageNewestFirst(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	want := slices.Clone(ada.Charges)
	slices.Reverse(want)
	var got []string
	target := "/v1/charges?limit=4&customer=" + ada.ID
	after := ""
	for range 5 {
		page := r.ok("GET", target+after, "")
		got = append(got, page.ids()...)
		r.want(page.str("url"), "/v1/charges", "url")
		if page.at("has_more") == false {
			break
		}
		after = "&starting_after=" + got[len(got)-1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages gave %v, want %v", got, want)
	}
	back := r.ok("GET", target+"&ending_before="+want[6], "")
	if !slices.Equal(back.ids(), want[2:6]) || back.at("has_more") != true {
		t.Errorf("ending_before gave %v, want %v", back.ids(), want[2:6])
	}
	r.want(len(r.ok("GET", "/v1/charges", "").ids()), 10, "default limit")
	for _, bad := range []string{"limit=0", "limit=101", "starting_after=ch_none", "ending_before=ch_none", "starting_after=a&ending_before=b",
		"created[around]=5", "created=soon", "created[gte]=soon", "limit="} {
		if out := r.do("GET", "/v1/charges?"+bad, ""); out.status != 400 {
			t.Errorf("%s: status %d", bad, out.status)
		}
	}
}

func TestListsFilterByTimeAndParent(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	at := r.ok("GET", "/v1/charges/"+ada.Charges[4], "").num("created")
	count := func(query string) int {
		return len(r.ok("GET", "/v1/charges?limit=100&customer="+ada.ID+"&"+query, "").ids())
	}
	for query, want := range map[string]int{
		fmt.Sprintf("created=%d", at): 1, fmt.Sprintf("created[gte]=%d", at): 6, fmt.Sprintf("created[gt]=%d", at): 5,
		fmt.Sprintf("created[lt]=%d", at): 4, fmt.Sprintf("created[lte]=%d", at): 5, fmt.Sprintf("created[gt]=%d&created[lt]=%d", at, at): 0,
		"payment_intent=" + ada.PaymentIntent: 1, "transfer_group=none": 0,
	} {
		r.want(count(query), want, query)
	}
	ben := r.seed.Customers[1]
	r.want(len(r.ok("GET", "/v1/charges?customer="+ben.ID+"&payment_intent="+ada.PaymentIntent, "").ids()), 0, "customer and another's intent")
	r.want(r.ok("GET", "/v1/invoices?customer="+ben.ID+"&status=open", "").ids()[0], ben.Invoice, "invoices")
	r.want(r.ok("GET", "/v1/payment_intents?customer="+ben.ID, "").ids()[0], ben.PaymentIntent, "intents")
	r.want(r.ok("GET", "/v1/customers?email=ben@example.com", "").ids()[0], ben.ID, "customers by email")
	ch := r.ok("GET", "/v1/charges/"+ben.Charges[0], "")
	r.want(r.ok("GET", "/v1/balance_transactions?source="+ben.Charges[0], "").ids()[0], ch.str("balance_transaction"), "books by source")
	r.want(len(r.ok("GET", "/v1/balance_transactions?type=payout", "").ids()), 1, "books by type")
	found := r.ok("GET", "/v1/payment_intents/search?"+form("query", "customer:'"+ben.ID+"' AND status:'succeeded'"), "")
	r.want(found.str("object"), "search_result", "search")
	r.want(found.ids()[0], ben.PaymentIntent, "found")
	r.refused(400, "", "GET", "/v1/payment_intents/search?query=nonsense", "")
	r.refused(400, "parameter_missing", "GET", "/v1/payment_intents/search", "")
}

func TestExpansionsReplaceIdsByObjects(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	one := r.ok("GET", "/v1/payment_intents/"+ada.PaymentIntent+"?expand[]=customer&expand[]=latest_charge.balance_transaction", "")
	r.want(one.str("customer.email"), ada.Email, "customer")
	r.want(one.str("latest_charge.id"), ada.Charges[0], "charge")
	r.want(one.num("latest_charge.balance_transaction.amount"), int64(20000), "balance transaction")
	list := r.ok("GET", "/v1/charges?limit=2&customer="+ada.ID+"&expand[0]=data.customer&expand[1]=data.refunds", "")
	r.want(list.str("data.1.customer.id"), ada.ID, "customer in a list")
	r.want(list.str("data.0.refunds.object"), "list", "refunds")
	if v := r.ok("GET", "/v1/charges/"+ada.Charges[0], "").at("refunds"); v != nil {
		t.Errorf("refunds without expand: %v", v)
	}
	re := r.ok("POST", "/v1/refunds", "charge="+ada.Charges[1]+"&amount=100&expand[]=charge.customer")
	r.want(re.str("charge.customer.email"), ada.Email, "expanded in the answer to a write")
	for _, bad := range []string{"expand[]=amount", "expand[]=customer.nothing", "expand[]=data.customer", "expand[]=refunds.data.charge.customer.default_source",
		"expand=customer", "expand[a]=customer"} {
		r.refused(400, "", "GET", "/v1/charges/"+ada.Charges[0]+"?"+bad, "")
	}
	r.refused(400, "", "GET", "/v1/charges?expand[]=customer", "")
	r.refused(400, "", "POST", "/v1/refunds", "charge="+ada.Charges[1]+"&amount=100&expand[]=amount")
	r.want(r.moved(sandbox.EffectRefund), int64(100), "a bad expansion stops a write")
}

func TestCustomersLiveAndDie(t *testing.T) {
	r := newRig(t)
	c := r.ok("POST", "/v1/customers", "email=x@example.com&name=X&payment_method=pm_card_visa&metadata[a]=1&metadata[b]=2&balance=-500")
	id := c.str("id")
	r.want(c.num("balance"), int64(-500), "balance")
	up := r.ok("POST", "/v1/customers/"+id, "metadata[a]=&email=y@example.com&name=")
	if up.at("metadata.a") != nil || up.str("metadata.b") != "2" || up.at("name") != nil {
		t.Errorf("after the update: %s", up.raw)
	}
	r.want(len(r.ok("GET", "/v1/customers?email=x@example.com", "").ids()), 0, "old email")
	r.want(len(r.ok("GET", "/v1/customers?email=y@example.com", "").ids()), 1, "new email")
	r.want(r.ok("POST", "/v1/customers/"+id, "metadata=").raw == up.raw, false, "metadata cleared")
	r.ok("POST", "/v1/customers/"+id+"/balance_transactions", "amount=200&currency=usd&description=d")
	r.want(r.ok("GET", "/v1/customers/"+id, "").num("balance"), int64(-300), "adjusted")
	r.refused(400, "", "POST", "/v1/customers/"+id+"/balance_transactions", "amount=200&currency=eur")
	r.refused(400, "email_invalid", "POST", "/v1/customers", "email=nobody")
	r.refused(402, "card_declined", "POST", "/v1/customers", "source=tok_chargeDeclined")
	pm := r.ok("GET", "/v1/customers/"+id+"/payment_methods", "").ids()[0]
	r.ok("POST", "/v1/customers/"+id, "invoice_settings[default_payment_method]="+pm)
	r.want(r.ok("GET", "/v1/customers/"+id+"?expand[]=invoice_settings.default_payment_method", "").str("invoice_settings.default_payment_method.id"), pm, "default")
	gone := r.ok("DELETE", "/v1/customers/"+id, "")
	r.want(gone.at("deleted"), true, "deleted")
	r.want(r.ok("GET", "/v1/customers/"+id, "").at("deleted"), true, "retrieved after")
	r.refused(404, "resource_missing", "POST", "/v1/customers/"+id, "name=z")
	r.refused(400, "resource_missing", "POST", "/v1/payment_intents", "amount=900&currency=usd&customer="+id)
	if slices.Contains(r.ok("GET", "/v1/customers?limit=100", "").ids(), id) {
		t.Error("a deleted customer is listed")
	}
}

func TestInvoicesCollectWhatTheirItemsSay(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0]
	in := r.ok("POST", "/v1/invoices", "customer="+ada.ID).str("id")
	r.ok("POST", "/v1/invoiceitems", "customer="+ada.ID+"&invoice="+in+"&amount=1500&currency=usd")
	once := r.ok("POST", "/v1/prices", "currency=usd&unit_amount=2000&product="+r.seed.Product).str("id")
	item := r.ok("POST", "/v1/invoiceitems", "customer="+ada.ID+"&invoice="+in+"&pricing[price]="+once+"&quantity=2").str("id")
	r.refused(400, "", "POST", "/v1/invoiceitems", "customer="+ada.ID+"&invoice="+in+"&pricing[price]="+r.seed.Price)
	r.want(r.ok("GET", "/v1/invoices/"+in, "").num("amount_due"), int64(5500), "due")
	r.want(len(r.ok("GET", "/v1/invoices/"+in+"/lines", "").ids()), 2, "lines")
	r.ok("POST", "/v1/invoiceitems/"+item, "quantity=1")
	r.want(r.ok("GET", "/v1/invoices/"+in, "").num("total"), int64(3500), "after a change")
	open := r.ok("POST", "/v1/invoices/"+in+"/finalize", "")
	r.want(open.str("status"), "open", "status")
	if !strings.Contains(open.str("number"), "-000") {
		t.Errorf("number %q", open.str("number"))
	}
	r.refused(400, "invoice_not_editable", "POST", "/v1/invoices/"+in+"/finalize", "")
	r.refused(400, "invoice_not_editable", "POST", "/v1/invoiceitems", "customer="+ada.ID+"&invoice="+in+"&amount=5")
	r.refused(400, "invoice_not_editable", "DELETE", "/v1/invoices/"+in, "")
	paid := r.ok("POST", "/v1/invoices/"+in+"/pay", "")
	r.want(paid.str("status"), "paid", "status")
	r.want(paid.num("amount_paid"), int64(3500), "paid")
	r.want(paid.num("amount_remaining"), int64(0), "remaining")
	r.refused(400, "invoice_already_paid", "POST", "/v1/invoices/"+in+"/pay", "")
	r.want(r.moved(sandbox.EffectPayment), int64(3500), "moved")
	e := r.s.Effects()
	r.want(e[len(e)-1].Parent, in, "parent of the effect")

	r.want(r.ok("POST", "/v1/invoices/"+ada.Invoice+"/pay", "paid_out_of_band=true").str("status"), "paid", "out of band")
	r.want(r.moved(sandbox.EffectPayment), int64(3500), "out of band moves nothing here")
	void := r.seed.Customers[1].Invoice
	r.want(r.ok("POST", "/v1/invoices/"+void+"/void", "").str("status"), "void", "void")
	r.refused(400, "invoice_not_editable", "POST", "/v1/invoices/"+void+"/pay", "")
	unc := r.seed.Customers[2].Invoice
	r.want(r.ok("POST", "/v1/invoices/"+unc+"/mark_uncollectible", "").str("status"), "uncollectible", "uncollectible")
	sent := r.ok("POST", "/v1/invoices", "customer="+ada.ID+"&collection_method=send_invoice&days_until_due=3").str("id")
	r.ok("POST", "/v1/invoiceitems", "customer="+ada.ID+"&invoice="+sent+"&amount=100")
	r.want(r.ok("POST", "/v1/invoices/"+sent+"/send", "").str("status"), "open", "sent")
	draft := r.ok("POST", "/v1/invoices", "customer="+ada.ID).str("id")
	r.want(r.ok("POST", "/v1/invoices/"+draft, "description=d").str("description"), "d", "update")
	r.want(r.ok("DELETE", "/v1/invoices/"+draft, "").at("deleted"), true, "deleted")
}

func TestInvoicesWithoutACardOrWithABadOneStayOpen(t *testing.T) {
	r := newRig(t)
	bare := r.ok("POST", "/v1/customers", "name=bare").str("id")
	r.ok("POST", "/v1/invoiceitems", "customer="+bare+"&amount=900&currency=usd")
	r.want(r.ok("POST", "/v1/invoices/create_preview", "customer="+bare+"&invoice_items[0][amount]=100").num("amount_due"), int64(1000), "preview")
	in := r.ok("POST", "/v1/invoices", "customer="+bare+"&pending_invoice_items_behavior=include").str("id")
	r.refused(404, "invoice_upcoming_none", "POST", "/v1/invoices/create_preview", "customer="+bare)
	r.refused(400, "", "POST", "/v1/invoices/"+in+"/pay", "")
	r.refused(400, "resource_missing", "POST", "/v1/invoices/"+in+"/pay", "payment_method="+r.seed.Customers[0].Card)
	bad := r.ok("POST", "/v1/payment_methods", "type=card&card[token]=tok_chargeDeclinedInsufficientFunds").str("id")
	r.ok("POST", "/v1/payment_methods/"+bad+"/attach", "customer="+bare)
	r.refused(402, "card_declined", "POST", "/v1/invoices/"+in+"/pay", "payment_method="+bad)
	after := r.ok("GET", "/v1/invoices/"+in, "")
	r.want(after.str("status"), "open", "status")
	r.want(after.num("attempt_count"), int64(1), "attempts")
	good := r.ok("POST", "/v1/payment_methods/pm_card_visa/attach", "customer="+bare).str("id")
	r.want(r.ok("POST", "/v1/invoices/"+in+"/pay", "payment_method="+good).str("status"), "paid", "second try")
	credit := r.ok("POST", "/v1/customers", "balance=-700&source=tok_visa").str("id")
	r.ok("POST", "/v1/invoiceitems", "customer="+credit+"&amount=1000&currency=usd")
	less := r.ok("POST", "/v1/invoices", "customer="+credit+"&pending_invoice_items_behavior=include").str("id")
	r.want(r.ok("POST", "/v1/invoices/"+less+"/pay", "").num("amount_paid"), int64(300), "paid beside the credit")
	r.want(r.ok("GET", "/v1/customers/"+credit, "").num("balance"), int64(0), "credit used up")
	r.want(r.moved(sandbox.EffectPayment), int64(1200), "moved")
}

func TestAnArmedInvoiceIsCollectedByTheClock(t *testing.T) {
	r := newRig(t)
	ada := r.seed.Customers[0].ID
	in := r.ok("POST", "/v1/invoices", "customer="+ada+"&auto_advance=true").str("id")
	r.ok("POST", "/v1/invoiceitems", "customer="+ada+"&invoice="+in+"&amount=900")
	r.clock.advance(59 * time.Minute)
	r.want(r.ok("GET", "/v1/invoices/"+in, "").str("status"), "draft", "before the hour")
	r.clock.advance(time.Minute)
	r.want(r.ok("GET", "/v1/invoices/"+in, "").str("status"), "paid", "after the hour")
	e := r.s.Effects()
	r.want(len(e), 1, "effects")
	r.want(e[0].RequestID, "", "no request caused it")
	ev := r.ok("GET", "/v1/events?type=invoice.paid", "")
	if ev.at("data.0.request.id") != nil {
		t.Errorf("the event names a request: %s", ev.raw)
	}
}

func TestEventsNameTheRequestThatCausedThem(t *testing.T) {
	r := newRig(t)
	pi := r.ok("POST", "/v1/payment_intents", "amount=900&currency=usd&confirm=true&payment_method=pm_card_visa", "Idempotency-Key", "k9")
	got := r.ok("GET", "/v1/events?limit=3", "")
	for i, typ := range []string{"payment_intent.succeeded", "charge.succeeded", "payment_intent.created"} {
		at := fmt.Sprintf("data.%d.", i)
		r.want(got.str(at+"type"), typ, "type")
		r.want(got.str(at+"request.id"), pi.header.Get("Request-Id"), "request")
		r.want(got.str(at+"request.idempotency_key"), "k9", "key")
	}
	r.want(got.str("data.2.data.object.status"), "requires_confirmation", "the object as it was")
	id := got.str("data.0.id")
	r.want(r.ok("GET", "/v1/events/"+id, "").str("id"), id, "retrieve")
	r.want(len(r.ok("GET", "/v1/events?types[]=charge.succeeded&types[]=nothing", "", "Stripe-Version", "2025-03-31.basil").ids()) > 0, true, "types")
	r.want(r.ok("GET", "/v1/events?type=charge.*&limit=1", "").str("data.0.type"), "charge.succeeded", "wildcard")
	plain := r.ok("POST", "/v1/payment_intents", "amount=900&currency=usd")
	ev := r.ok("GET", "/v1/events?limit=1", "")
	r.want(ev.str("data.0.data.object.client_secret"), plain.str("client_secret"), "the event and the answer are one rendering")
}

func TestTheCatalogCanBeKept(t *testing.T) {
	r := newRig(t)
	p := r.ok("POST", "/v1/products", "name=A&id=own-id&default_price_data[currency]=usd&default_price_data[unit_amount]=500&metadata[a]=b")
	r.want(p.str("id"), "own-id", "chosen id")
	r.refused(400, "resource_already_exists", "POST", "/v1/products", "name=B&id=own-id")
	r.refused(400, "parameter_missing", "POST", "/v1/products", "description=x")
	r.want(r.ok("POST", "/v1/products/own-id", "name=C&active=FALSE").at("active"), false, "a boolean in capitals")
	r.want(r.ok("GET", "/v1/products/own-id?expand[]=default_price", "").num("default_price.unit_amount"), int64(500), "price")
	r.want(len(r.ok("GET", "/v1/products?active=false", "").ids()), 1, "by active")
	r.want(r.ok("GET", "/v1/products?ids[]=own-id", "").ids()[0], "own-id", "by ids")
	r.refused(400, "", "DELETE", "/v1/products/own-id", "")
	price := r.ok("POST", "/v1/prices", "currency=usd&unit_amount=700&product_data[name]=D&lookup_key=l&recurring[interval]=year").str("id")
	r.want(r.ok("GET", "/v1/prices?lookup_keys[]=l", "").ids()[0], price, "by lookup key")
	r.want(r.ok("POST", "/v1/prices/"+price, "nickname=n&active=false").str("nickname"), "n", "update")
	r.want(r.ok("GET", "/v1/prices/"+price+"?expand[]=product", "").str("product.name"), "D", "product")
	r.refused(400, "parameter_missing", "POST", "/v1/prices", "currency=usd&product=own-id")
	r.refused(400, "parameter_unknown", "POST", "/v1/prices/"+price, "unit_amount=1")
	plan := r.ok("POST", "/v1/plans", "currency=usd&amount=900&interval=month&product[name]=E&id=gold").str("id")
	r.want(plan, "gold", "plan")
	r.want(r.ok("POST", "/v1/plans/gold", "nickname=g").str("nickname"), "g", "update")
	r.want(r.ok("DELETE", "/v1/plans/gold", "").at("deleted"), true, "deleted")
	r.refused(404, "resource_missing", "GET", "/v1/plans/gold", "")
	lone := r.ok("POST", "/v1/products", "name=F").str("id")
	r.ok("DELETE", "/v1/products/"+lone, "")
	r.refused(404, "resource_missing", "GET", "/v1/products/"+lone, "")
	r.want(len(r.ok("GET", "/v1/disputes", "").ids()), 0, "disputes")
	r.refused(404, "resource_missing", "GET", "/v1/disputes/dp_1", "")
}
