package sandbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// page opens a checkout session.
func (b *biller) page(form string) *reply {
	b.t.Helper()
	return b.ok("POST", "/v1/checkout/sessions", "success_url=https://example.com/ok&"+replace(form, "ONCE", b.once, "BASIC", b.basic, "CUSTOMER", b.customer))
}

func TestACheckoutSessionSellsWhatItShows(t *testing.T) {
	for _, tc := range []struct {
		name, form string
		by         sandbox.Shopper
		total      int64 // amount_total at first
		moved      int64
		paid       string
	}{
		{"a payment", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=2", sandbox.Shopper{}, 1400, 1400, "paid"},
		{"a customer's payment", "mode=payment&customer=CUSTOMER&line_items[0][price]=ONCE&line_items[0][quantity]=1", sandbox.Shopper{}, 700, 700, "paid"},
		{"a price made on the spot", "mode=payment&line_items[0][quantity]=1&line_items[0][price_data][currency]=eur&line_items[0][price_data][unit_amount]=900" +
			"&line_items[0][price_data][product_data][name]=Hat", sandbox.Shopper{}, 900, 0, "paid"},
		{"more of it", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&line_items[0][adjustable_quantity][enabled]=true",
			sandbox.Shopper{Quantities: map[string]int64{"": 50}}, 700, 35000, "paid"},
		{"an optional item", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&optional_items[0][price]=ONCE&optional_items[0][quantity]=1" +
			"&optional_items[0][adjustable_quantity][enabled]=true", sandbox.Shopper{Optional: map[string]int64{"ONCE": 9}}, 700, 7000, "paid"},
		{"the dearer shipping", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&shipping_options[0][shipping_rate]=POST&shipping_options[1][shipping_rate]=AIR",
			sandbox.Shopper{Shipping: "AIR"}, 1200, 2700, "paid"},
		{"a promotion code", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&allow_promotion_codes=true", sandbox.Shopper{Code: "HALF"}, 700, 350, "paid"},
		{"a coupon", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&discounts[0][coupon]=HALFOFF", sandbox.Shopper{}, 350, 350, "paid"},
		{"a tax", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&line_items[0][tax_rates][0]=VAT", sandbox.Shopper{}, 840, 840, "paid"},
		{"a card that asks", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1", sandbox.Shopper{Method: "pm_card_authenticationRequired"}, 700, 700, "paid"},
		{"an authorization only", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&payment_intent_data[capture_method]=manual", sandbox.Shopper{}, 700, 0, "unpaid"},
		{"with an invoice", "mode=payment&customer=CUSTOMER&line_items[0][price]=ONCE&line_items[0][quantity]=1&invoice_creation[enabled]=true" +
			"&invoice_creation[invoice_data][description]=Thanks", sandbox.Shopper{}, 700, 700, "paid"},
		{"a subscription", "mode=subscription&line_items[0][price]=BASIC&line_items[0][quantity]=1&line_items[1][price]=ONCE&line_items[1][quantity]=1", sandbox.Shopper{}, 2700, 2700, "paid"},
		{"a subscription with a trial", "mode=subscription&line_items[0][price]=BASIC&line_items[0][quantity]=1&subscription_data[trial_period_days]=7", sandbox.Shopper{}, 0, 0,
			"no_payment_required"},
		{"a price that the customer chooses", "mode=payment&line_items[0][price]=CHOOSE&line_items[0][quantity]=1", sandbox.Shopper{Amount: 5000}, 1000, 5000, "paid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			rate := func(name, amount string) string {
				return b.ok("POST", "/v1/shipping_rates", "display_name="+name+"&type=fixed_amount&fixed_amount[currency]=usd&fixed_amount[amount]="+amount).str("id")
			}
			post, air := rate("Post", "500"), rate("Air", "2000")
			b.ok("POST", "/v1/coupons", "id=HALFOFF&percent_off=50")
			b.ok("POST", "/v1/promotion_codes", "promotion[type]=coupon&promotion[coupon]=HALFOFF&code=HALF")
			vat := b.ok("POST", "/v1/tax_rates", "display_name=VAT&percentage=20&inclusive=false").str("id")
			choose := b.price("custom_unit_amount[enabled]=true&custom_unit_amount[minimum]=500&custom_unit_amount[maximum]=9000&custom_unit_amount[preset]=1000")
			cs := b.page(replace(tc.form, "VAT", vat, "POST", post, "AIR", air, "CHOOSE", choose) + "&expand[]=line_items")
			id := cs.str("id")
			b.want(cs.str("status"), "open", "status")
			b.want(cs.num("amount_total"), tc.total, "total")
			b.want(cs.at("payment_intent"), nil, "no intent before it is paid")
			items := b.ok("GET", "/v1/checkout/sessions/"+id+"/line_items?expand[]=data.discounts&expand[]=data.taxes", "")
			by := tc.by
			for _, q := range tc.by.Quantities {
				by.Quantities = map[string]int64{items.ids()[0]: q}
			}
			for _, q := range tc.by.Optional {
				by.Optional = map[string]int64{b.once: q}
			}
			if tc.by.Shipping != "" {
				by.Shipping = air
			}
			if err := b.s.Checkout(id, by); err != nil {
				t.Fatal(err)
			}
			done := b.ok("GET", "/v1/checkout/sessions/"+id+"?expand[]=payment_intent&expand[]=subscription&expand[]=invoice", "")
			b.want(done.str("status"), "complete", "completed")
			b.want(done.str("payment_status"), tc.paid, "payment_status")
			b.want(b.moved(sandbox.EffectPayment), tc.moved, "moved")
			if strings.HasPrefix(tc.form, "mode=subscription") {
				b.want(done.str("subscription.status") != "", true, "subscription")
			}
			if err := b.s.Checkout(id, by); err == nil {
				t.Error("completed twice")
			}
			b.refused(400, "", "POST", "/v1/checkout/sessions/"+id+"/expire", "")
		})
	}
}

func TestACheckoutSessionIsRefused(t *testing.T) {
	b := newBiller(newRig(t), "")
	for _, tc := range []struct{ name, form, code string }{
		{"without a mode", "line_items[0][price]=ONCE&line_items[0][quantity]=1", "parameter_missing"},
		{"without items", "mode=payment", "parameter_missing"},
		{"for a payment of what recurs", "mode=payment&line_items[0][price]=BASIC&line_items[0][quantity]=1", ""},
		{"for a subscription to what does not", "mode=subscription&line_items[0][price]=ONCE&line_items[0][quantity]=1", ""},
		{"for a card with items", "mode=setup&line_items[0][price]=ONCE&line_items[0][quantity]=1", ""},
		{"for another's customer", "mode=payment&customer=cus_none&line_items[0][price]=ONCE&line_items[0][quantity]=1", "resource_missing"},
		{"that stays open for a week", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&expires_at=" + text(b.now()+7*86400), ""},
		{"that shares with nobody", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&payment_intent_data[transfer_data][destination]=acct_none", "resource_missing"},
		{"with a coupon that is none", "mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&discounts[0][coupon]=none", "resource_missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b.refused(400, tc.code, "POST", "/v1/checkout/sessions", "success_url=https://example.com&"+replace(tc.form, "ONCE", b.once, "BASIC", b.basic))
		})
	}
	b.refused(400, "parameter_missing", "POST", "/v1/checkout/sessions", "mode=payment&line_items[0][price]="+b.once)
}

func TestACheckoutSessionEndsByItselfOrByCall(t *testing.T) {
	b := newBiller(newRig(t), "")
	buy := "mode=payment&customer=CUSTOMER&line_items[0][price]=ONCE&line_items[0][quantity]=1"
	by, first, second := sandbox.Shopper{}, b.page(buy+"&metadata[a]=b&client_reference_id=r1").str("id"), b.page(buy).str("id")
	bad := sandbox.Shopper{Method: "pm_card_chargeDeclined"}
	if err := b.s.Checkout(first, bad); err == nil {
		t.Error("a declined card bought something")
	}
	for name, wrong := range map[string]sandbox.Shopper{"quantity": {Quantities: map[string]int64{b.ok("GET", "/v1/checkout/sessions/"+first+"/line_items", "").ids()[0]: 2}},
		"optional": {Optional: map[string]int64{b.once: 1}}, "shipping": {Shipping: "shr_none"}, "code": {Code: "NONE"}, "card": {Method: b.seed.Customers[0].Card}} {
		if err := b.s.Checkout(first, wrong); err == nil {
			t.Errorf("%s: a choice that is not offered was taken", name)
		}
	}
	b.want(b.moved(sandbox.EffectPayment), int64(0), "moved")
	b.want(b.get("checkout/sessions", first).str("status"), "open", "after a decline")
	b.want(b.ok("POST", "/v1/checkout/sessions/"+first+"/expire", "").str("status"), "expired", "by call")
	b.pass(1, 0)
	b.want(b.get("checkout/sessions", second).str("status"), "expired", "by itself")
	if err := b.s.Checkout(second, by); err == nil {
		t.Error("an expired session sold something")
	}
	for query, want := range map[string]int{"status=expired&customer=" + b.customer: 2, "status=open": 0, "customer=" + b.customer: 2, "customer=" + b.seed.Customers[2].ID: 0,
		"customer_details[email]=biller@example.com": 2} {
		b.want(len(b.ok("GET", "/v1/checkout/sessions?"+query, "").ids()), want, query)
	}
}

func TestAnOpenSessionCanBeChanged(t *testing.T) {
	b := newBiller(newRig(t), "")
	cs := b.page("mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&line_items[1][price]=ONCE&line_items[1][quantity]=1&expand[]=line_items")
	id, keep := cs.str("id"), cs.str("line_items.data.0.id")
	ship := b.ok("POST", "/v1/shipping_rates", "display_name=Post&type=fixed_amount&fixed_amount[currency]=usd&fixed_amount[amount]=500").str("id")
	up := b.ok("POST", "/v1/checkout/sessions/"+id, "line_items[0][id]="+keep+"&line_items[0][quantity]=3&line_items[1][price]="+b.once+
		"&line_items[1][quantity]=2&shipping_options[0][shipping_rate]="+ship+"&metadata[a]=b")
	b.want(up.num("amount_total"), int64(5*700+500), "total")
	b.want(up.num("shipping_cost.amount_total"), int64(500), "shipping")
	b.refused(400, "resource_missing", "POST", "/v1/checkout/sessions/"+id, "line_items[0][id]=li_none")
	b.refused(400, "", "POST", "/v1/checkout/sessions/"+id, "line_items[0][price]="+b.basic)
	if err := b.s.Checkout(id, sandbox.Shopper{}); err != nil {
		t.Fatal(err)
	}
	b.want(b.moved(sandbox.EffectPayment), int64(4000), "moved")
}

func TestASetupSessionKeepsACard(t *testing.T) {
	b := newBiller(newRig(t), "")
	cs := b.page("mode=setup&customer=CUSTOMER&currency=usd&setup_intent_data[description]=d")
	b.refused(400, "setup_intent_unexpected_state", "POST", "/v1/setup_intents/"+cs.str("setup_intent")+"/cancel", "")
	b.ok("POST", "/_sandbox/checkout_sessions/"+cs.str("id"), `{"payment_method":"pm_card_mastercard"}`)
	si := b.ok("GET", "/v1/setup_intents/"+cs.str("setup_intent")+"?expand[]=payment_method", "")
	b.want(si.str("status"), "succeeded", "setup")
	b.want(si.str("payment_method.customer"), b.customer, "the card's owner")
	guest := b.page("mode=setup&currency=usd").str("id")
	b.ok("POST", "/_sandbox/checkout_sessions/"+guest, `{"email":"new@example.com"}`)
	b.want(b.ok("GET", "/v1/customers?email=new@example.com", "").ids()[0], b.get("checkout/sessions", guest).str("customer"), "a customer was made")
	if out := b.do("POST", "/_sandbox/checkout_sessions/cs_none", `{}`); out.status != 400 {
		t.Errorf("no such session: %d", out.status)
	}
}

func TestPaymentsOfSessionsAreShared(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	b := newBiller(r, "")
	cs := b.page("mode=payment&line_items[0][price]=ONCE&line_items[0][quantity]=1&payment_intent_data[transfer_data][destination]=" + shop +
		"&payment_intent_data[application_fee_amount]=100").str("id")
	if err := b.s.Checkout(cs, sandbox.Shopper{}); err != nil {
		t.Fatal(err)
	}
	b.want(b.balance(shop), int64(600), "the account's share")
	link := b.ok("POST", "/v1/payment_links", "line_items[0][price]="+b.once+"&line_items[0][quantity]=1&transfer_data[destination]="+shop+"&transfer_data[amount]=50")
	b.want(link.num("transfer_data.amount"), int64(50), "shown")
	if _, err := b.s.FollowLink(link.str("id"), sandbox.Shopper{}); err != nil {
		t.Fatal(err)
	}
	b.want(b.balance(shop), int64(650), "of a link's payment")
}

func TestAPaymentLinkSellsUntilItsLimit(t *testing.T) {
	b := newBiller(newRig(t), "")
	link := b.ok("POST", "/v1/payment_links", "line_items[0][price]="+b.once+"&line_items[0][quantity]=2&restrictions[completed_sessions][limit]=2&metadata[a]=b"+
		"&payment_intent_data[description]=From a link&after_completion[type]=redirect&after_completion[redirect][url]=https://example.com&expand[]=line_items")
	id := link.str("id")
	b.want(link.num("line_items.data.0.amount_total"), int64(1400), "line items")
	b.want(len(b.ok("GET", "/v1/payment_links/"+id+"/line_items", "").ids()), 1, "listed")
	for range 2 {
		b.ok("POST", "/_sandbox/payment_links/"+id, `{"email":"x@example.com"}`)
	}
	b.want(b.moved(sandbox.EffectPayment), int64(2800), "moved")
	if _, err := b.s.FollowLink(id, sandbox.Shopper{}); err == nil {
		t.Error("a link sold more often than it may")
	}
	after := b.get("payment_links", id)
	b.want(after.at("active"), false, "active")
	b.want(after.num("restrictions.completed_sessions.count"), int64(2), "count")
	b.want(len(b.ok("GET", "/v1/checkout/sessions?payment_link="+id, "").ids()), 2, "sessions")
	pi := b.ok("GET", "/v1/payment_intents?limit=1", "")
	b.want(pi.str("data.0.description"), "From a link", "payment_intent_data")
	b.want(pi.at("data.0.customer"), nil, "a guest")

	b.want(b.ok("POST", "/v1/payment_links/"+id, "active=true&restrictions=&line_items[0][id]="+link.str("line_items.data.0.id")+"&line_items[0][quantity]=5").at("active"), true, "again")
	if _, err := b.s.FollowLink(id, sandbox.Shopper{}); err != nil {
		t.Fatal(err)
	}
	b.want(b.moved(sandbox.EffectPayment), int64(2800+3500), "moved with the new quantity")
	b.refused(400, "parameter_missing", "POST", "/v1/payment_links", "")
	b.refused(400, "parameter_invalid_integer", "POST", "/v1/payment_links/"+id, "restrictions[completed_sessions][limit]=0")
	b.want(len(b.ok("GET", "/v1/payment_links?active=false", "").ids()), 0, "inactive ones")
}

func TestAPaymentLinkCanSubscribe(t *testing.T) {
	b := newBiller(newRig(t), "")
	link := b.ok("POST", "/v1/payment_links", "line_items[0][price]="+b.basic+"&line_items[0][quantity]=1&subscription_data[metadata][from]=link").str("id")
	cs, err := b.s.FollowLink(link, sandbox.Shopper{Email: "sub@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	done := b.ok("GET", "/v1/checkout/sessions/"+cs+"?expand[]=subscription", "")
	b.want(done.str("subscription.metadata.from"), "link", "subscription_data")
	b.want(done.str("customer_details.email"), "sub@example.com", "who")
	b.want(b.moved(sandbox.EffectPayment), int64(2000), "moved")
	b.ok("POST", "/_sandbox/advance", fmt.Sprintf(`{"seconds":%d}`, 31*86400+3600))
	b.want(b.moved(sandbox.EffectPayment), int64(4000), "and it renews")
	if _, err := b.s.FollowLink(link, sandbox.Shopper{Method: "pm_card_chargeDeclined"}); err == nil {
		t.Error("a declined card subscribed")
	}
}
