package sandbox

// billingShelves is what an account keeps of Stripe's billing.
type billingShelves struct {
	clocks collection[*testClock]
}

func (a *account) openBilling(limit int) {
	open(a, &a.clocks, "test_helpers.test_clock", "test_helpers.test_clocks", limit)
}
