package gateway_test

import (
	"strings"
	"testing"
)

// TestADenialByAFullCapSaysWhatTheCallAskedFor has a cap that is used up: the call is refused before anything is
// looked up, and what it names itself is in the denial all the same.
func TestADenialByAFullCapSaysWhatTheCallAskedFor(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(moneyPolicy(`resource: "*", per: day, usd: 20.00`))
	charge := w.Seeded.Customers[0].Charges[0]
	w.refund(key, charge, "2000").want(t, 200, "")
	before := w.Sandbox.Arrivals()
	for name, test := range map[string]struct {
		path, form string
		message    string // a part of it
		machine    string // a part of error.keybrake.cap
	}{
		"an amount whose currency its object knows": {
			"/v1/refunds", "charge=" + charge + "&amount=1500",
			"This call asks for 1500 minor units; their currency was not looked up", `"asked_amount": {"amount": 1500, "currency": null}`,
		},
		"an amount with its currency": {
			"/v1/payment_intents", "amount=1500&currency=usd",
			"This call of $15.00 would pass the cap of $20.00", `"asked": "15.00", "asked_amount": {"amount": 1500, "currency": "usd"}`,
		},
		"whatever is left on a charge": {
			"/v1/refunds", "charge=" + charge,
			"How much this call asks for was not looked up", `"asked": null, "asked_amount": null`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.call(key, "POST", test.path, test.form).want(t, 403, "keybrake_cap_exceeded")
			if !strings.Contains(r.message(), test.message) || !strings.Contains(r.message(), "It resets at ") {
				t.Errorf("message: %s", r.message())
			}
			flat := strings.NewReplacer("{ ", "{", " }", "}").Replace(strings.Join(strings.Fields(r.Raw), " "))
			if !strings.Contains(flat, test.machine) {
				t.Errorf("no %s in %s", test.machine, flat)
			}
		})
	}
	if n := w.Sandbox.Arrivals(); n != before {
		t.Errorf("%d look-ups for a cap that has nothing left", n-before)
	}
	// With room for something the amount is looked up, and the denial has it in dollars.
	small, _ := w.key(moneyPolicy(`resource: refunds, per: day, usd: 10.00`))
	r := w.refund(small, charge, "1500").want(t, 403, "keybrake_cap_exceeded")
	if !strings.Contains(r.message(), "This call of $15.00 would pass the cap of $10.00") {
		t.Errorf("after the look-up: %s", r.message())
	}
}
