package sandbox_test

import (
	"fmt"
	"testing"
)

func text(n int64) string { return fmt.Sprint(n) }

func TestPricesCostWhatTheySay(t *testing.T) {
	r := newRig(t)
	tiers := "&billing_scheme=tiered&tiers[0][up_to]=10&tiers[0][unit_amount]=100&tiers[0][flat_amount]=500&tiers[1][up_to]=inf&tiers[1][unit_amount]=50"
	for _, tc := range []struct {
		name, form string
		quantity   int64
		amount     int64
	}{
		{"so much a unit", "unit_amount=250", 3, 750},
		{"parts of a cent", "unit_amount_decimal=0.125", 1000, 125},
		{"halves are rounded up", "unit_amount_decimal=0.5", 1, 1},
		{"in packs, begun ones counted", "unit_amount=900&transform_quantity[divide_by]=12&transform_quantity[round]=up", 13, 1800},
		{"in packs, begun ones not counted", "unit_amount=900&transform_quantity[divide_by]=12&transform_quantity[round]=down", 23, 900},
		{"tiers, each for its own units", "tiers_mode=graduated" + tiers, 12, 500 + 1000 + 100},
		{"tiers, the last one reached for all", "tiers_mode=volume" + tiers, 12, 600},
		{"tiers, the first one only", "tiers_mode=volume" + tiers, 10, 1500},
	} {
		t.Run(tc.name, func(t *testing.T) {
			price := r.ok("POST", "/v1/prices", "currency=usd&product="+r.seed.Product+"&"+tc.form+"&expand[]=tiers&expand[]=currency_options")
			item := r.ok("POST", "/v1/invoiceitems", fmt.Sprintf("customer=%s&pricing[price]=%s&quantity=%d", r.seed.Customers[0].ID, price.str("id"), tc.quantity))
			r.want(item.num("amount"), tc.amount, "amount")
		})
	}
	for _, bad := range []string{"", "unit_amount=-1", "unit_amount_decimal=1e3", "unit_amount_decimal=x", "recurring[interval]=year&recurring[interval_count]=4&unit_amount=1",
		"recurring[interval]=month&recurring[usage_type]=metered&unit_amount=1", "billing_scheme=tiered&tiers_mode=volume&tiers[0][up_to]=5&tiers[0][unit_amount]=1",
		"unit_amount=5&currency_options[zzz][unit_amount]=6"} {
		if out := r.do("POST", "/v1/prices", "currency=usd&product="+r.seed.Product+"&"+bad); out.status != 400 {
			t.Errorf("%s: status %d: %s", bad, out.status, out.raw)
		}
	}
}

func TestAPriceCanCostSomethingElseInAnotherCurrency(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	price := b.price("unit_amount=2000&recurring[interval]=month&currency_options[eur][unit_amount]=1900&currency_options[jpy][unit_amount]=300000")
	sub := b.subscribe(price, "currency=jpy")
	b.want(sub.str("currency"), "jpy", "currency")
	in := b.invoice(sub.str("id"))
	b.want(in.num("amount_paid"), int64(300000), "paid")
	b.want(in.str("currency"), "jpy", "in yen")
	b.refused(400, "", "POST", "/v1/subscriptions", "customer="+b.customer+"&currency=gbp&items[0][price]="+price)
	shown := b.ok("GET", "/v1/prices/"+price+"?expand[]=currency_options", "")
	b.want(shown.num("currency_options.eur.unit_amount"), int64(1900), "options")
	b.ok("POST", "/v1/prices/"+price, "currency_options[gbp][unit_amount]=1700")
	b.subscribe(price, "currency=gbp")
}

func TestPlansArePricesUnderAnotherName(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	plan := b.ok("POST", "/v1/plans", "currency=usd&amount=1200&interval=month&trial_period_days=3&product="+b.product).str("id")
	b.want(b.get("prices", plan).num("unit_amount"), int64(1200), "as a price")
	b.want(b.get("plans", b.basic).num("amount"), int64(2000), "a price as a plan")
	b.refused(404, "resource_missing", "GET", "/v1/plans/"+b.once, "")
	b.want(b.subscribe(plan, "").str("status"), "active", "the plan's trial is not asked for")
	b.want(b.subscribe(plan, "trial_from_plan=true").str("status"), "trialing", "it is")
}

func TestLookupKeysMoveWhenTold(t *testing.T) {
	b := newBiller(newRig(t), "")
	first := b.price("unit_amount=1&lookup_key=std")
	b.refused(400, "", "POST", "/v1/prices", "currency=usd&unit_amount=2&product="+b.product+"&lookup_key=std")
	second := b.price("unit_amount=2&lookup_key=std&transfer_lookup_key=true")
	b.want(b.ok("GET", "/v1/prices?lookup_keys[]=std", "").ids()[0], second, "holder")
	b.want(b.get("prices", first).at("lookup_key"), nil, "the old one")
	b.want(len(b.ok("GET", "/v1/prices?recurring[interval]=year&product="+b.product, "").ids()), 1, "by interval")
	b.ok("POST", "/v1/prices/"+second, "active=false")
	b.refused(400, "", "POST", "/v1/invoiceitems", "customer="+b.customer+"&pricing[price]="+second)
}

func TestCouponsAndCodesRunOut(t *testing.T) {
	r := newRig(t)
	ada, ben := r.seed.Customers[0].ID, r.seed.Customers[1].ID
	for _, bad := range []string{"", "percent_off=10&amount_off=5&currency=usd", "percent_off=101", "percent_off=0", "amount_off=5", "amount_off=0&currency=usd",
		"percent_off=5&duration=repeating", "percent_off=5&duration=once&duration_in_months=3"} {
		if out := r.do("POST", "/v1/coupons", bad); out.status != 400 {
			t.Errorf("%q: status %d", bad, out.status)
		}
	}
	one := r.ok("POST", "/v1/coupons", "percent_off=50&max_redemptions=1&applies_to[products][0]="+r.seed.Product+"&expand[]=applies_to&name=One").str("id")
	r.refused(400, "resource_already_exists", "POST", "/v1/coupons", "percent_off=5&id="+one)
	r.ok("POST", "/v1/invoices", "customer="+ada+"&discounts[0][coupon]="+one)
	r.refused(400, "coupon_expired", "POST", "/v1/invoices", "customer="+ben+"&discounts[0][coupon]="+one)
	r.want(r.ok("GET", "/v1/coupons/"+one, "").at("valid"), false, "valid")
	r.want(r.ok("POST", "/v1/coupons/"+one, "name=Gone&metadata[a]=b").str("name"), "Gone", "renamed")
	r.ok("DELETE", "/v1/coupons/"+one, "")
	r.refused(404, "resource_missing", "GET", "/v1/coupons/"+one, "")

	r.ok("POST", "/v1/coupons", "id=C&percent_off=50")
	own := r.ok("POST", "/v1/promotion_codes", "promotion[type]=coupon&promotion[coupon]=C&customer="+ada+"&code=ADA&expand[]=promotion.coupon")
	r.want(own.str("promotion.coupon.id"), "C", "expanded")
	r.refused(400, "", "POST", "/v1/promotion_codes", "promotion[type]=coupon&promotion[coupon]=C&customer="+ada+"&code=ada")
	r.refused(400, "promotion_code_expired", "POST", "/v1/invoices", "customer="+ben+"&discounts[0][promotion_code]="+own.str("id"))
	r.ok("POST", "/v1/invoices", "customer="+ada+"&discounts[0][promotion_code]="+own.str("id"))
	r.want(r.ok("GET", "/v1/promotion_codes?code=ada&customer="+ada, "").num("data.0.times_redeemed"), int64(1), "redeemed")
	r.ok("POST", "/v1/promotion_codes/"+own.str("id"), "active=false")
	r.refused(400, "promotion_code_expired", "POST", "/v1/invoices", "customer="+ada+"&discounts[0][promotion_code]="+own.str("id"))
	for query, want := range map[string]int{"coupon=C": 1, "coupon=C&active=true": 0, "coupon=C&customer=" + ben: 0} {
		r.want(len(r.ok("GET", "/v1/promotion_codes?"+query, "").ids()), want, query)
	}
}

func TestTaxAndShippingAreKept(t *testing.T) {
	r := newRig(t)
	ada, ben := r.seed.Customers[0].ID, r.seed.Customers[1].ID
	id := r.ok("POST", "/v1/customers/"+ada+"/tax_ids", "type=eu_vat&value=DE123456789").str("id")
	other := r.ok("POST", "/v1/tax_ids", "type=gb_vat&value=GB1&owner[type]=customer&owner[customer]="+ben)
	r.want(other.str("country"), "GB", "country")
	ours := r.ok("POST", "/v1/tax_ids", "type=us_ein&value=12-3").str("id")
	r.want(r.ok("GET", "/v1/customers/"+ada+"/tax_ids", "").ids()[0], id, "of the customer")
	r.want(r.ok("GET", "/v1/tax_ids", "").ids()[0], ours, "of the account")
	r.want(r.ok("GET", "/v1/tax_ids?owner[type]=customer&owner[customer]="+ben, "").ids()[0], other.str("id"), "by owner")
	r.ok("GET", "/v1/tax_ids/"+id, "")
	r.refused(404, "resource_missing", "GET", "/v1/customers/"+ben+"/tax_ids/"+id, "")
	r.refused(404, "resource_missing", "DELETE", "/v1/customers/"+ben+"/tax_ids/"+id, "")
	r.refused(400, "parameter_missing", "POST", "/v1/tax_ids", "type=us_ein&value=1&owner[type]=customer")
	r.ok("DELETE", "/v1/customers/"+ada+"/tax_ids/"+id, "")
	r.ok("DELETE", "/v1/tax_ids/"+ours, "")
	r.refused(404, "resource_missing", "GET", "/v1/tax_ids/"+id, "")

	rate := r.ok("POST", "/v1/tax_rates", "display_name=A&percentage=7.25&inclusive=false").str("id")
	r.refused(400, "", "POST", "/v1/tax_rates", "display_name=A&percentage=101&inclusive=false")
	r.want(r.ok("POST", "/v1/tax_rates/"+rate, "active=false&description=d").str("description"), "d", "changed")
	r.want(len(r.ok("GET", "/v1/tax_rates?active=true", "").ids()), 0, "active ones")
	r.refused(400, "", "POST", "/v1/invoices", "customer="+ada+"&default_tax_rates[0]="+rate)

	ship := r.ok("POST", "/v1/shipping_rates", "display_name=Post&type=fixed_amount&fixed_amount[amount]=500&fixed_amount[currency]=usd"+
		"&fixed_amount[currency_options][eur][amount]=450&delivery_estimate[maximum][unit]=day&delivery_estimate[maximum][value]=3&expand[]=fixed_amount.currency_options")
	r.want(ship.num("fixed_amount.currency_options.eur.amount"), int64(450), "in euro")
	r.want(r.ok("POST", "/v1/shipping_rates/"+ship.str("id"), "active=false&metadata[a]=b").at("active"), false, "archived")
	r.want(len(r.ok("GET", "/v1/shipping_rates?currency=usd&active=false", "").ids()), 1, "listed")
	r.refused(400, "", "POST", "/v1/shipping_rates", "display_name=Post&type=fixed_amount&fixed_amount[amount]=500&fixed_amount[currency]=zzz")
}
