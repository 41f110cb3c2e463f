package sandbox

import "slices"

// meter adds up what customers use: events with its name bear a customer and a value.
type meter struct {
	head
	name, event           string
	formula               string // sum, count or last
	customerKey, valueKey string // of the payload
	window                string
	updated, deactivated  int64
	events                []*meterEvent
}

func (o *meter) links() []string { return nil }

func (o *meter) status() string {
	if o.deactivated != 0 {
		return "inactive"
	}
	return "active"
}

func (o *meter) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "billing.meter")
	e.int("created", o.created)
	e.key("customer_mapping")
	e.open()
	e.str("event_payload_key", o.customerKey)
	e.str("type", "by_id")
	e.close()
	e.key("default_aggregation")
	e.open()
	e.str("formula", o.formula)
	e.close()
	e.str("display_name", o.name)
	e.str("event_name", o.event)
	e.opt("event_time_window", o.window)
	e.bool("livemode", e.s.live())
	e.str("status", o.status())
	e.key("status_transitions")
	e.open()
	e.optInt("deactivated_at", o.deactivated)
	e.close()
	e.int("updated", o.updated)
	e.key("value_settings")
	e.open()
	e.str("event_payload_key", o.valueKey)
	e.close()
	e.close()
}

// meterEvent is one use.
type meterEvent struct {
	meter              *meter
	customer, id       string
	value, at, created int64
	canceled           bool
	payload            string // JSON
}

func (o *meterEvent) render(e *enc, _ *expansion) {
	e.open()
	e.str("object", "billing.meter_event")
	e.int("created", o.created)
	e.str("event_name", o.meter.event)
	e.str("identifier", o.id)
	e.bool("livemode", e.s.live())
	e.raw("payload", o.payload)
	e.int("timestamp", o.at)
	e.close()
}

// usage is what a customer used from a time on and before another.
func (o *meter) usage(customer string, from, to int64) int64 {
	var sum, last, lastAt int64
	for _, ev := range o.events {
		if ev.customer != customer || ev.canceled || ev.at < from || ev.at >= to {
			continue
		}
		if o.formula == "count" {
			sum++
		} else {
			sum += ev.value
		}
		if ev.at >= lastAt {
			last, lastAt = ev.value, ev.at
		}
	}
	if o.formula == "last" {
		return last
	}
	return sum
}

var meterRoutes = []*operation{
	get("/v1/billing/meters", "billing.meters", "list:billing.meter", func(c *call) (view, *stripeError) {
		return c.s.meters.page(c, "", func(o *meter) bool { return !c.set("status") || o.status() == c.str("status") })
	}),
	post("/v1/billing/meters", "billing.meters", "billing.meter", createMeter),
	get("/v1/billing/meters/{id}", "billing.meters", "billing.meter", func(c *call) (view, *stripeError) {
		return asView(c.s.meters.get(c.args[0], "id"))
	}),
	post("/v1/billing/meters/{id}", "billing.meters", "billing.meter", func(c *call) (view, *stripeError) {
		return c.changeMeter("billing.meter.updated", func(o *meter) { c.assign("display_name", &o.name) })
	}),
	post("/v1/billing/meters/{id}/deactivate", "billing.meters", "billing.meter", func(c *call) (view, *stripeError) {
		return c.changeMeter("billing.meter.deactivated", func(o *meter) { o.deactivated = c.now })
	}),
	post("/v1/billing/meters/{id}/reactivate", "billing.meters", "billing.meter", func(c *call) (view, *stripeError) {
		return c.changeMeter("billing.meter.reactivated", func(o *meter) { o.deactivated = 0 })
	}),
	get("/v1/billing/meters/{id}/event_summaries", "billing.meter_event_summaries", kindNone, summarizeMeter),
	post("/v1/billing/meter_events", "billing.meter_events", kindNone, createMeterEvent),
	post("/v1/billing/meter_event_adjustments", "billing.meter_event_adjustments", kindNone, adjustMeterEvent),
}

func createMeter(c *call) (view, *stripeError) {
	p := c.whole()
	o := &meter{head: c.s.head("mtr", c), name: c.str("display_name"), event: c.str("event_name"), customerKey: "stripe_customer_id",
		valueKey: "value", window: c.str("event_time_window"), updated: c.now,
		formula: p.sub("default_aggregation").or("formula", "")}
	if key := p.sub("customer_mapping").str("event_payload_key"); key != "" {
		o.customerKey = key
	}
	if key := p.sub("value_settings").str("event_payload_key"); key != "" {
		o.valueKey = key
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	if c.activeMeter(o.event) != nil {
		return nil, errInvalid("event_name", "resource_already_exists", "There is already an active meter with the event name "+o.event+".")
	}
	c.s.meters.insert(o)
	c.emit("billing.meter.created", o)
	return o, nil
}

func (c *call) changeMeter(event string, change func(*meter)) (view, *stripeError) {
	o, f := c.s.meters.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	change(o)
	o.updated = c.now
	c.emit(event, o)
	return o, nil
}

func (c *call) activeMeter(event string) *meter {
	for _, o := range c.s.meters.order {
		if o.event == event && o.deactivated == 0 {
			return o
		}
	}
	return nil
}

// meterOf reads the meter of a metered price.
func (c *call) meterOf(p part, usage string) string {
	id := p.str("meter")
	switch {
	case usage != "metered" && id != "":
		p.refuse("meter", "", "The meter parameter is for prices with usage_type=metered only.")
	case usage == "metered" && id == "":
		p.keep(errMissingParam(p.nameOf("meter")))
	case id != "":
		_, f := c.s.meters.get(id, p.nameOf("meter"))
		p.keep(f)
	}
	return id
}

func createMeterEvent(c *call) (view, *stripeError) {
	at := int64(0)
	if c.has("timestamp") {
		at = c.amount("timestamp")
	}
	return asView(c.meterEvent(c.whole(), at))
}

// meterEvent notes one use; a time of zero is now.
func (c *call) meterEvent(p part, at int64) (*meterEvent, *stripeError) {
	m := c.activeMeter(p.str("event_name"))
	if m == nil {
		return nil, errInvalid("event_name", "", "No active meter found for event name `"+p.str("event_name")+"`.")
	}
	payload := p.sub("payload")
	payload.must(m.customerKey)
	ev := &meterEvent{meter: m, customer: payload.str(m.customerKey), id: p.str("identifier"), created: c.now,
		payload: string(payload.n.json(nil))}
	if m.formula != "count" {
		payload.must(m.valueKey)
		ev.value = payload.int(m.valueKey)
	}
	if f := p.fault(); f != nil {
		return nil, f
	}
	if _, f := c.s.customers.get(ev.customer, payload.nameOf(m.customerKey)); f != nil {
		return nil, f
	}
	c.on(ev.customer)
	if ev.at = at; at == 0 {
		ev.at = c.now
	}
	if ev.at > c.now+5*60 || ev.at < c.now-35*86400 {
		return nil, errInvalid("timestamp", "timestamp_too_far_in_past", "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future.")
	}
	if ev.id == "" {
		ev.id = c.s.random(c.s.ids, idLength)
	}
	if slices.ContainsFunc(m.events, func(old *meterEvent) bool { return old.id == ev.id }) {
		return nil, errInvalid("identifier", "duplicate_meter_event", "An event already exists with identifier "+ev.id+".")
	}
	m.events = append(m.events, ev)
	return ev, nil
}

// adjustment is what cancels an event.
type adjustment struct{ event, id string }

func (o *adjustment) render(e *enc, _ *expansion) {
	e.open()
	e.str("object", "billing.meter_event_adjustment")
	e.key("cancel")
	e.open()
	e.str("identifier", o.id)
	e.close()
	e.str("event_name", o.event)
	e.bool("livemode", e.s.live())
	e.str("status", "complete")
	e.str("type", "cancel")
	e.close()
}

func adjustMeterEvent(c *call) (view, *stripeError) {
	return asView(c.cancelMeterEvent())
}

func (c *call) cancelMeterEvent() (*adjustment, *stripeError) {
	m := c.activeMeter(c.str("event_name"))
	id := c.sub("cancel", "identifier").text()
	if m != nil {
		for _, ev := range m.events {
			if ev.id == id && !ev.canceled {
				ev.canceled = true
				return &adjustment{m.event, id}, nil
			}
		}
	}
	return nil, errInvalid("cancel[identifier]", "resource_missing", "No meter event with identifier "+id+" can be canceled.")
}

// summary is what a customer used in a time.
type summary struct {
	meter           *meter
	id              string
	value, from, to int64
}

func (o *summary) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", o.id)
	e.str("object", "billing.meter_event_summary")
	e.int("aggregated_value", o.value)
	e.int("end_time", o.to)
	e.bool("livemode", e.s.live())
	e.str("meter", o.meter.id)
	e.int("start_time", o.from)
	e.close()
}

func summarizeMeter(c *call) (view, *stripeError) {
	m, f := c.s.meters.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if _, f := c.s.customers.get(c.str("customer"), "customer"); f != nil {
		return nil, f
	}
	from, to := c.amount("start_time"), c.amount("end_time")
	list := &listView{url: c.url()}
	if value := m.usage(c.str("customer"), from, to); value != 0 {
		list.data = append(list.data, &summary{m, "mtrusg_" + c.s.random(c.s.ids, idLength), value, from, to})
	}
	return list, nil
}
