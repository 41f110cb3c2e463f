package stripe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

func mustParse(t testing.TB, a *Adapter, raw *upstream.RawCall) *upstream.Call {
	t.Helper()
	call, refusal := a.Parse(raw, "")
	if refusal != nil {
		t.Fatalf("%s %s: %s", raw.Method, raw.Path, refusal.Message)
	}
	return call
}

func post(path, body string) *upstream.RawCall { return formCall("POST", path, "", body) }

func usd(minor int64) money.Amount { return money.Amount{Minor: minor, Currency: "usd"} }

func TestWhatACallWouldDoToMoney(t *testing.T) {
	a := newAdapter(t)
	open := func(bucket policy.Resource, mode policy.CountMode, object policy.ObjectID) []policy.Effect {
		return []policy.Effect{{Bucket: bucket, Mode: mode, Object: object}}
	}
	named := func(bucket policy.Resource, mode policy.CountMode, object policy.ObjectID, minor int64) []policy.Effect {
		e := open(bucket, mode, object)
		e[0].Named = minor
		return e
	}
	known := func(bucket policy.Resource, mode policy.CountMode, object policy.ObjectID, minor int64) []policy.Effect {
		e := open(bucket, mode, object)
		e[0].Known, e[0].Amount = true, usd(minor)
		return e
	}
	for _, c := range []struct {
		name, path, body string
		want             []policy.Effect
	}{
		{"a refund waits for its currency", "/v1/refunds", "charge=ch_1&amount=2000", named("refunds", policy.Gross, "", 2000)},
		{"a refund through the charge counts as a refund", "/v1/charges/ch_1/refund", "", open("refunds", policy.Gross, "")},
		{"a refund under the charge counts as a refund", "/v1/charges/ch_1/refunds", "amount=5", named("refunds", policy.Gross, "", 5)},
		{"naming a refund moves nothing", "/v1/refunds/re_1", "metadata[a]=b", nil},
		{"cancelling a refund moves nothing", "/v1/refunds/re_1/cancel", "", nil},
		{"a legacy charge is known", "/v1/charges", "amount=100&currency=USD&source=tok_1", known("charges", policy.Total, "", 100)},
		{"a legacy capture is a part", "/v1/charges/ch_1/capture", "amount=50", named("charges", policy.Part, "ch_1", 50)},
		{"an intent is known", "/v1/payment_intents", "amount=100&currency=usd", known("payment_intents", policy.Total, "", 100)},
		{"an intent that confirms at once counts the same", "/v1/payment_intents", "amount=100&currency=usd&confirm=TRUE", known("payment_intents", policy.Total, "", 100)},
		{"a new amount waits for whether the intent sends it on", "/v1/payment_intents/pi_1", "amount=300&currency=usd", named("payment_intents", policy.Total, "pi_1", 300)},
		{"a new amount waits for the currency", "/v1/payment_intents/pi_1", "amount=300", named("payment_intents", policy.Total, "pi_1", 300)},
		{"describing an intent moves nothing", "/v1/payment_intents/pi_1", "description=x", nil},
		{"confirming waits for the amount", "/v1/payment_intents/pi_1/confirm", "", open("payment_intents", policy.Total, "pi_1")},
		{"capturing is a part", "/v1/payment_intents/pi_1/capture", "amount_to_capture=50", named("payment_intents", policy.Part, "pi_1", 50)},
		{"incrementing waits for the currency", "/v1/payment_intents/pi_1/increment_authorization", "amount=500", named("payment_intents", policy.Total, "pi_1", 500)},
		{"cancelling an intent moves nothing", "/v1/payment_intents/pi_1/cancel", "", nil},
		{"a payout is known", "/v1/payouts", "amount=100&currency=usd", known("payouts", policy.Gross, "", 100)},
		{"cancelling a payout moves nothing", "/v1/payouts/po_1/cancel", "", nil},
		{"reversing a payout waits for the amount", "/v1/payouts/po_1/reverse", "", open("payouts", policy.Gross, "")},
		{"a draft invoice moves nothing", "/v1/invoices", "customer=cus_1", nil},
		{"a draft invoice that says so moves nothing", "/v1/invoices", "customer=cus_1&auto_advance=False", nil},
		{"finalizing waits for the amount", "/v1/invoices/in_1/finalize", "", open("invoices", policy.Total, "in_1")},
		{"paying waits for the amount", "/v1/invoices/in_1/pay", "", open("invoices", policy.Total, "in_1")},
		{"arming a draft waits for the amount", "/v1/invoices/in_1", "auto_advance=true", open("invoices", policy.Total, "in_1")},
		{"describing an invoice moves nothing", "/v1/invoices/in_1", "description=x", nil},
		{"voiding counts what is taken away", "/v1/invoices/in_1/void", "", open("invoices", policy.Gross, "")},
		{"a preview moves nothing", "/v1/invoices/create_preview", "customer=cus_1", nil},
		{"a customer moves nothing", "/v1/customers", "email=a@b.c", nil},
		{"a price moves nothing", "/v1/prices", "currency=usd&product=prod_1&unit_amount=5", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := mustParse(t, a, post(c.path, c.body))
			if diff := cmp.Diff(c.want, call.Operation.Effects); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			if n := len(call.Vendor.(*Request).Effects); n != len(c.want) {
				t.Errorf("%d rules for %d effects", n, len(c.want))
			}
		})
	}
}

func TestWhatHasNoBoundIsUnmeterableAndSaysWhy(t *testing.T) {
	a := newAdapter(t)
	for _, c := range []struct{ name, path, body, says string }{
		{"an intent with amount details", "/v1/payment_intents", "amount=1&currency=usd&amount_details[shipping][amount]=5", "amount_details"},
		{"an overcapture", "/v1/payment_intents", "amount=1&currency=usd&payment_method_options[card][request_overcapture]=if_available", "request_overcapture"},
		{"a refund that aims elsewhere", "/v1/charges/ch_1/refund", "payment_intent=pi_1", "payment_intent"},
		{"an invoice that collects by itself", "/v1/invoices", "customer=cus_1&auto_advance=true&pending_invoice_items_behavior=include", "auto_advance=true"},
		{"an invoice that finalizes by itself", "/v1/invoices", "customer=cus_1&automatically_finalizes_at=1900000000", "automatically_finalizes_at"},
		{"a payout destination", "/v1/accounts/acct_1/external_accounts", "external_account=btok_1", "accounts.external_accounts.create"},
		{"usage", "/v1/billing/meter_events", "event_name=e&payload[value]=1", "billing.meter_events.create"},
		{"a tip at a reader", "/v1/terminal/readers/tmr_1/process_payment_intent", "payment_intent=pi_1", "tip"},
		{"taxes that come later", "/v1/invoices", "customer=cus_1&automatic_tax[enabled]=true", "automatic_tax"},
		{"a discount taken away", "/v1/invoices/in_1", "discounts=", "discounts"},
		{"a refund on a terminal", "/v1/terminal/refunds", "", "refunds.create_on_terminal"},
		{"an ephemeral key", "/v1/ephemeral_keys", "customer=cus_1", "hands out"},
		{"a webhook", "/v1/webhook_endpoints", "url=https://a.example&enabled_events[]=charge.succeeded", "sends data elsewhere"},
		{"a report", "/v1/reporting/report_runs", "report_type=balance.summary.1", "many objects"},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := mustParse(t, a, post(c.path, c.body))
			effects := call.Operation.Effects
			if len(effects) == 0 {
				t.Fatal("no effect at all")
			}
			e := effects[len(effects)-1]
			if !e.Unmeterable || e.Known || !strings.Contains(e.Why, c.says) || !strings.Contains(e.Why, "unmetered: ["+string(call.Operation.Name)+"]") {
				t.Errorf("%+v does not say %q", e, c.says)
			}
			if len(call.Vendor.(*Request).Effects) != len(effects) {
				t.Error("rules and effects are not parallel")
			}
		})
	}
}

func TestUnmeteredRowsPassWhereNothingApplies(t *testing.T) {
	a := newAdapter(t)
	for _, raw := range []*upstream.RawCall{
		post("/v1/accounts/acct_1", "metadata[a]=b"),
		post("/v1/payment_links/plink_1", "active=false"),
		post("/v1/balance_settings", "expand[]=payments"),
	} {
		call, refusal := a.Parse(raw, "")
		if refusal != nil && refusal.Param != "expand" {
			t.Errorf("%s: %s", raw.Path, refusal.Message)
		}
		if refusal == nil && len(call.Operation.Effects) > 0 {
			t.Errorf("%s: %+v", raw.Path, call.Operation.Effects)
		}
	}
}

func TestPreviewOperationsAreRefused(t *testing.T) {
	call := mustParse(t, newAdapter(t), post("/v1/payment_intents/pi_1/decrement_authorization", ""))
	if r := call.Operation.Refused; r == nil || !strings.Contains(r.Message, "preview") {
		t.Errorf("%+v", r)
	}
}

func TestWhoseObjectsACallTouches(t *testing.T) {
	a := newAdapter(t)
	tie := func(kind policy.CustomerKind, add string, ids ...policy.CustomerID) policy.CustomerTie {
		return policy.CustomerTie{Kind: kind, Add: add, Customers: ids}
	}
	guest := tie(policy.TieKnown, "customer")
	guest.Guest = true
	for _, c := range []struct {
		name string
		raw  *upstream.RawCall
		want policy.CustomerTie
	}{
		{"the path names it", formCall("GET", "/v1/customers/cus_1", "", ""), tie(policy.TieKnown, "", "cus_1")},
		{"a parameter names it", post("/v1/payment_intents", "amount=1&currency=usd&customer=cus_1"), tie(policy.TieKnown, "customer", "cus_1")},
		{"a second identity names another", post("/v1/payment_intents", "amount=1&currency=usd&customer=cus_1&customer_account=acct_2"), tie(policy.TieKnown, "customer", "cus_1", "acct_2")},
		{"a payment method must be looked up", post("/v1/payment_intents", "amount=1&currency=usd&customer=cus_1&payment_method=pm_1"), tie(policy.TieLookup, "customer", "cus_1")},
		{"nobody is a guest", post("/v1/payment_intents", "amount=1&currency=usd"), guest},
		{"an empty customer is a guest", post("/v1/payment_intents", "amount=1&currency=usd&customer="), guest},
		{"an object must be looked up", formCall("GET", "/v1/charges/ch_1", "", ""), tie(policy.TieLookup, "")},
		{"a refund must be looked up", post("/v1/refunds", "charge=ch_1"), tie(policy.TieLookup, "")},
		{"moving an intent to another customer names that one too", post("/v1/payment_intents/pi_1", "customer=cus_2"), tie(policy.TieLookup, "", "cus_2")},
		{"a list with its filter", formCall("GET", "/v1/charges", "customer=cus_1&limit=3", ""), tie(policy.TieKnown, "customer", "cus_1")},
		{"a list without a filter", formCall("GET", "/v1/charges", "limit=3", ""), tie(policy.TieFilter, "customer")},
		{"a list with an empty filter", formCall("GET", "/v1/charges", "customer=", ""), tie(policy.TieFilter, "customer")},
		{"a list by another object", formCall("GET", "/v1/charges", "payment_intent=pi_1", ""), tie(policy.TieLookup, "customer")},
		{"refunds by charge", formCall("GET", "/v1/refunds", "charge=ch_1", ""), tie(policy.TieLookup, "charge")},
		{"a list that has no filter", formCall("GET", "/v1/balance_transactions", "", ""), tie(policy.TieUnfilterable, "")},
		{"events", formCall("GET", "/v1/events", "", ""), tie(policy.TieUnfilterable, "")},
		{"nobody's objects", formCall("GET", "/v1/prices", "", ""), tie(policy.TieNone, "")},
		{"a new customer", post("/v1/customers", "email=a@b.c"), tie(policy.TieNone, "")},
		{"a new customer with a payment method", post("/v1/customers", "payment_method=pm_1"), tie(policy.TieLookup, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := mustParse(t, a, c.raw)
			if diff := cmp.Diff(c.want, call.Operation.Customer); diff != "" {
				t.Errorf("tie (-want +got):\n%s", diff)
			}
		})
	}
	if !mustParse(t, a, post("/v1/customers", "")).Operation.CreatesCustomer {
		t.Error("customers.create does not say that it makes one")
	}
}

func TestASearchIsTiedByOneCustomerJoinedByAND(t *testing.T) {
	for query, want := range map[string]string{
		`customer:"cus_1"`:                                             "cus_1",
		`customer:'cus_1'`:                                             "cus_1",
		`customer:"cus_1" AND amount>100`:                              "cus_1",
		`status:"succeeded" AND customer:"cus_1"`:                      "cus_1",
		`customer:"cus_1" AND metadata["a b"]:"x OR y"`:                "cus_1",
		`customer:"cus_1" AND -customer:"cus_2"`:                       "cus_1",
		`-customer:"cus_1"`:                                            "",
		`customer:"cus_1" OR amount>100`:                               "",
		`customer:"cus_1" or amount>100`:                               "",
		`amount>100`:                                                   "",
		`customer:"cus_1" AND customer:"cus_2"`:                        "",
		`customer:"cus_1" amount>100`:                                  "",
		`customer~"cus_1"`:                                             "",
		`customer:cus_1`:                                               "",
		`customer:null`:                                                "",
		`(customer:"cus_1")`:                                           "",
		`customer:"cus_1`:                                              "",
		`customer:"cus_1"OR amount>1`:                                  "",
		`status:"a"OR customer:"cus_1"`:                                "",
		`customer:"cus_1" AND status:"a"OR`:                            "",
		`customer:"cus_1\" OR amount>1"`:                               "",
		`metadata["x"]:"y" AND metadata["customer:\"cus_1\""]:"cus_1"`: "",
		`Customer:"cus_1"`:                                             "",
		`customer:"cus_1" AND`:                                         "",
		``:                                                             "",
	} {
		if got, _ := searchCustomer(query); got != want {
			t.Errorf("%s is tied to %q, want %q", query, got, want)
		}
	}
}

func TestExpandAsksForTheScopesThatItOpens(t *testing.T) {
	a := newAdapter(t)
	for _, c := range []struct {
		raw  *upstream.RawCall
		want []policy.Resource
	}{
		{formCall("GET", "/v1/charges/ch_1", "expand[]=customer", ""), []policy.Resource{"customers"}},
		{formCall("GET", "/v1/charges", "expand[]=data.customer&expand[]=data.balance_transaction", ""), []policy.Resource{"customers", "balance_transactions"}},
		{formCall("GET", "/v1/charges/ch_1", "expand[]=refunds", ""), []policy.Resource{"refunds"}},
		{formCall("GET", "/v1/charges/ch_1", "expand[]=refunds.data.payment_intent", ""), []policy.Resource{"refunds", "payment_intents"}},
		{formCall("GET", "/v1/payment_intents/pi_1", "expand[0]=latest_charge.balance_transaction", ""), []policy.Resource{"charges", "balance_transactions"}},
		{formCall("GET", "/v1/charges/ch_1", "expand[]=billing_details", ""), nil},
		{formCall("GET", "/v1/invoices/in_1", "expand[]=lines", ""), nil},
		{post("/v1/refunds", "charge=ch_1&expand[]=charge"), []policy.Resource{"charges"}},
		{formCall("GET", "/v1/customers/cus_1/sources/ba_1", "expand[]=customer", ""), []policy.Resource{"customers"}},
		{formCall("DELETE", "/v1/customers/cus_1/sources/ba_1", "expand[]=customer.default_source", ""), []policy.Resource{"customers", "sources"}},
		{post("/v1/accounts/acct_1/external_accounts", "external_account=btok_1&expand[]=account"), []policy.Resource{"accounts"}},
	} {
		call := mustParse(t, a, c.raw)
		var got []policy.Resource
		for _, n := range call.Operation.Needs {
			if n.Access != policy.Read || !strings.HasPrefix(n.Because, "expand[]=") {
				t.Errorf("%+v", n)
			}
			got = append(got, n.Resource)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s?%s%s (-want +got):\n%s", c.raw.Path, c.raw.Query, c.raw.Body, diff)
		}
	}
}
