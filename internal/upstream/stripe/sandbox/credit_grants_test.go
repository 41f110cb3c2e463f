package sandbox_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// metered subscribes the biller to calls at $1 each, and returns the subscription and its price.
func (b *biller) metered() (sub, price string) {
	b.t.Helper()
	meter := b.ok("POST", "/v1/billing/meters", "display_name=Calls&event_name=calls&default_aggregation[formula]=sum").str("id")
	price = b.price("unit_amount=100&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]=" + meter)
	return b.subscribe(price, "").str("id"), price
}

func (b *biller) use(calls int64) {
	b.t.Helper()
	b.ok("POST", "/v1/billing/meter_events", "event_name=calls&payload[stripe_customer_id]="+b.customer+"&payload[value]="+text(calls))
}

func (b *biller) grant(value, more string) string {
	b.t.Helper()
	return b.ok("POST", "/v1/billing/credit_grants", "customer="+b.customer+"&amount[type]=monetary&amount[monetary][currency]=usd&amount[monetary][value]="+
		value+"&applicability_config[scope][price_type]=metered&"+more).str("id")
}

func (b *biller) credit() int64 {
	b.t.Helper()
	return b.ok("GET", "/v1/billing/credit_balance_summary?customer="+b.customer+"&filter[type]=applicability_scope&filter[applicability_scope][price_type]=metered", "").
		num("balances.0.available_balance.monetary.value")
}

func TestCreditGrantsPayForUseBeforeTheCardDoes(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub, _ := b.metered()
	late, first := b.grant("400", "priority=90&name=late"), b.grant("300", "priority=1&category=promotional&metadata[a]=b")
	b.want(b.credit(), int64(700), "granted")
	b.use(10)
	b.want(b.ok("POST", "/v1/invoices/create_preview", "subscription="+sub).num("amount_due"), int64(300), "previewed")
	b.want(b.credit(), int64(700), "a preview takes nothing")
	b.pass(30, 3600)
	in := b.invoice(sub)
	b.want(in.num("subtotal"), int64(1000), "used")
	b.want(in.num("amount_paid"), int64(300), "paid by the card")
	b.want(in.str("total_pretax_credit_amounts.0.type"), "credit_balance_transaction", "why")
	b.want(b.moved(sandbox.EffectPayment), int64(300), "moved")
	b.want(b.credit(), int64(0), "credit left")
	moves := b.ok("GET", "/v1/billing/credit_balance_transactions?credit_grant="+first+"&expand[]=data.debit.credits_applied.invoice", "")
	b.want(moves.str("data.0.debit.credits_applied.invoice.id"), in.str("id"), "applied to")
	b.want(moves.num("data.1.credit.amount.monetary.value"), int64(300), "granted before")
	b.ok("GET", "/v1/billing/credit_balance_transactions/"+moves.ids()[0], "")
	b.refused(400, "", "POST", "/v1/billing/credit_grants/"+late+"/void", "")
	b.want(len(b.ok("GET", "/v1/billing/credit_grants?customer="+b.customer, "").ids()), 2, "grants")
	b.want(len(b.ok("GET", "/v1/billing/credit_grants?customer="+b.seed.Customers[2].ID, "").ids()), 0, "another's")
}

func TestCreditGrantsEnd(t *testing.T) {
	b := newBiller(newRig(t), "chargeDeclined")
	sub, _ := b.metered()
	held := b.grant("300", "")
	b.use(5)
	b.pass(30, 3600)
	in := b.invoice(sub)
	b.want(in.num("amount_remaining"), int64(200), "asked for")
	b.want(b.credit(), int64(0), "taken")
	b.ok("POST", "/v1/invoices/"+in.str("id")+"/void", "")
	b.want(b.credit(), int64(300), "given back by the void")
	b.want(b.ok("POST", "/v1/billing/credit_grants/"+held, "metadata[x]=y").str("metadata.x"), "y", "updated")
	b.ok("POST", "/v1/billing/credit_grants/"+held+"/expire", "")
	b.want(b.credit(), int64(0), "expired by call")
	b.refused(400, "", "POST", "/v1/billing/credit_grants/"+held+"/expire", "")
	b.ok("POST", "/v1/billing/credit_grants/"+b.grant("50", "")+"/void", "")
	b.grant("70", "expires_at="+text(b.now()+86400))
	b.want(b.credit(), int64(70), "until tomorrow")
	b.pass(1, 0)
	b.want(b.credit(), int64(0), "expired by itself")
	for _, tc := range []struct{ form, code string }{
		{"amount[type]=monetary&amount[monetary][currency]=usd&amount[monetary][value]=5&applicability_config[scope][price_type]=metered", "parameter_missing"},
		{"customer=cus_none&amount[type]=monetary&amount[monetary][currency]=usd&amount[monetary][value]=5&applicability_config[scope][price_type]=metered", "resource_missing"},
		{"customer=" + b.customer + "&amount[type]=monetary&amount[monetary][currency]=usd&amount[monetary][value]=0&applicability_config[scope][price_type]=metered", "parameter_invalid_integer"},
		{"customer=" + b.customer + "&amount[type]=monetary&amount[monetary][currency]=usd&amount[monetary][value]=5&applicability_config[scope][prices][0][id]=" + b.basic, ""},
	} {
		b.refused(400, tc.code, "POST", "/v1/billing/credit_grants", tc.form)
	}
}

func TestANewSourcePaysWhatIsPastDue(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.basic, "").str("id")
	b.ok("POST", "/v1/payment_methods/"+b.card+"/detach", "")
	b.pass(30, 3600)
	b.want(b.get("subscriptions", sub).str("status"), "past_due", "without a card")
	b.want(b.moved(sandbox.EffectPayment), int64(2000), "moved before")
	b.ok("POST", "/v1/customers/"+b.customer, "source=tok_visa")
	b.want(b.get("subscriptions", sub).str("status"), "active", "with a new source")
	b.want(b.moved(sandbox.EffectPayment), int64(4000), "the update itself collected it")
}

func TestCustomersShowTheirListsWhenAsked(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.basic, "").str("id")
	b.ok("POST", "/v1/customers/"+b.customer+"/tax_ids", "type=eu_vat&value=DE123456789")
	b.ok("POST", "/v1/customers/"+b.customer+"/sources", "source=tok_visa")
	all := b.ok("GET", "/v1/customers/"+b.customer+"?expand[]=subscriptions&expand[]=tax_ids&expand[]=sources&expand[]=cash_balance&expand[]=tax", "")
	b.want(all.str("subscriptions.data.0.id"), sub, "subscriptions")
	b.want(all.str("tax_ids.data.0.value"), "DE123456789", "tax_ids")
	b.want(all.str("sources.data.0.object"), "card", "sources")
	b.want(all.str("cash_balance.customer"), b.customer, "cash_balance")
	b.want(b.get("customers", b.customer).at("subscriptions"), nil, "unasked")
}
