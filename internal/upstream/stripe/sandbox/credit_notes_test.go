package sandbox_test

import (
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestACreditNoteTakesBackWhatIsAskedAndThenWhatWasPaid(t *testing.T) {
	for _, tc := range []struct {
		name, form         string
		paid               bool
		before, after      int64 // pre_payment_amount, post_payment_amount
		refunded, credited int64
		remaining          int64
		status             string // of the invoice
	}{
		{"part of an open invoice", "amount=300", false, 300, 0, 0, 0, 700, "open"},
		{"all of an open invoice", "amount=1000", false, 1000, 0, 0, 0, 0, "paid"},
		{"a refund of a paid one", "amount=400&refund_amount=400", true, 0, 400, 400, 0, 0, "paid"},
		{"credit for a paid one", "amount=400&credit_amount=400", true, 0, 400, 0, 400, 0, "paid"},
		{"money back elsewhere", "amount=400&out_of_band_amount=400", true, 0, 400, 0, 0, 0, "paid"},
		{"something of each", "amount=600&refund_amount=100&credit_amount=200&out_of_band_amount=300", true, 0, 600, 100, 200, 0, "paid"},
		{"a line of its own", "lines[0][type]=custom_line_item&lines[0][quantity]=3&lines[0][unit_amount]=50&lines[0][description]=Sorry&refund_amount=150", true,
			0, 150, 150, 0, 0, "paid"},
		{"a line of the invoice", "lines[0][type]=invoice_line_item&lines[0][invoice_line_item]=LINE&refund_amount=1000", true, 0, 1000, 1000, 0, 0, "paid"},
		{"part of a line of the invoice", "lines[0][type]=invoice_line_item&lines[0][invoice_line_item]=LINE&lines[0][amount]=250", false, 250, 0, 0, 0, 750, "open"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			ada := r.seed.Customers[0].ID
			id := r.draft("")
			line := r.ok("POST", "/v1/invoices/"+id+"/finalize", "").str("lines.data.0.id")
			if tc.paid {
				r.ok("POST", "/v1/invoices/"+id+"/pay", "")
			}
			form := "invoice=" + id + "&" + strings.ReplaceAll(tc.form, "LINE", line)
			seen := r.ok("GET", "/v1/credit_notes/preview?"+form, "")
			r.want(len(r.ok("GET", "/v1/credit_notes/preview/lines?"+form, "").ids()), 1, "lines of the preview")
			r.want(len(r.ok("GET", "/v1/credit_notes?invoice="+id, "").ids()), 0, "a preview is not kept")
			cn := r.ok("POST", "/v1/credit_notes", form+"&reason=duplicate&memo=m&metadata[a]=b")
			r.want(cn.num("amount"), seen.num("amount"), "as previewed")
			r.want(cn.num("pre_payment_amount"), tc.before, "before the payment")
			r.want(cn.num("post_payment_amount"), tc.after, "after the payment")
			r.want(r.moved(sandbox.EffectRefund), tc.refunded, "refunded")
			r.want(-r.ok("GET", "/v1/customers/"+ada, "").num("balance"), tc.credited, "credited")
			in := r.ok("GET", "/v1/invoices/"+id, "")
			r.want(in.num("amount_remaining"), tc.remaining, "remaining")
			r.want(in.str("status"), tc.status, "status")
			r.want(in.num("pre_payment_credit_notes_amount"), tc.before, "on the invoice, before")
			r.want(in.num("post_payment_credit_notes_amount"), tc.after, "on the invoice, after")
			if tc.status == "open" {
				r.want(r.ok("POST", "/v1/invoices/"+id+"/pay", "").num("amount_paid"), tc.remaining, "then paid")
			}
			r.want(r.ok("GET", "/v1/credit_notes?invoice="+id+"&customer="+ada, "").ids()[0], cn.str("id"), "listed")
			r.want(len(r.ok("GET", "/v1/credit_notes?customer="+r.seed.Customers[2].ID, "").ids()), 0, "another's")
			r.want(len(r.ok("GET", "/v1/credit_notes/"+cn.str("id")+"/lines", "").ids()), 1, "lines")
			r.want(r.ok("POST", "/v1/credit_notes/"+cn.str("id"), "memo=n").str("memo"), "n", "updated")
		})
	}
}

func TestACreditNoteIsRefused(t *testing.T) {
	r := newRig(t)
	draft, open, paid := r.draft(""), r.draft(""), r.draft("")
	r.ok("POST", "/v1/invoices/"+open+"/finalize", "")
	r.ok("POST", "/v1/invoices/"+paid+"/pay", "")
	for _, tc := range []struct{ name, form, code string }{
		{"for a draft", "invoice=" + draft + "&amount=5", ""},
		{"of nothing", "invoice=" + open, "parameter_missing"},
		{"of less than nothing", "invoice=" + open + "&amount=-5", "parameter_invalid_integer"},
		{"of more than is asked", "invoice=" + open + "&amount=1001", ""},
		{"of more than was paid", "invoice=" + paid + "&amount=1001&refund_amount=1001", ""},
		{"whose parts are less", "invoice=" + paid + "&amount=500&refund_amount=400", ""},
		{"whose parts are more", "invoice=" + paid + "&amount=500&refund_amount=400&credit_amount=400", ""},
		{"that refunds what was not paid", "invoice=" + open + "&amount=500&refund_amount=500", ""},
		{"of a line of another invoice", "invoice=" + open + "&lines[0][type]=invoice_line_item&lines[0][invoice_line_item]=il_none", "resource_missing"},
		{"of a refund of another charge", "invoice=" + paid + "&amount=5&refunds[0][refund]=OTHER", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			other := r.ok("POST", "/v1/refunds", "charge="+r.seed.Customers[0].Charges[2]+"&amount=5").str("id")
			r.refused(400, tc.code, "POST", "/v1/credit_notes", strings.ReplaceAll(tc.form, "OTHER", other))
		})
	}
}

func TestRefundsAndCreditNotesShareOneInvoice(t *testing.T) {
	r := newRig(t)
	id := r.draft("")
	paid := r.ok("POST", "/v1/invoices/"+id+"/pay", "expand[]=payments")
	pi := paid.str("payments.data.0.payment.payment_intent")
	re := r.ok("POST", "/v1/refunds", "payment_intent="+pi+"&amount=600").str("id")
	r.refused(400, "", "POST", "/v1/credit_notes", "invoice="+id+"&amount=500&refund_amount=500")
	cn := r.ok("POST", "/v1/credit_notes", "invoice="+id+"&amount=600&refunds[0][refund]="+re+"&refunds[0][amount_refunded]=600&expand[]=refunds.refund")
	r.want(cn.str("refunds.0.refund.id"), re, "linked")
	r.want(r.moved(sandbox.EffectRefund), int64(600), "linking moves nothing")
	r.refused(400, "", "POST", "/v1/credit_notes", "invoice="+id+"&amount=100&refunds[0][refund]="+re+"&refunds[0][amount_refunded]=100")
	r.ok("POST", "/v1/credit_notes", "invoice="+id+"&amount=400&refund_amount=400")
	r.want(r.moved(sandbox.EffectRefund), int64(1000), "all of it")
	r.refused(400, "", "POST", "/v1/credit_notes", "invoice="+id+"&amount=1&credit_amount=1")
}

func TestAVoidedCreditNoteAsksForTheMoneyAgain(t *testing.T) {
	r := newRig(t)
	id := r.draft("")
	r.ok("POST", "/v1/invoices/"+id+"/finalize", "")
	cn := r.ok("POST", "/v1/credit_notes", "invoice="+id+"&amount=300").str("id")
	r.want(r.ok("POST", "/v1/credit_notes/"+cn+"/void", "").str("status"), "void", "status")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").num("amount_remaining"), int64(1000), "remaining")
	r.refused(400, "", "POST", "/v1/credit_notes/"+cn+"/void", "")
	r.ok("POST", "/v1/invoices/"+id+"/pay", "")
	r.want(r.moved(sandbox.EffectPayment), int64(1000), "moved")
	after := r.ok("POST", "/v1/credit_notes", "invoice="+id+"&amount=300&refund_amount=300").str("id")
	r.refused(400, "", "POST", "/v1/credit_notes/"+after+"/void", "")
}

func TestCreditNotesKnowDiscountsAndTaxes(t *testing.T) {
	r := newRig(t)
	vat := r.ok("POST", "/v1/tax_rates", "display_name=VAT&percentage=20&inclusive=false").str("id")
	r.ok("POST", "/v1/coupons", "id=HALF&percent_off=50")
	id := r.draft("default_tax_rates[0]=" + vat + "&discounts[0][coupon]=HALF")
	in := r.ok("POST", "/v1/invoices/"+id+"/finalize", "")
	r.want(in.num("total"), int64(600), "total")
	cn := r.ok("POST", "/v1/credit_notes", "invoice="+id+"&lines[0][type]=invoice_line_item&lines[0][amount]=500&lines[0][invoice_line_item]="+in.str("lines.data.0.id"))
	r.want(cn.num("subtotal"), int64(500), "subtotal")
	r.want(cn.num("discount_amount"), int64(250), "discount")
	r.want(cn.num("total"), int64(300), "total with tax")
	r.want(cn.num("total_excluding_tax"), int64(250), "total without")
	r.want(r.ok("GET", "/v1/invoices/"+id, "").num("amount_remaining"), int64(300), "remaining")
}
