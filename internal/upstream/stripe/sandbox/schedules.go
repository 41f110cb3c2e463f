package sandbox

import "slices"

// schedule changes a subscription over time, in phases.
type schedule struct {
	head
	customer, subscription, released string
	status                           string
	end                              string // release or cancel
	mode                             string
	phases                           []*phase
	settings                         *node // default_settings
	split                            split // of those
	canceledAt, completedAt          int64
	releasedAt                       int64
}

// phase is a time of a schedule with its items and settings.
type phase struct {
	settings    *node // as they were sent
	items       []*subItem
	start, stop int64
	currency    string
	trialEnd    int64
	behavior    string // proration_behavior when it begins
	md          pairs
	split       split
}

// The statuses of a schedule.
const (
	scheduleWaits     = "not_started"
	scheduleActive    = "active"
	scheduleCompleted = "completed"
	scheduleReleased  = "released"
	scheduleCanceled  = "canceled"
)

func (o *schedule) links() []string { return []string{"customer=" + o.customer} }

func (o *schedule) done() bool { return o.status != scheduleWaits && o.status != scheduleActive }

// current is the phase that a time is in; nil before the first and after the last.
func (o *schedule) current(at int64) *phase {
	for _, ph := range o.phases {
		if ph.start <= at && at < ph.stop {
			return ph
		}
	}
	return nil
}

func (o *schedule) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	e.constant(`"object":"subscription_schedule","application":null`)
	e.raw("billing_mode", `{"flexible":null,"type":"`+o.mode+`"}`)
	e.optInt("canceled_at", o.canceledAt)
	e.optInt("completed_at", o.completedAt)
	e.int("created", o.created)
	if ph := o.currentNow(e.s); ph != nil {
		e.key("current_phase")
		e.open()
		e.int("end_date", ph.stop)
		e.int("start_date", ph.start)
		e.close()
	} else {
		e.null("current_phase")
	}
	e.ref("customer", o.customer, x)
	e.null("customer_account")
	e.key("default_settings")
	e.open()
	e.constant(`"automatic_tax":{"disabled_reason":null,"enabled":false,"liability":null},"billing_cycle_anchor":"automatic","billing_thresholds":null`)
	collection := o.settings.get("collection_method").text()
	if collection == "" {
		collection = "charge_automatically"
	}
	e.str("collection_method", collection)
	e.ref("default_payment_method", o.settings.get("default_payment_method").text(), x.child("default_settings"))
	e.opt("description", o.settings.get("description").text())
	e.key("invoice_settings")
	e.renderInvoiceSettings(o.settings.get("invoice_settings"))
	o.split.render(e, x.child("default_settings"))
	e.close()
	e.str("end_behavior", o.end)
	e.bool("livemode", e.s.live())
	e.metadata(o.md)
	e.key("phases")
	e.b = append(e.b, '[')
	for _, ph := range o.phases {
		ph.render(e, x.child("phases"))
	}
	e.b = append(e.b, ']')
	e.optInt("released_at", o.releasedAt)
	e.opt("released_subscription", o.released)
	e.str("status", o.status)
	e.ref("subscription", o.subscription, x)
	e.renderClock(o.customer, x)
	e.close()
}

// currentNow is the phase that an active schedule is in.
func (o *schedule) currentNow(s *account) *phase {
	if o.status != scheduleActive {
		return nil
	}
	now := s.now().Unix()
	if k := s.clockOf(o.customer); k != nil {
		now = k.frozen
	}
	return o.current(now)
}

func (e *enc) renderInvoiceSettings(n *node) {
	e.open()
	e.constant(`"account_tax_ids":null,"custom_fields":null`)
	days, _ := parseInt(n.get("days_until_due"))
	e.optInt("days_until_due", days)
	e.constant(`"description":null,"footer":null,"issuer":{"type":"self"}`)
	e.close()
}

func (o *phase) render(e *enc, x *expansion) {
	e.open()
	e.constant(`"add_invoice_items":[],"billing_cycle_anchor":null,"billing_thresholds":null`)
	e.opt("collection_method", o.settings.get("collection_method").text())
	e.str("currency", o.currency)
	e.ref("default_payment_method", o.settings.get("default_payment_method").text(), x)
	e.constant(`"default_tax_rates":[]`)
	e.opt("description", o.settings.get("description").text())
	e.renderStackable(part{n: o.settings})
	e.int("end_date", o.stop)
	if days := o.settings.get("invoice_settings"); days.blank() {
		e.null("invoice_settings")
	} else {
		e.key("invoice_settings")
		e.renderInvoiceSettings(days)
	}
	e.key("items")
	e.b = append(e.b, '[')
	for _, it := range o.items {
		e.open()
		e.constant(`"billing_thresholds":null,"discounts":[]`)
		e.metadata(it.md)
		e.ref("price", it.price.id, x.child("items"))
		if !it.metered() {
			e.int("quantity", it.quantity)
		}
		e.renderRates("tax_rates", it.rates)
		e.close()
	}
	e.b = append(e.b, ']')
	e.metadata(o.md)
	o.split.render(e, x)
	e.str("proration_behavior", o.behavior)
	e.int("start_date", o.start)
	e.optInt("trial_end", o.trialEnd)
	e.close()
}

// renderStackable writes discounts that are not redeemed yet.
func (e *enc) renderStackable(p part) {
	e.key("discounts")
	e.b = append(e.b, '[')
	for _, d := range p.list("discounts") {
		e.open()
		for _, k := range []string{"coupon", "discount", "promotion_code"} {
			e.opt(k, d.str(k))
		}
		e.close()
	}
	e.b = append(e.b, ']')
}

var scheduleRoutes = []*operation{
	get("/v1/subscription_schedules", "subscription_schedules", "list:subscription_schedule", listSchedules),
	post("/v1/subscription_schedules", "subscription_schedules", "subscription_schedule", createSchedule),
	get("/v1/subscription_schedules/{schedule}", "subscription_schedules", "subscription_schedule", func(c *call) (view, *stripeError) {
		return asView(c.s.schedules.get(c.args[0], "id"))
	}),
	post("/v1/subscription_schedules/{schedule}", "subscription_schedules", "subscription_schedule", updateSchedule),
	post("/v1/subscription_schedules/{schedule}/cancel", "subscription_schedules", "subscription_schedule", cancelSchedule),
	post("/v1/subscription_schedules/{schedule}/release", "subscription_schedules", "subscription_schedule", func(c *call) (view, *stripeError) {
		o, f := c.liveSchedule()
		if f != nil {
			return nil, f
		}
		c.release(o)
		return o, nil
	}),
}

func listSchedules(c *call) (view, *stripeError) {
	link := ""
	if id := c.str("customer"); id != "" {
		link = "customer=" + id
	}
	var within [3]func(int64) bool
	for i, name := range []string{"canceled_at", "completed_at", "released_at"} {
		filter := rangeFilter(c.p.get(name))
		within[i] = func(at int64) bool { return !c.set(name) || at != 0 && filter(at) }
	}
	return c.s.schedules.page(c, link, func(o *schedule) bool {
		return (!c.bool("scheduled") || o.status == scheduleWaits) && within[0](o.canceledAt) && within[1](o.completedAt) && within[2](o.releasedAt)
	})
}

func (c *call) liveSchedule() (*schedule, *stripeError) {
	o, f := c.s.schedules.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	c.on(o.customer)
	if o.done() {
		return nil, errInvalid("", "", "This subscription schedule is "+o.status+" and cannot be changed.")
	}
	return o, nil
}

func createSchedule(c *call) (view, *stripeError) {
	if c.set("from_subscription") {
		return c.scheduleOf(c.str("from_subscription"))
	}
	if !c.set("customer") {
		return nil, errMissingParam("customer")
	}
	owner, f := c.s.customers.get(c.str("customer"), "customer")
	if f != nil {
		return nil, f
	}
	c.on(owner.id)
	p := c.whole()
	o := &schedule{head: c.s.head("sub_sched", c), customer: owner.id, status: scheduleWaits, end: p.or("end_behavior", "release"),
		mode: p.sub("billing_mode").or("type", "flexible"), settings: c.p.get("default_settings")}
	o.md = p.metadata(nil)
	start := c.now
	if p.has("start_date") && p.str("start_date") != "now" {
		start = p.int("start_date")
	}
	o.split = c.readSplit(split{}, p.sub("default_settings"))
	o.phases = c.readPhases(o, p, start)
	if len(o.phases) == 0 {
		p.keep(errMissingParam("phases"))
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	if start <= c.now {
		if f := c.begin(o); f != nil {
			return nil, f
		}
	}
	c.s.schedules.insert(o)
	if start > c.now {
		c.awaitStart(o, start)
	}
	c.emit("subscription_schedule.created", o)
	return o, nil
}

// awaitStart has the clock begin a schedule.
func (c *call) awaitStart(o *schedule, start int64) {
	c.later(o.customer, start, func(c *call) {
		if o.status == scheduleWaits {
			_ = c.begin(o) // a card that declines leaves the subscription incomplete
		}
	})
}

// readPhases reads the phases of a schedule that starts at a time; each ends where the next begins.
func (c *call) readPhases(o *schedule, p part, start int64) []*phase {
	var out []*phase
	for _, n := range p.list("phases") {
		if n.has("start_date") && n.str("start_date") != "now" && len(out) == 0 {
			start = n.int("start_date")
		}
		ph := &phase{settings: n.n, start: start, behavior: n.or("proration_behavior", "create_prorations"), md: n.metadata(nil), split: c.readSplit(split{}, n)}
		scratch := &subscription{customer: o.customer, currency: n.str("currency")}
		for _, it := range n.list("items") {
			ph.items = append(ph.items, c.newSubItem(scratch, it))
		}
		if n.fault() != nil {
			return out
		}
		if len(ph.items) == 0 {
			n.keep(errMissingParam(n.nameOf("items")))
			return out
		}
		ph.currency = scratch.currency
		switch period := ph.items[0].price.period; {
		case n.str("end_date") == "now":
			ph.stop = c.now
		case n.has("end_date"):
			ph.stop = n.int("end_date")
		case n.has("duration"):
			ph.stop = n.sub("duration").cadence().boundary(start, 1)
		default:
			ph.stop = period.boundary(start, 1)
		}
		if ph.stop <= start {
			n.refuse("end_date", "", "The end date of a phase must be after its start date.")
		}
		if ph.trialEnd = n.int("trial_end"); n.bool("trial") {
			ph.trialEnd = ph.stop
		}
		out = append(out, ph)
		start = ph.stop
	}
	return out
}

// scheduleOf puts a schedule on a subscription as it is.
func (c *call) scheduleOf(id string) (view, *stripeError) {
	sub, f := c.s.subscriptions.get(id, "from_subscription")
	if f != nil {
		return nil, f
	}
	c.on(sub.customer)
	if sub.schedule != "" || sub.ended() {
		return nil, errInvalid("from_subscription", "", "You cannot migrate a subscription that is already attached to a schedule, or has ended.")
	}
	o := &schedule{head: c.s.head("sub_sched", c), customer: sub.customer, subscription: sub.id, status: scheduleActive, end: "release", mode: sub.mode}
	o.phases = []*phase{{items: sub.items, start: sub.start, stop: sub.stop, currency: sub.currency, behavior: "create_prorations"}}
	sub.schedule = o.id
	c.s.schedules.insert(o)
	c.await(o, o.phases[0])
	c.emit("subscription_schedule.created", o)
	return o, nil
}

// begin starts the subscription of a schedule with its first phase.
func (c *call) begin(o *schedule) *stripeError {
	ph := o.phases[0]
	p := o.parameters(ph, nil)
	sub, in := c.newSubscription(c.s.customers.byID[o.customer], p)
	if f := p.fault(); f != nil {
		return f
	}
	sub.schedule, o.subscription, o.status = o.id, sub.id, scheduleActive
	c.await(o, ph)
	return c.start(sub, in, "allow_incomplete")
}

// parameters are a phase as the parameters of a subscription: with items that exist
// already it is a change of them.
func (o *schedule) parameters(ph *phase, existing []*subItem) part {
	all := &node{kind: nodeMap}
	for _, from := range []*node{o.settings, ph.settings} {
		if from == nil {
			continue
		}
		for i, k := range from.keys {
			switch k {
			case "items", "billing_cycle_anchor", "duration", "start_date", "end_date", "trial", "trial_end", "iterations":
			default:
				all.set(k, from.vals[i])
			}
		}
	}
	if ph.trialEnd > ph.start {
		all.set("trial_end", word(text(ph.trialEnd)))
	}
	all.set("currency", word(ph.currency))
	items := &node{kind: nodeList}
	kept := map[string]bool{}
	for _, it := range ph.items {
		n := &node{kind: nodeMap}
		if i := slices.IndexFunc(existing, func(old *subItem) bool { return old.price == it.price && !kept[old.id] }); i >= 0 {
			n.set("id", word(existing[i].id))
			kept[existing[i].id] = true
		} else {
			n.set("price", word(it.price.id))
		}
		if !it.metered() {
			n.set("quantity", word(text(it.quantity)))
		}
		if it.rates != nil {
			n.set("tax_rates", idList(it.rates))
		}
		if it.discounts != nil {
			n.set("discounts", discountList(it.discounts))
		}
		items.list = append(items.list, n)
	}
	for _, old := range existing {
		if !kept[old.id] {
			n := &node{kind: nodeMap}
			n.set("id", word(old.id))
			n.set("deleted", word("true"))
			items.list = append(items.list, n)
		}
	}
	all.set("items", items)
	return part{n: all, bad: &fault{}, own: true}
}

// word is a parameter of text.
func word(s string) *node { return &node{kind: nodeString, str: s} }

// await has the clock end a phase.
func (c *call) await(o *schedule, ph *phase) {
	c.later(o.customer, ph.stop, func(c *call) { c.nextPhase(o) })
}

// nextPhase goes on to the phase that a schedule is in now, or ends it. It does
// nothing while the phase is the one the subscription is in already.
func (c *call) nextPhase(o *schedule) {
	sub := c.s.subscriptions.byID[o.subscription]
	if o.status != scheduleActive || sub == nil {
		return
	}
	i := slices.IndexFunc(o.phases, func(ph *phase) bool { return ph.stop > c.now })
	switch {
	case i == 0:
	case i > 0 && o.phases[i].start == c.now:
		p := o.parameters(o.phases[i], sub.items)
		// A change that cannot be made leaves the subscription as it is.
		_ = c.change(sub, p)
		c.await(o, o.phases[i])
		c.emit("subscription_schedule.updated", o)
	case i < 0 && o.end == "cancel":
		o.status, o.completedAt = scheduleCompleted, c.now
		c.end(sub)
		c.emit("subscription_schedule.completed", o)
	case i < 0:
		c.release(o)
	}
}

// release leaves the subscription as it is.
func (c *call) release(o *schedule) {
	o.status, o.releasedAt, o.released = scheduleReleased, c.now, o.subscription
	if sub := c.s.subscriptions.byID[o.subscription]; sub != nil {
		sub.schedule = ""
	}
	o.subscription = ""
	c.emit("subscription_schedule.released", o)
}

func updateSchedule(c *call) (view, *stripeError) {
	o, f := c.liveSchedule()
	if f != nil {
		return nil, f
	}
	p := c.whole()
	md := p.metadata(o.md)
	phases, defaults := o.phases, c.readSplit(o.split, p.sub("default_settings"))
	if p.has("phases") {
		phases = c.readPhases(o, p, o.phases[0].start)
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	o.md, o.phases, o.end = md, phases, p.or("end_behavior", o.end)
	if c.has("default_settings") {
		o.settings, o.split = c.p.get("default_settings"), defaults
	}
	ph := o.current(c.now)
	sub := c.s.subscriptions.byID[o.subscription]
	if p.has("phases") && ph != nil && sub != nil {
		now := o.parameters(ph, sub.items)
		now.n.remove("trial_end")
		now.n.set("proration_behavior", word(p.or("proration_behavior", "create_prorations")))
		if f := c.change(sub, now); f != nil {
			return nil, f
		}
		c.await(o, ph)
	}
	c.emit("subscription_schedule.updated", o)
	return o, nil
}

// cancelSchedule also cancels the subscription, and by default bills what is left of it.
func cancelSchedule(c *call) (view, *stripeError) {
	o, f := c.liveSchedule()
	if f != nil {
		return nil, f
	}
	on := func(name string) bool { return !c.has(name) || c.bool(name) }
	o.status, o.canceledAt = scheduleCanceled, c.now
	if sub := c.s.subscriptions.byID[o.subscription]; sub != nil && !sub.ended() {
		f = c.cancelNow(sub, on("prorate"), on("invoice_now"))
	}
	c.emit("subscription_schedule.canceled", o)
	return asView(o, f)
}
