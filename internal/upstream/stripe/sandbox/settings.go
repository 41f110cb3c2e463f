package sandbox

import (
	"maps"
	"slices"
	"time"
)

// defaultSettings are how an account is paid out until it says otherwise: by hand.
const defaultSettings = `{"object":"balance_settings","payments":{"debit_negative_balances":true,"payouts":{` +
	`"automatic_transfer_rules_by_currency":null,"minimum_balance_by_currency":null,"schedule":{"interval":"manual"},` +
	`"statement_descriptor":null,"status":"enabled"},"settlement_timing":{"delay_days":2,"start_of_day":null}}}`

var settingRoutes = []*operation{
	get("/v1/balance_settings", "balance_settings", kindNone, func(c *call) (view, *stripeError) { return fieldsView(c.s.balanceSettings()), nil }),
	post("/v1/balance_settings", "balance_settings", kindNone, func(c *call) (view, *stripeError) {
		asked, _ := c.op.params.members["payments"].value(c.p.get("payments")).(map[string]any)
		if asked == nil {
			return fieldsView(c.s.balanceSettings()), nil
		}
		if payouts, ok := asked["payouts"].(map[string]any); ok {
			least := c.sub("payments", "payouts", "minimum_balance_by_currency")
			amounts := map[string]any{}
			for i, currency := range mapKeys(least) {
				amounts[currency], _ = parseInt(least.vals[i])
			}
			if least != nil {
				payouts["minimum_balance_by_currency"] = amounts
			}
		}
		c.s.settings, _ = merged(c.s.balanceSettings(), map[string]any{"payments": asked}).(map[string]any)
		c.s.rounds++
		c.payOutNext(c.s.rounds)
		c.emit("balance_settings.updated", fieldsView(c.s.settings))
		return fieldsView(c.s.settings), nil
	}),
}

func (a *account) balanceSettings() map[string]any {
	if a.settings == nil {
		a.settings = parseJSON(defaultSettings)
	}
	return a.settings
}

// payouts are the settings of payouts.
func (a *account) payoutSettings() map[string]any {
	payments, _ := a.balanceSettings()["payments"].(map[string]any)
	payouts, _ := payments["payouts"].(map[string]any)
	return payouts
}

// payOutNext puts the next automatic payout on the agenda, if there is to be one.
// A round is a schedule: what an older one left on the agenda does nothing.
func (c *call) payOutNext(round int) {
	schedule, _ := c.s.payoutSettings()["schedule"].(map[string]any)
	day := time.Unix(c.now, 0).UTC().Truncate(24 * time.Hour)
	var next time.Time
	switch schedule["interval"] {
	case "daily":
		next = day.AddDate(0, 0, 1)
	case "weekly":
		next = day.AddDate(0, 0, 7)
	case "monthly":
		next = day.AddDate(0, 1, 0)
	default:
		return
	}
	a := c.s
	a.agenda.add(next.Unix(), func(c *call) {
		if a.rounds == round {
			c.payOutAll()
			c.payOutNext(round)
		}
	})
}

// payOutAll pays out what is above the minimum of each currency.
func (c *call) payOutAll() {
	least, _ := c.s.payoutSettings()["minimum_balance_by_currency"].(map[string]any)
	for _, currency := range slices.Sorted(maps.Keys(c.s.ledgers)) {
		amount := c.s.ledgers[currency] - asInt(least[currency])
		if amount <= 0 {
			continue
		}
		o := &payout{amount: amount, currency: currency, method: "standard", status: "pending", automatic: true,
			destination: "ba_" + c.s.accountID[len("acct_"):]}
		if c.s != c.s.platform {
			target := c.s.payoutTarget(currency)
			if target == nil {
				continue
			}
			o.destination = target.id
		}
		o.head = c.s.head("po", c)
		c.sendPayout(o)
	}
}
