package sandbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestASubscriptionStartsAsItsPaymentGoes(t *testing.T) {
	for _, tc := range []struct {
		name, card, more string
		status, invoice  string
		moved            int64
	}{
		{"a good card pays at once", "visa", "", "active", "paid", 2000},
		{"a declined card leaves it incomplete", "chargeDeclined", "", "incomplete", "open", 0},
		{"a card that asks leaves it incomplete", "authenticationRequired", "", "incomplete", "open", 0},
		{"default_incomplete waits for a confirmation", "visa", "payment_behavior=default_incomplete", "incomplete", "open", 0},
		{"default_incomplete needs no card", "", "payment_behavior=default_incomplete", "incomplete", "open", 0},
		{"a trial costs nothing at first", "visa", "trial_period_days=7", "trialing", "paid", 0},
		{"a trial needs no card", "", "trial_period_days=7", "trialing", "paid", 0},
		{"an invoice that is sent is a draft at first", "", "collection_method=send_invoice&days_until_due=9", "active", "draft", 0},
		{"three of it cost three times as much", "visa", "items[0][quantity]=3", "active", "paid", 6000},
		{"further items are billed with the first invoice", "visa", "add_invoice_items[0][price_data][currency]=usd&add_invoice_items[0][price_data][unit_amount]=123" +
			"&add_invoice_items[0][price_data][product]=PRODUCT", "active", "paid", 2123},
		{"an anchor in ten of thirty days bills a third", "visa", "billing_cycle_anchor=IN10DAYS", "active", "paid", 645},
		{"an anchor without prorations bills nothing", "visa", "billing_cycle_anchor=IN10DAYS&proration_behavior=none", "active", "paid", 0},
		{"a start thirty-one days back bills those too", "visa", "backdate_start_date=BACK31DAYS", "active", "paid", 4067},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), tc.card)
			more := replace(tc.more, "PRODUCT", b.product, "IN10DAYS", b.now()+10*86400, "BACK31DAYS", b.now()-31*86400)
			sub := b.subscribe(b.basic, more+"&expand[]=latest_invoice.payments")
			b.want(sub.str("status"), tc.status, "status")
			b.want(sub.str("latest_invoice.status"), tc.invoice, "invoice")
			b.want(sub.str("latest_invoice.billing_reason"), "subscription_create", "reason")
			b.want(sub.str("latest_invoice.parent.subscription_details.subscription"), sub.str("id"), "parent")
			b.want(b.moved(sandbox.EffectPayment), tc.moved, "moved")
			b.want(sub.str("items.data.0.price.id"), b.basic, "price")
			b.want(sub.str("test_clock"), b.clock, "clock")
		})
	}
}

// replace puts values in place of words.
func replace(s string, pairs ...any) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		s = strings.ReplaceAll(s, pairs[i].(string), fmt.Sprint(pairs[i+1]))
	}
	return s
}

func TestASubscriptionThatCannotStartIsRefused(t *testing.T) {
	r := newRig(t)
	bare, broke := newBiller(r, ""), newBiller(r, "chargeDeclined")
	other := r.seed.Customers[0]
	for _, tc := range []struct{ name, form, code string }{
		{"without a customer", "items[0][price]=" + bare.basic, "parameter_missing"},
		{"without items", "customer=" + bare.customer, "parameter_missing"},
		{"with a customer that does not exist", "customer=cus_no&items[0][price]=" + bare.basic, "resource_missing"},
		{"with a price that does not exist", "customer=" + bare.customer + "&items[0][price]=price_no", "resource_missing"},
		{"with a one-time price", "customer=" + bare.customer + "&items[0][price]=" + bare.once, ""},
		{"without a card", "customer=" + bare.customer + "&items[0][price]=" + bare.basic, "resource_missing"},
		{"with another customer's card", "customer=" + bare.customer + "&items[0][price]=" + bare.basic + "&default_payment_method=" + other.Card, "resource_missing"},
		{"with months and years together", "customer=" + bare.customer + "&items[0][price]=" + bare.basic + "&items[1][price]=" + bare.year, ""},
		{"with an unknown item parameter", "customer=" + bare.customer + "&items[0][price]=" + bare.basic + "&items[0][amount]=1", "parameter_unknown"},
		{"to be sent without days", "customer=" + bare.customer + "&items[0][price]=" + bare.basic + "&collection_method=send_invoice", ""},
	} {
		t.Run(tc.name, func(t *testing.T) { r.refused(400, tc.code, "POST", "/v1/subscriptions", tc.form) })
	}
	r.refused(402, "card_declined", "POST", "/v1/subscriptions", "customer="+broke.customer+"&items[0][price]="+broke.basic+"&payment_behavior=error_if_incomplete")
	r.want(len(r.ok("GET", "/v1/subscriptions?status=all&customer="+broke.customer, "").ids()), 0, "subscriptions")
	r.want(len(r.ok("GET", "/v1/invoices?customer="+broke.customer, "").ids()), 0, "invoices")
}

func TestAnIncompleteSubscriptionIsPaidOrExpires(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	first := b.subscribe(b.basic, "payment_behavior=default_incomplete&expand[]=latest_invoice.payments&expand[]=latest_invoice.confirmation_secret")
	pi := first.str("latest_invoice.payments.data.0.payment.payment_intent")
	b.want(b.get("payment_intents", pi).str("client_secret"), first.str("latest_invoice.confirmation_secret.client_secret"), "secret")
	b.want(b.ok("POST", "/v1/payment_intents/"+pi+"/confirm", "").str("status"), "succeeded", "confirmed")
	b.want(b.get("subscriptions", first.str("id")).str("status"), "active", "paid")
	b.want(b.invoice(first.str("id")).str("status"), "paid", "its invoice")
	b.want(b.ok("GET", "/v1/invoice_payments?invoice="+first.str("latest_invoice.id")+"&status=paid", "").num("data.0.amount_paid"), int64(2000), "its payment")

	second := b.subscribe(b.plus, "payment_behavior=default_incomplete").str("id")
	b.pass(0, 23*3600)
	b.want(b.get("subscriptions", second).str("status"), "incomplete_expired", "after 23 hours")
	b.want(b.invoice(second).str("status"), "void", "its invoice")
	b.want(b.moved(sandbox.EffectPayment), int64(2000), "moved")
}

func TestASubscriptionRenewsWithoutACall(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.basic, "").str("id")
	b.ok("POST", "/v1/invoiceitems", "customer="+b.customer+"&amount=300&currency=usd&description=Setup")
	b.pass(30, 0)
	draft := b.invoice(sub)
	b.want(draft.str("status"), "draft", "at the boundary")
	b.want(draft.str("billing_reason"), "subscription_cycle", "reason")
	b.want(draft.at("auto_advance"), true, "auto_advance")
	b.want(draft.num("amount_due"), int64(2300), "the period and what was pending")
	b.pass(0, 3600)
	b.want(b.invoice(sub).str("status"), "paid", "an hour later")
	b.want(b.moved(sandbox.EffectPayment), int64(4300), "moved")
	e := b.s.Effects()
	b.want(e[len(e)-1].RequestID, "", "no request of its own caused it")
	b.pass(365, 0)
	b.want(len(b.ok("GET", "/v1/invoices?limit=100&subscription="+sub, "").ids()), 14, "a year later")
	b.want(b.moved(sandbox.EffectPayment), int64(4300+12*2000), "moved in a year")
}

func TestARenewalThatFailsIsTriedAgainAndThenWaits(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.basic, "").str("id")
	bad := b.ok("POST", "/v1/payment_methods", "type=card&card[token]=tok_chargeDeclinedInsufficientFunds").str("id")
	b.ok("POST", "/v1/payment_methods/"+bad+"/attach", "customer="+b.customer)
	b.ok("POST", "/v1/subscriptions/"+sub, "default_payment_method="+bad)
	b.pass(30, 3600)
	b.want(b.get("subscriptions", sub).str("status"), "past_due", "status")
	b.want(b.invoice(sub).num("attempt_count"), int64(1), "attempts")
	b.pass(9, 0)
	in := b.invoice(sub)
	b.want(in.num("attempt_count"), int64(4), "attempts after nine days")
	b.want(in.at("next_payment_attempt"), nil, "next attempt")
	b.ok("POST", "/v1/subscriptions/"+sub, "default_payment_method="+b.card)
	b.want(b.ok("POST", "/v1/invoices/"+in.str("id")+"/pay", "").str("status"), "paid", "paid by hand")
	b.want(b.get("subscriptions", sub).str("status"), "active", "status in the end")
}

func TestATrialEndsInAChargeACancellationOrAPause(t *testing.T) {
	for _, tc := range []struct {
		name, card, more, status string
		moved                    int64
	}{
		{"with a card it is charged", "visa", "", "active", 2000},
		{"without one the invoice fails", "", "", "past_due", 0},
		{"without one it is canceled if so wanted", "", "trial_settings[end_behavior][missing_payment_method]=cancel", "canceled", 0},
		{"without one it is paused if so wanted", "", "trial_settings[end_behavior][missing_payment_method]=pause", "paused", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), tc.card)
			sub := b.subscribe(b.basic, "trial_period_days=7&"+tc.more).str("id")
			b.pass(7, 3600)
			b.want(b.get("subscriptions", sub).str("status"), tc.status, "status")
			b.want(b.moved(sandbox.EffectPayment), tc.moved, "moved")
		})
	}
}

func TestAChangeProratesAsAsked(t *testing.T) {
	for _, tc := range []struct {
		name, more string
		now        int64 // moved at once
		renewal    int64 // amount of the next renewal's invoice
	}{
		{"an upgrade waits for the renewal", "items[0][id]=ITEM&items[0][price]=PLUS", 0, 5000 + 1500},
		{"an upgrade without prorations costs nothing now", "items[0][id]=ITEM&items[0][price]=PLUS&proration_behavior=none", 0, 5000},
		{"an upgrade can be billed at once", "items[0][id]=ITEM&items[0][price]=PLUS&proration_behavior=always_invoice", 1500, 5000},
		{"more of it can be billed at once", "items[0][id]=ITEM&items[0][quantity]=3&proration_behavior=always_invoice", 2000, 6000},
		{"a price without the item's id is one more item", "items[0][price]=PLUS&proration_behavior=always_invoice", 2500, 7000},
		{"another interval starts a period now", "items[0][id]=ITEM&items[0][price]=YEAR", 20000 - 1000, -1},
		{"an anchor of now starts a period now", "billing_cycle_anchor=now", 2000 - 1000, -1},
		{"an anchor of now without prorations bills in full", "billing_cycle_anchor=now&proration_behavior=none", 2000, -1},
		{"further items wait for the renewal", "add_invoice_items[0][price]=ONCE", 0, 2700},
		{"further items go with an invoice at once", "add_invoice_items[0][price]=ONCE&proration_behavior=always_invoice", 700, 2000},
		{"a change of nothing costs nothing", "items[0][id]=ITEM&items[0][quantity]=1&proration_behavior=always_invoice", 0, 2000},
		{"prorations can be worked out for another time", "items[0][id]=ITEM&items[0][price]=PLUS&proration_behavior=always_invoice&proration_date=START", 3000, 5000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			start := b.now()
			sub := b.subscribe(b.basic, "")
			b.pass(15, 0)
			form := replace(tc.more, "ITEM", sub.str("items.data.0.id"), "PLUS", b.plus, "YEAR", b.year, "ONCE", b.once, "START", start)
			after := b.ok("POST", "/v1/subscriptions/"+sub.str("id"), form)
			b.want(after.str("status"), "active", "status")
			b.want(b.moved(sandbox.EffectPayment)-2000, tc.now, "moved at once")
			if tc.renewal < 0 {
				b.want(after.num("billing_cycle_anchor"), b.now(), "anchor")
				return
			}
			b.pass(15, 0)
			b.want(b.invoice(sub.str("id")).num("amount_due"), tc.renewal, "renewal")
		})
	}
}

func TestADowngradeBecomesCredit(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.plus, "")
	b.pass(15, 0)
	b.ok("POST", "/v1/subscriptions/"+sub.str("id"), "items[0][id]="+sub.str("items.data.0.id")+"&items[0][price]="+b.basic+"&proration_behavior=always_invoice")
	in := b.invoice(sub.str("id"))
	b.want(in.num("total"), int64(-1500), "total")
	b.want(in.num("amount_due"), int64(0), "due")
	b.want(b.get("customers", b.customer).num("balance"), int64(-1500), "credit")
	b.want(b.moved(sandbox.EffectPayment), int64(5000), "moved")
}

func TestAChangeThatCannotBePaid(t *testing.T) {
	for _, tc := range []struct {
		behavior string
		code     int
		status   string
		price    string // plus or basic
	}{
		{"allow_incomplete", 200, "past_due", "plus"},
		{"default_incomplete", 200, "past_due", "plus"},
		{"pending_if_incomplete", 200, "active", "basic"},
		{"error_if_incomplete", 402, "active", "basic"},
	} {
		t.Run(tc.behavior, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			sub := b.subscribe(b.basic, "")
			bad := b.ok("POST", "/v1/payment_methods", "type=card&card[token]=tok_chargeDeclinedInsufficientFunds").str("id")
			b.ok("POST", "/v1/payment_methods/"+bad+"/attach", "customer="+b.customer)
			b.ok("POST", "/v1/customers/"+b.customer, "invoice_settings[default_payment_method]="+bad)
			b.pass(15, 0)
			out := b.do("POST", "/v1/subscriptions/"+sub.str("id"), "items[0][id]="+sub.str("items.data.0.id")+"&items[0][price]="+b.plus+
				"&proration_behavior=always_invoice&payment_behavior="+tc.behavior)
			b.want(out.status, tc.code, "answer")
			after := b.get("subscriptions", sub.str("id"))
			b.want(after.str("status"), tc.status, "status")
			b.want(after.str("items.data.0.price.id"), map[string]string{"plus": b.plus, "basic": b.basic}[tc.price], "price")
			if tc.behavior == "pending_if_incomplete" {
				b.want(after.str("pending_update.subscription_items.0.price.id"), b.plus, "what waits")
				b.ok("POST", "/v1/invoices/"+after.str("latest_invoice")+"/pay", "payment_method="+b.card)
				b.want(b.get("subscriptions", sub.str("id")).str("items.data.0.price.id"), b.plus, "paid")
			}
		})
	}
}

func TestSubscriptionItemsChangeTheirSubscription(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.basic, "").str("id")
	b.pass(15, 0)
	added := b.ok("POST", "/v1/subscription_items", "subscription="+sub+"&price="+b.plus+"&quantity=2&proration_behavior=always_invoice&metadata[a]=b")
	b.want(b.moved(sandbox.EffectPayment), int64(2000+5000), "billed at once")
	b.want(added.num("quantity"), int64(2), "quantity")
	b.ok("POST", "/v1/subscription_items/"+added.str("id"), "quantity=1&proration_behavior=none")
	b.want(len(b.ok("GET", "/v1/subscription_items?subscription="+sub, "").ids()), 2, "listed")
	b.want(b.ok("DELETE", "/v1/subscription_items/"+added.str("id"), "").at("deleted"), true, "deleted")
	b.want(b.invoice(sub).num("total"), int64(5000), "the credit waits")
	b.pass(15, 0)
	b.want(b.invoice(sub).num("total"), int64(2000-2500), "the credit is on the renewal")
	last := b.ok("GET", "/v1/subscription_items?subscription="+sub, "").ids()
	b.refused(400, "", "DELETE", "/v1/subscription_items/"+last[0], "")
	b.refused(400, "parameter_missing", "GET", "/v1/subscription_items", "")
	b.refused(404, "resource_missing", "POST", "/v1/subscription_items/si_no", "quantity=1")
}

func TestCancellingBillsOrCreditsWhatIsAsked(t *testing.T) {
	for _, tc := range []struct {
		name, query string
		moved       int64
		balance     int64
		pending     int
	}{
		{"by default nothing more happens, and prorations go", "", 2000, 0, 1},
		{"invoice_now bills what is pending on it", "invoice_now=true", 2000 + 1500, 0, 1},
		{"prorate leaves a credit pending", "prorate=true", 2000, 0, 4},
		{"both settle it: the credit is more than what is pending", "invoice_now=true&prorate=true", 2000, -1000, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			sub := b.subscribe(b.basic, "")
			b.pass(15, 0)
			b.ok("POST", "/v1/subscriptions/"+sub.str("id"), "items[0][id]="+sub.str("items.data.0.id")+"&items[0][price]="+b.plus)
			b.ok("POST", "/v1/invoiceitems", "customer="+b.customer+"&amount=400&currency=usd")
			gone := b.ok("DELETE", "/v1/subscriptions/"+sub.str("id")+"?"+tc.query, "")
			b.want(gone.str("status"), "canceled", "status")
			b.want(b.moved(sandbox.EffectPayment), tc.moved, "moved")
			b.want(b.get("customers", b.customer).num("balance"), tc.balance, "balance")
			b.want(len(b.ok("GET", "/v1/invoiceitems?pending=true&customer="+b.customer, "").ids()), tc.pending, "pending")
			b.pass(60, 0)
			b.want(b.moved(sandbox.EffectPayment), tc.moved, "moved later")
			b.refused(404, "resource_missing", "DELETE", "/v1/subscriptions/"+sub.str("id"), "")
		})
	}
}

func TestASubscriptionEndsWhenItIsTo(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	atEnd, at := b.subscribe(b.basic, "").str("id"), b.subscribe(b.plus, fmt.Sprintf("cancel_at=%d", b.now()+10*86400)).str("id")
	up := b.ok("POST", "/v1/subscriptions/"+atEnd, "cancel_at_period_end=true")
	b.want(up.at("cancel_at_period_end"), true, "set")
	b.want(up.num("cancel_at"), up.num("items.data.0.current_period_end"), "cancel_at")
	b.pass(10, 0)
	b.want(b.get("subscriptions", at).str("status"), "canceled", "at its date")
	b.want(b.get("subscriptions", atEnd).str("status"), "active", "before the period's end")
	b.pass(20, 0)
	b.want(b.get("subscriptions", atEnd).str("status"), "canceled", "at the period's end")
	b.want(b.moved(sandbox.EffectPayment), int64(7000), "moved")
	kept := b.subscribe(b.basic, "cancel_at_period_end=true").str("id")
	b.ok("POST", "/v1/subscriptions/"+kept, "cancel_at_period_end=false")
	b.pass(31, 3600)
	b.want(b.get("subscriptions", kept).str("status"), "active", "kept after all")
}

func TestPausesKeepMoneyFromMoving(t *testing.T) {
	for _, tc := range []struct{ behavior, status string }{
		{"keep_as_draft", "draft"}, {"mark_uncollectible", "uncollectible"}, {"void", "void"},
	} {
		t.Run(tc.behavior, func(t *testing.T) {
			b := newBiller(newRig(t), "visa")
			sub := b.subscribe(b.basic, "").str("id")
			b.ok("POST", "/v1/subscriptions/"+sub, fmt.Sprintf("pause_collection[behavior]=%s&pause_collection[resumes_at]=%d", tc.behavior, b.now()+40*86400))
			b.pass(31, 0)
			b.want(b.invoice(sub).str("status"), tc.status, "invoice")
			b.want(b.get("subscriptions", sub).str("status"), "active", "status")
			b.pass(30, 3600)
			b.want(b.invoice(sub).str("status"), "paid", "after the pause")
			b.want(b.moved(sandbox.EffectPayment), int64(4000), "moved")
		})
	}
}

func TestAPausedSubscriptionResumes(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	sub := b.subscribe(b.basic, "").str("id")
	b.refused(400, "", "POST", "/v1/subscriptions/"+sub+"/resume", "")
	b.pass(15, 0)
	b.want(b.ok("POST", "/v1/subscriptions/"+sub+"/pause", "type=subscription").str("status"), "paused", "paused")
	b.want(b.ok("GET", "/v1/invoiceitems?pending=true&customer="+b.customer, "").num("data.0.amount"), int64(-1000), "unused time")
	b.pass(60, 0)
	b.want(b.moved(sandbox.EffectPayment), int64(2000), "moved while paused")
	b.want(b.ok("POST", "/v1/subscriptions/"+sub+"/resume", "").str("status"), "active", "resumed")
	b.want(b.moved(sandbox.EffectPayment), int64(2000+1000), "a new period less the credit")
	b.ok("POST", "/v1/subscriptions/"+sub+"/pause", "bill_for[unused_time_from][type]=none&bill_for[outstanding_usage_through][type]=none")
	b.want(b.ok("POST", "/v1/subscriptions/"+sub+"/resume", "billing_cycle_anchor=unchanged&proration_behavior=none").str("status"), "active", "resumed for nothing")
	b.want(b.moved(sandbox.EffectPayment), int64(3000), "moved")
	b.pass(31, 3600)
	b.want(b.moved(sandbox.EffectPayment), int64(5000), "and it renews")
}

func TestTheOldRoutesToSubscriptionsAreTheSame(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	base := "/v1/customers/" + b.customer + "/subscriptions"
	sub := b.ok("POST", base, "items[0][price]="+b.basic).str("id")
	b.want(b.moved(sandbox.EffectPayment), int64(2000), "moved")
	b.want(b.ok("GET", base, "").ids()[0], sub, "listed")
	b.want(b.ok("POST", base+"/"+sub, "metadata[a]=b").str("metadata.a"), "b", "updated")
	other := "/v1/customers/" + b.seed.Customers[2].ID + "/subscriptions"
	b.want(len(b.ok("GET", other, "").ids()), 0, "another's list")
	for _, method := range []string{"GET", "POST", "DELETE"} {
		b.refused(404, "resource_missing", method, other+"/"+sub, "")
	}
	b.refused(404, "resource_missing", "GET", base+"/"+sub+"/discount", "")
	b.want(b.ok("DELETE", base+"/"+sub, "").str("status"), "canceled", "canceled")
	for query, want := range map[string]int{"customer=" + b.customer: 0, "test_clock=" + b.clock + "&status=all": 1, "status=canceled": 1, "status=ended": 1, "status=active": 0, "price=" + b.basic: 0,
		"status=all&price=" + b.basic: 1, "status=all&customer=" + b.seed.Customers[2].ID: 0, "status=all&collection_method=send_invoice": 0} {
		b.want(len(b.ok("GET", "/v1/subscriptions?"+query, "").ids()), want, query)
	}
}

func TestSchedulesChangeTheirSubscriptionInPhases(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	form := "customer=" + b.customer + "&start_date=now&end_behavior=cancel&phases[0][items][0][price]=" + b.basic + "&phases[0][duration][interval]=month" +
		"&phases[1][items][0][price]=" + b.plus + "&phases[1][items][0][quantity]=2&phases[1][duration][interval]=month&phases[1][duration][interval_count]=2"
	o := b.ok("POST", "/v1/subscription_schedules", form)
	b.want(o.str("status"), "active", "status")
	b.want(b.moved(sandbox.EffectPayment), int64(2000), "the first phase")
	sub := o.str("subscription")
	b.pass(30, 3600)
	b.want(b.get("subscriptions", sub).str("items.data.0.price.id"), b.plus, "the second phase")
	b.want(b.moved(sandbox.EffectPayment), int64(2000+10000), "its first month")
	b.pass(31, 0)
	b.want(b.moved(sandbox.EffectPayment), int64(2000+20000), "its second")
	b.pass(31, 3600)
	b.want(b.get("subscription_schedules", o.str("id")).str("status"), "completed", "in the end")
	b.want(b.get("subscriptions", sub).str("status"), "canceled", "and the subscription")

	later := b.ok("POST", "/v1/subscription_schedules", fmt.Sprintf("customer=%s&start_date=%d&phases[0][items][0][price]=%s&phases[0][items][0][metadata][k]=v",
		b.customer, b.now()+86400, b.basic))
	b.want(later.str("status"), "not_started", "before its start")
	b.want(later.at("subscription"), nil, "no subscription yet")
	b.want(len(b.ok("GET", "/v1/subscription_schedules?scheduled=true&customer="+b.customer, "").ids()), 1, "scheduled")
	b.pass(1, 0)
	started := b.get("subscription_schedules", later.str("id"))
	b.want(started.str("status"), "active", "at its start")
	up := b.ok("POST", "/v1/subscription_schedules/"+later.str("id"), "proration_behavior=always_invoice&phases[0][items][0][price]="+b.plus+
		"&phases[0][duration][interval]=month&metadata[x]=y")
	b.want(up.str("metadata.x"), "y", "updated")
	b.want(b.moved(sandbox.EffectPayment), int64(22000+2000+3000), "the change of the phase is billed")
	freed := b.ok("POST", "/v1/subscription_schedules/"+later.str("id")+"/release", "")
	b.want(freed.str("status"), "released", "released")
	b.want(freed.str("released_subscription"), started.str("subscription"), "its subscription")
	b.refused(400, "", "POST", "/v1/subscription_schedules/"+later.str("id")+"/cancel", "")

	again := b.ok("POST", "/v1/subscription_schedules", "from_subscription="+started.str("subscription"))
	b.want(b.get("subscriptions", started.str("subscription")).str("schedule"), again.str("id"), "attached")
	b.refused(400, "", "POST", "/v1/subscription_schedules", "from_subscription="+started.str("subscription"))
	b.pass(15, 0)
	b.want(b.ok("POST", "/v1/subscription_schedules/"+again.str("id")+"/cancel", "").str("status"), "canceled", "canceled")
	b.want(b.get("customers", b.customer).num("balance"), int64(-2500), "half a month is credited by default")
	b.refused(400, "parameter_missing", "POST", "/v1/subscription_schedules", "customer="+b.customer)
}

func TestDiscountsFollowASubscription(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	half := b.ok("POST", "/v1/coupons", "percent_off=50&duration=forever&name=Half").str("id")
	five := b.ok("POST", "/v1/coupons", "amount_off=500&currency=usd&duration=once&id=FIVE").str("id")
	code := b.ok("POST", "/v1/promotion_codes", "promotion[type]=coupon&promotion[coupon]="+five+"&code=WELCOME").str("id")
	sub := b.subscribe(b.basic, "discounts[0][promotion_code]="+code+"&expand[]=discounts.source.coupon")
	b.want(sub.str("discounts.0.source.coupon.id"), "FIVE", "expanded")
	b.want(b.moved(sandbox.EffectPayment), int64(1500), "first invoice")
	b.want(b.get("coupons", "FIVE").num("times_redeemed"), int64(1), "redeemed")
	b.pass(30, 3600)
	b.want(b.moved(sandbox.EffectPayment), int64(3500), "it was for one invoice")
	b.ok("POST", "/v1/subscriptions/"+sub.str("id"), "discounts[0][coupon]="+half)
	b.pass(31, 3600)
	b.want(b.moved(sandbox.EffectPayment), int64(4500), "half off")
	in := b.invoice(sub.str("id"))
	b.want(in.num("total_discount_amounts.0.amount"), int64(1000), "discount on the invoice")
	b.want(b.ok("GET", "/v1/customers/"+b.customer+"/subscriptions/"+sub.str("id")+"/discount", "").str("subscription"), sub.str("id"), "old route")
	b.want(b.ok("DELETE", "/v1/subscriptions/"+sub.str("id")+"/discount", "").at("deleted"), true, "taken away")
	b.refused(404, "resource_missing", "DELETE", "/v1/subscriptions/"+sub.str("id")+"/discount", "")
	if err := b.s.SetCustomerDiscount(b.customer, half); err != nil {
		t.Fatal(err)
	}
	b.want(b.ok("GET", "/v1/customers/"+b.customer+"/discount", "").str("customer"), b.customer, "customer's discount")
	b.pass(31, 0)
	b.want(b.moved(sandbox.EffectPayment), int64(5500), "the customer's discount holds")
	b.want(b.ok("DELETE", "/v1/customers/"+b.customer+"/discount", "").at("deleted"), true, "taken away")
	b.pass(30, 0)
	b.want(b.moved(sandbox.EffectPayment), int64(7500), "full price again")
}

func TestMeteredItemsAreBilledByUse(t *testing.T) {
	b := newBiller(newRig(t), "visa")
	meter := b.ok("POST", "/v1/billing/meters", "display_name=Calls&event_name=calls&default_aggregation[formula]=sum").str("id")
	price := b.price("unit_amount_decimal=12.5&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]=" + meter)
	sub := b.subscribe(price, "")
	b.want(sub.str("latest_invoice") != "", true, "an invoice of nothing")
	use := func(value string) *reply {
		return b.do("POST", "/v1/billing/meter_events", "event_name=calls&payload[stripe_customer_id]="+b.customer+"&payload[value]="+value)
	}
	b.want(use("10").status, 200, "use")
	b.want(use("7").status, 200, "use")
	undone := use("1000").str("identifier")
	b.ok("POST", "/v1/billing/meter_event_adjustments", "event_name=calls&type=cancel&cancel[identifier]="+undone)
	b.refused(400, "", "POST", "/v1/billing/meter_events", "event_name=nothing&payload[stripe_customer_id]="+b.customer+"&payload[value]=1")
	b.want(b.ok("GET", fmt.Sprintf("/v1/billing/meters/%s/event_summaries?customer=%s&start_time=0&end_time=%d", meter, b.customer, b.now()+60), "").
		num("data.0.aggregated_value"), int64(17), "used")
	b.pass(30, 3600)
	b.want(b.moved(sandbox.EffectPayment), int64(213), "17 at 12.5 cents")
	use("100")
	b.ok("DELETE", "/v1/subscriptions/"+sub.str("id")+"?invoice_now=true", "")
	b.want(b.moved(sandbox.EffectPayment), int64(213+1250), "the rest at the end")
	b.ok("POST", "/v1/billing/meters/"+meter+"/deactivate", "")
	b.want(use("1").status, 400, "use of an inactive meter")
}
