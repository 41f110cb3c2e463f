package stripe

import (
	"math/big"
	"slices"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// recurringPeriod is one renewal of a subscription as the call leaves it: its items as they are now, with what
// the call adds and changes.
func (r *resolver) recurringPeriod(int) (bound, *policy.Refusal, error) {
	t := &tally{}
	items := r.req.Params.Get(Field{"items"})
	s := sale{recurring: true, currency: r.callCurrency(), taxes: r.req.Params.Get(Field{"default_tax_rates"})}
	margin := automaticTax(r.root())
	if _, exists := r.req.Value("subscription_exposed_id"); exists || r.req.Row.Name == "subscriptions.resume" {
		kept, refusal, err := r.keptItems()
		if refusal != nil || err != nil {
			return bound{}, refusal, err
		}
		margin = margin || kept.AutomaticTax.Enabled
		if refusal, err := kept.count(r, t, items, s); refusal != nil || err != nil {
			return bound{}, refusal, err
		}
	} else if refusal, err := r.sold(t, items, s); refusal != nil || err != nil {
		return bound{}, refusal, err
	}
	if margin {
		t.times(taxMargin)
	}
	if t.currency == "" {
		t.fail("it names no price that renews")
	}
	return t.bound(), nil, nil
}

// subscription is what a renewal depends on.
type subscription struct {
	AutomaticTax struct {
		Enabled bool `json:"enabled"`
	} `json:"automatic_tax"`
	TaxRates []taxRate `json:"default_tax_rates"`
	Items    struct {
		Data    []subscriptionItem `json:"data"`
		HasMore bool               `json:"has_more"`
	} `json:"items"`
}

type subscriptionItem struct {
	ID       string    `json:"id"`
	Price    *price    `json:"price"`
	Quantity *int64    `json:"quantity"`
	TaxRates []taxRate `json:"tax_rates"`
}

type taxRate struct {
	Inclusive bool `json:"inclusive"`
}

func (r *resolver) keptItems() (*subscription, *policy.Refusal, error) {
	template := "/v1/subscriptions/{subscription_exposed_id}"
	if r.req.Row.Name == "subscriptions.resume" {
		template = "/v1/subscriptions/{subscription}"
	}
	sub := &subscription{}
	found, refusal, err := r.decode(template, "", r.req.Value, sub)
	if !found {
		return nil, refusal, err
	}
	return sub, nil, nil
}

// count adds the items of a subscription as a call changes them. An item that the call deletes still counts:
// too much, and never too little.
func (sub *subscription) count(r *resolver, t *tally, changes *Node, s sale) (*policy.Refusal, error) {
	if sub.Items.HasMore {
		t.fail("the subscription has more items than one answer shows")
		return nil, nil
	}
	if len(sub.TaxRates) > 0 || slices.ContainsFunc(sub.Items.Data, func(i subscriptionItem) bool { return len(i.TaxRates) > 0 }) {
		defer t.times(taxMargin) // rates that stand on it already: the margin is more than any of them
	}
	changed := map[string]*Node{}
	for _, m := range orEmpty(changes).Members {
		id := orEmpty(m.Value.child("id")).Text
		if id == "" {
			if refusal, err := r.soldLine(t, m.Value, s); refusal != nil || err != nil {
				return refusal, err
			}
			continue
		}
		changed[id] = m.Value
	}
	for i := range sub.Items.Data {
		item := &sub.Items.Data[i]
		change := changed[item.ID]
		delete(changed, item.ID)
		if refusal, err := item.count(r, t, orEmpty(change), s.currency); refusal != nil || err != nil {
			return refusal, err
		}
	}
	if len(changed) > 0 {
		t.fail("it changes an item that the subscription does not have")
	}
	return nil, nil
}

// count adds one item with what a call changes about it.
func (item *subscriptionItem) count(r *resolver, t *tally, change *Node, in money.Currency) (*policy.Refusal, error) {
	p, refusal, err := r.priceOf(change)
	if refusal != nil || err != nil {
		return refusal, err
	}
	if p == nil && item.Price != nil && item.Price.ID != "" {
		// The price inside the item comes without its tiers.
		named := &Node{Kind: Hash, Members: []Member{{Key: "price", Value: &Node{Text: item.Price.ID}}}}
		if p = item.Price; p.Scheme == "tiered" {
			if p, refusal, err = r.priceOf(named); refusal != nil || err != nil {
				return refusal, err
			}
		}
	}
	quantity := big.NewRat(1, 1)
	if item.Quantity != nil {
		quantity.SetInt64(*item.Quantity)
	}
	if change.child("quantity") != nil {
		q, ok := quantityOf(change)
		if !ok {
			return malformed("quantity", "A quantity must be a plain number."), nil
		}
		quantity = q
	}
	switch {
	case p == nil:
		t.fail("an item has no price")
		return nil, nil
	case p.metered():
		t.fail("a price is metered, so its quantity is only told by usage")
		return nil, nil
	}
	if in != "" && in != lowerCurrency(p.Currency) && len(p.Currencies) == 0 {
		in = "" // a subscription keeps its currency; what the call names otherwise, Stripe refuses
	}
	amount, currency, why := p.cost(quantity, in)
	if why != "" {
		t.fail(why)
		return nil, nil
	}
	t.add(amount, currency)
	return nil, nil
}

// recurringItem is one renewal of the item that a call adds or changes.
func (r *resolver) recurringItem(int) (bound, *policy.Refusal, error) {
	t := &tally{}
	if _, exists := r.req.Value("item"); exists {
		item := &subscriptionItem{}
		found, refusal, err := r.decode("/v1/subscription_items/{item}", "", r.req.Value, item)
		if !found {
			return bound{}, refusal, err
		}
		refusal, err = item.count(r, t, r.root(), "")
		return t.bound(), refusal, err
	}
	refusal, err := r.soldLine(t, r.root(), sale{recurring: true})
	if t.currency == "" {
		t.fail("it names no price that renews")
	}
	return t.bound(), refusal, err
}

// phases is what all phases of a schedule bill together. A phase without an end counts once: what renews after
// it is told in the operation's commitment.
func (r *resolver) phases(int) (bound, *policy.Refusal, error) {
	t := &tally{}
	start := r.req.Params.Get(Field{"start_date"})
	from, known := ParseMinor(orEmpty(start), false)
	for _, m := range orEmpty(r.req.Params.Get(Field{"phases"})).Members {
		phase := m.Value
		if n, ok := ParseMinor(orEmpty(phase.child("start_date")), false); ok {
			from, known = n, true
		}
		if refusal, err := r.phase(t, phase, from, known); refusal != nil || err != nil {
			return bound{}, refusal, err
		}
		from, known = ParseMinor(orEmpty(phase.child("end_date")), false)
	}
	if t.currency == "" {
		t.fail("it names no phases with prices")
	}
	if automaticTax(r.req.Params.Get(Field{"default_settings"})) {
		t.times(taxMargin)
	}
	return t.bound(), nil, nil
}

func (r *resolver) phase(total *tally, phase *Node, from int64, known bool) (*policy.Refusal, error) {
	t := &tally{}
	currency := lowerCurrency(orEmpty(phase.child("currency")).Text)
	items := orEmpty(phase.child("items"))
	for _, m := range items.Members {
		p, refusal, err := r.priceOf(m.Value)
		if refusal != nil || err != nil {
			return refusal, err
		}
		one := &tally{}
		if refusal, err := r.soldLine(one, m.Value, sale{recurring: true, currency: currency, taxes: phase.child("default_tax_rates")}); refusal != nil || err != nil {
			return refusal, err
		}
		if one.currency == "" {
			one.fail("a phase names no price that renews")
		}
		times, why := renewals(phase, p, from, known)
		if one.fail(why); one.why != "" {
			total.fail(one.why)
			return nil, nil
		}
		one.times(times)
		t.add(&one.sum, one.currency)
	}
	if refusal, err := r.sold(t, phase.child("add_invoice_items"), sale{currency: currency}); refusal != nil || err != nil {
		return refusal, err
	}
	if automaticTax(phase) {
		t.times(taxMargin)
	}
	if t.why != "" {
		total.fail(t.why)
		return nil, nil
	}
	total.add(&t.sum, t.currency)
	return nil, nil
}

// shortest are the fewest seconds that an interval lasts.
var shortest = map[string]int64{"day": 86400 - 3600, "week": 7*86400 - 3600, "month": 28*86400 - 3600, "year": 365 * 86400}

// longest are the most seconds that an interval lasts.
var longest = map[string]int64{"day": 86400 + 3600, "week": 7*86400 + 3600, "month": 31*86400 + 3600, "year": 366 * 86400}

// renewals is how often a price is billed in a phase, at most.
func renewals(phase *Node, p *price, from int64, known bool) (times *big.Rat, why string) {
	if p == nil || p.Recurring == nil {
		return nil, "a phase names a price that does not renew"
	}
	period := shortest[p.Recurring.Interval] * max(p.Recurring.Count, 1)
	if period <= 0 {
		return nil, "a price renews at an interval that is not known"
	}
	if n, ok := ParseMinor(orEmpty(phase.child("iterations")), false); ok && n > 0 {
		return big.NewRat(n, 1), ""
	}
	lasts := int64(0)
	if d := phase.child("duration"); d != nil {
		count := int64(1)
		if n, ok := ParseMinor(orEmpty(d.child("interval_count")), false); ok && n > 0 {
			count = n
		}
		unit := longest[orEmpty(d.child("interval")).Text]
		if unit == 0 || count > 10_000 {
			return nil, "a phase lasts for a time that is not known"
		}
		lasts = unit * count
	} else if end, ok := ParseMinor(orEmpty(phase.child("end_date")), false); ok {
		if !known {
			return nil, "a phase ends at a date and starts at one that the call does not tell; give it a duration"
		}
		lasts = max(end-from, 0)
	}
	if lasts == 0 {
		return big.NewRat(1, 1), ""
	}
	return ceil(big.NewRat(lasts, period)), ""
}
