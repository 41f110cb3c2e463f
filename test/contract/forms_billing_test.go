package contract

// monthly is an item of a subscription at $10 a month, as a parameter.
const monthly = "items[0][price_data][currency]=usd&items[0][price_data][unit_amount]=1000&items[0][price_data][product]={/v1/products}" +
	"&items[0][price_data][recurring][interval]=month"

const (
	subscription = "customer={customer}&" + monthly
	schedule     = "customer={customer}&start_date=now&phases[0][items][0][price_data][currency]=usd&phases[0][items][0][price_data][unit_amount]=1000" +
		"&phases[0][items][0][price_data][product]={/v1/products}&phases[0][items][0][price_data][recurring][interval]=month"
	quote = "customer={customer}&line_items[0][price]={/v1/prices}"
	used  = "event_name=calls&identifier=use1&payload[stripe_customer_id]={customer}&payload[value]=1"
)

var (
	subscribed = []step{{"POST", "/v1/subscriptions", subscription}}
	discounted = []step{{"POST", "/v1/customers/{customer}/subscriptions", monthly + "&discounts[0][coupon]={/v1/coupons}"}}
	scheduled  = []step{{"POST", "/v1/subscription_schedules", schedule}}
)

// billingMade are the steps behind the names in braces.
var billingMade = map[string][]step{"open invoice": open}

var billingValues = map[string]string{"coupon": "{/v1/coupons}", "subscription": "{/v1/subscriptions}"}

var billingForms = map[string]string{
	"GET /v1/billing/credit_balance_summary":               "customer={customer}&filter[type]=applicability_scope&filter[applicability_scope][price_type]=metered",
	"POST /v1/billing/credit_grants":                       "customer={customer}&amount[type]=monetary&amount[monetary][value]=100&amount[monetary][currency]=usd&applicability_config[scope][price_type]=metered",
	"POST /v1/checkout/sessions":                           "mode=payment&success_url=https://example.com/ok&line_items[0][price]={/v1/prices}&line_items[0][quantity]=1",
	"POST /v1/payment_links":                               "line_items[0][price]={/v1/prices}&line_items[0][quantity]=1",
	"GET /v1/setup_attempts":                               "setup_intent={/v1/setup_intents}",
	"POST /v1/setup_intents/{intent}/verify_microdeposits": "amounts[0]=32&amounts[1]=45",
	"POST /v1/quotes":                                      quote,
	"GET /v1/credit_notes/preview":                         "invoice={open invoice}&amount=100",
	"GET /v1/credit_notes/preview/lines":                   "invoice={open invoice}&amount=100",
	"POST /v1/credit_notes":                                "invoice={open invoice}&amount=100",
	"POST /v1/billing/meter_event_adjustments":             "event_name=calls&type=cancel&cancel[identifier]=use1",
	"POST /v1/billing/meter_events":                        used,
	"POST /v1/billing/meters":                              "display_name=Calls&event_name=calls&default_aggregation[formula]=sum",
	"POST /v1/coupons":                                     "percent_off=10",
	"POST /v1/customers/{customer}/subscriptions":          monthly + "&payment_behavior=default_incomplete",
	"POST /v1/invoices/create_preview":                     "customer={customer}&invoice_items[0][amount]=1000",
	"POST /v1/invoices/{invoice}/add_lines":                "lines[0][amount]=1000",
	"POST /v1/promotion_codes":                             "promotion[type]=coupon&promotion[coupon]={/v1/coupons}",
	"POST /v1/shipping_rates":                              "display_name=Post&type=fixed_amount&fixed_amount[amount]=500&fixed_amount[currency]=usd",
	"POST /v1/subscription_items":                          "subscription={/v1/subscriptions}&price_data[currency]=usd&price_data[unit_amount]=1000&price_data[product]={/v1/products}&price_data[recurring][interval]=month",
	"POST /v1/subscription_schedules":                      schedule,
	"POST /v1/subscriptions":                               subscription,
}

var billingFresh = map[string][]step{
	"POST /v1/setup_intents/{intent}/confirm": {{"POST", "/v1/setup_intents", "payment_method=pm_card_visa"}},
	"POST /v1/setup_intents/{intent}/verify_microdeposits": {{"POST", "/v1/setup_intents", "confirm=true&payment_method_types[0]=us_bank_account" +
		"&payment_method_data[type]=us_bank_account&payment_method_data[us_bank_account][account_number]=000123456789" +
		"&payment_method_data[us_bank_account][routing_number]=110000000&payment_method_data[us_bank_account][account_holder_type]=individual"}},
	"POST /v1/quotes/{quote}/accept":                                                   {{"POST", "/v1/quotes", quote}, {"POST", "/v1/quotes/{}/finalize", ""}},
	"DELETE /v1/customers/{customer}/subscriptions/{subscription_exposed_id}":          discounted,
	"DELETE /v1/customers/{customer}/subscriptions/{subscription_exposed_id}/discount": discounted,
	"DELETE /v1/subscription_items/{item}": {
		{"POST", "/v1/subscriptions", subscription + "&items[1][price_data][currency]=usd&items[1][price_data][unit_amount]=1" +
			"&items[1][price_data][product]={/v1/products}&items[1][price_data][recurring][interval]=month"},
		{"GET", "/v1/subscription_items?subscription={}", ""},
	},
	"DELETE /v1/subscriptions/{subscription_exposed_id}/discount":                   discounted,
	"GET /v1/customers/{customer}/subscriptions/{subscription_exposed_id}/discount": discounted,
	"GET /v1/invoice_payments/{invoice_payment}":                                    {{"POST", "/v1/subscriptions", subscription}, {"GET", "/v1/invoice_payments", ""}},
	"POST /v1/subscription_schedules/{schedule}/cancel":                             scheduled,
	"POST /v1/subscription_schedules/{schedule}/release":                            scheduled,
	"POST /v1/subscriptions/{id}/pause":                                             subscribed,
	"POST /v1/subscriptions/{subscription}/migrate":                                 subscribed,
	"POST /v1/subscriptions/{subscription}/resume":                                  {{"POST", "/v1/subscriptions", subscription}, {"POST", "/v1/subscriptions/{}/pause", ""}},
}

var billingRefusals = map[string]string{
	"POST /v1/invoices/{invoice}/attach_payment":       "the payment would have to be of the invoice's customer",
	"DELETE /v1/customers/{customer}/discount":         "only Stripe's dashboard gives a customer a discount",
	"GET /v1/customers/{customer}/discount":            "only Stripe's dashboard gives a customer a discount",
	"POST /v1/invoices/{invoice}/lines/{line_item_id}": "the line would have to be on the invoice of the path",
	"POST /v1/invoices/{invoice}/remove_lines":         "the line would have to be on the invoice of the path",
	"POST /v1/invoices/{invoice}/update_lines":         "the line would have to be on the invoice of the path",
}
