package sandbox_test

import (
	"fmt"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestAQuoteBecomesWhatItOffers(t *testing.T) {
	for _, tc := range []struct {
		name, form              string
		total, upfront, monthly int64
		invoice                 string // status of the invoice at once
		later                   int64  // moved after an hour and three months
	}{
		{"one thing once", "line_items[0][price]=ONCE&line_items[0][quantity]=2", 1400, 1400, -1, "draft", 0},
		{"a subscription", "line_items[0][price]=BASIC", 2000, 2000, 2000, "draft", 8000},
		{"both", "line_items[0][price]=BASIC&line_items[1][price]=ONCE", 2700, 2700, 2000, "draft", 8700},
		{"with a trial of a month", "line_items[0][price]=BASIC&line_items[1][price]=ONCE&subscription_data[trial_period_days]=30", 2700, 700, 2000, "draft", 6700},
		{"with a discount", "line_items[0][price]=BASIC&discounts[0][coupon]=HALF", 1000, 1000, 1000, "draft", 4000},
		{"with tax", "line_items[0][price]=BASIC&default_tax_rates[0]=VAT", 2400, 2400, 2400, "draft", 9600},
		{"beginning next month", "line_items[0][price]=BASIC&subscription_data[effective_date]=IN30DAYS", 2000, 2000, 2000, "", 6000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			b.ok("POST", "/v1/coupons", "id=HALF&percent_off=50&duration=forever")
			vat := b.ok("POST", "/v1/tax_rates", "display_name=VAT&percentage=20&inclusive=false").str("id")
			form := replace(tc.form, "ONCE", b.once, "BASIC", b.basic, "VAT", vat, "IN30DAYS", b.now()+30*86400)
			q := b.ok("POST", "/v1/quotes", "customer="+b.customer+"&description=Offer&"+form+"&expand[]=line_items&expand[]=computed.upfront.line_items&expand[]=discounts")
			id := q.str("id")
			b.want(q.str("status"), "draft", "status")
			b.want(q.num("amount_total"), tc.total, "total")
			b.want(q.num("computed.upfront.amount_total"), tc.upfront, "upfront")
			if tc.monthly < 0 {
				b.want(q.at("computed.recurring"), nil, "recurring")
			} else {
				b.want(q.num("computed.recurring.amount_total"), tc.monthly, "recurring")
			}
			b.ok("GET", "/v1/quotes/"+id+"/line_items?expand[]=data.discounts&expand[]=data.taxes", "")
			b.ok("GET", "/v1/quotes/"+id+"/computed_upfront_line_items", "")
			b.refused(400, "", "POST", "/v1/quotes/"+id+"/accept", "")
			open := b.ok("POST", "/v1/quotes/"+id+"/finalize", "")
			b.want(open.str("status"), "open", "finalized")
			b.refused(400, "", "POST", "/v1/quotes/"+id, "description=x")
			done := b.ok("POST", "/v1/quotes/"+id+"/accept", "expand[]=invoice&expand[]=subscription&expand[]=total_details.breakdown")
			b.want(done.str("status"), "accepted", "accepted")
			b.want(done.str("invoice.status"), tc.invoice, "invoice")
			b.want(b.moved(sandbox.EffectPayment), int64(0), "moved at once")
			b.pass(92, 7200)
			b.want(b.moved(sandbox.EffectPayment), tc.later, "moved in three months")
			b.refused(400, "", "POST", "/v1/quotes/"+id+"/cancel", "")
		})
	}
}

func TestQuotesChangeWhileTheyAreDraftsAndExpire(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	q := b.ok("POST", "/v1/quotes", "metadata[a]=b").str("id")
	b.refused(400, "", "POST", "/v1/quotes/"+q+"/finalize", "")
	b.ok("POST", "/v1/quotes/"+q, "customer="+b.customer)
	b.refused(400, "", "POST", "/v1/quotes/"+q+"/finalize", "")
	up := b.ok("POST", "/v1/quotes/"+q, "line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product]="+b.product+
		"&line_items[0][quantity]=3&header=h&footer=f&collection_method=send_invoice&invoice_settings[days_until_due]=4")
	b.want(up.num("amount_total"), int64(2700), "total")
	copied := b.ok("POST", "/v1/quotes", "from_quote[quote]="+q+"&from_quote[is_revision]=true")
	b.want(copied.num("amount_total"), int64(2700), "copied")
	b.want(copied.str("from_quote.quote"), q, "from")
	b.ok("POST", "/v1/quotes/"+q+"/finalize", fmt.Sprintf("expires_at=%d", b.now()+86400))
	b.want(len(b.ok("GET", "/v1/quotes?status=open&customer="+b.customer, "").ids()), 1, "open ones")
	b.want(len(b.ok("GET", "/v1/quotes?customer="+b.seed.Customers[2].ID, "").ids()), 0, "another's")
	b.pass(1, 0)
	b.want(b.get("quotes", q).str("status"), "canceled", "expired")
	b.want(b.ok("POST", "/v1/quotes/"+copied.str("id")+"/cancel", "").str("status"), "canceled", "canceled")
	for _, bad := range []string{"customer=cus_none", "line_items[0][price]=price_none", "line_items[0][quantity]=1", "discounts[0][coupon]=none",
		"line_items[0][price]=" + b.once + "&application_fee_amount=5"} {
		if out := b.do("POST", "/v1/quotes", bad); out.status != 400 {
			t.Errorf("%s: %d", bad, out.status)
		}
	}
}

func TestAQuotesInvoiceIsSharedAndDue(t *testing.T) {
	r := newRig(t)
	shop := r.connect()
	b := newBiller(r, "visa")
	q := b.ok("POST", "/v1/quotes", "customer="+b.customer+"&line_items[0][price]="+b.basic+"&transfer_data[destination]="+shop+"&transfer_data[amount_percent]=10")
	b.want(q.str("transfer_data.destination"), shop, "destination")
	b.ok("POST", "/v1/quotes/"+q.str("id")+"/finalize", "")
	b.ok("POST", "/v1/quotes/"+q.str("id")+"/accept", "")
	b.pass(30, 7200)
	b.want(r.balance(shop), int64(400), "a tenth of two months")
	once := b.ok("POST", "/v1/quotes", "customer="+b.customer+"&line_items[0][price]="+b.once+"&transfer_data[destination]="+shop+"&transfer_data[amount]=100").str("id")
	b.ok("POST", "/v1/quotes/"+once+"/finalize", "")
	in := b.ok("POST", "/v1/quotes/"+once+"/accept", "expand[]=invoice")
	b.want(in.str("invoice.parent.quote_details.quote"), once, "parent")
	b.ok("POST", "/v1/invoices/"+in.str("invoice.id")+"/pay", "")
	b.want(r.balance(shop), int64(500), "and a part of the invoice")
}
