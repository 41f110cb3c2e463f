package sandbox

// billingShelves is what an account keeps of Stripe's billing.
type billingShelves struct {
	clocks        collection[*testClock]
	meters        collection[*meter]
	coupons       collection[*coupon]
	promotions    collection[*promotionCode]
	discounts     collection[*discount]
	taxRates      collection[*taxRate]
	taxIDs        collection[*taxID]
	shippingRates collection[*shippingRate]
	payments      collection[*invoicePayment]
	subscriptions collection[*subscription]
	subItems      collection[*subItem]
	schedules     collection[*schedule]
	grants        collection[*creditGrant]
	grantMoves    collection[*grantTransaction]
	sessions      collection[*session]
	paymentLinks  collection[*paymentLink]
	setups        collection[*setupIntent]
	attempts      collection[*setupAttempt]
	quotes        collection[*quote]
	creditNotes   collection[*creditNote]
}

func (a *account) openBilling(limit int) {
	open(a, &a.clocks, "test_helpers.test_clock", "test_helpers.test_clocks", limit)
	open(a, &a.meters, "billing.meter", "billing.meters", limit)
	open(a, &a.coupons, "coupon", "coupons", limit)
	open(a, &a.promotions, "promotion_code", "promotion_codes", limit)
	open(a, &a.discounts, "discount", "", limit) // what it belongs to says who may read it
	open(a, &a.taxRates, "tax_rate", "tax_rates", limit)
	open(a, &a.taxIDs, "tax_id", "tax_ids", limit)
	open(a, &a.shippingRates, "shipping_rate", "shipping_rates", limit)
	open(a, &a.payments, "invoice_payment", "invoice_payments", limit)
	open(a, &a.subscriptions, "subscription", "subscriptions", limit)
	open(a, &a.creditNotes, "credit_note", "credit_notes", limit)
	open(a, &a.quotes, "quote", "quotes", limit)
	open(a, &a.setups, "setup_intent", "setup_intents", limit)
	open(a, &a.attempts, "setup_attempt", "setup_attempts", limit)
	open(a, &a.sessions, "checkout.session", "checkout.sessions", limit)
	open(a, &a.paymentLinks, "payment_link", "payment_links", limit)
	open(a, &a.grants, "billing.credit_grant", "billing.credit_grants", limit)
	open(a, &a.grantMoves, "billing.credit_balance_transaction", "billing.credit_balance_transactions", limit)
	open(a, &a.schedules, "subscription_schedule", "subscription_schedules", limit)
	open(a, &a.subItems, "subscription_item", "subscription_items", limit)
}
