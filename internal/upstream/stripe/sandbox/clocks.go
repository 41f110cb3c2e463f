package sandbox

import "time"

// clockLife is how long Stripe keeps a test clock.
const clockLife = 30 * 24 * time.Hour

// testClock is a time of its own for the customers on it: it stands still until
// a call moves it.
type testClock struct {
	head
	name   string
	frozen int64 // Unix seconds
	moving bool  // as the answer to advance shows it; here it is done by then
	agenda agenda
}

func (o *testClock) links() []string { return nil }

func (o *testClock) render(e *enc, _ *expansion) {
	if o.deleted {
		(&deletedView{"test_helpers.test_clock", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "test_helpers.test_clock")
	e.int("created", o.created)
	e.int("deletes_after", o.created+int64(clockLife/time.Second))
	e.int("frozen_time", o.frozen)
	e.bool("livemode", e.s.live())
	e.opt("name", o.name)
	e.key("status_details")
	e.open()
	if o.moving {
		e.key("advancing")
		e.open()
		e.int("target_frozen_time", o.frozen)
		e.close()
	}
	e.close()
	if o.moving {
		e.str("status", "advancing")
	} else {
		e.str("status", "ready")
	}
	e.close()
}

var clockRoutes = []*operation{
	get("/v1/test_helpers/test_clocks", "test_helpers.test_clocks", "list:test_helpers.test_clock", func(c *call) (view, *stripeError) {
		return c.s.clocks.page(c, "", nil)
	}),
	post("/v1/test_helpers/test_clocks", "test_helpers.test_clocks", "test_helpers.test_clock", func(c *call) (view, *stripeError) {
		if c.s.live() {
			return nil, errInvalid("", "", "Test clocks exist in test mode only.")
		}
		o := &testClock{head: c.s.head("clock", c), name: c.str("name"), frozen: c.amount("frozen_time")}
		c.s.clocks.insert(o)
		c.emit("test_helpers.test_clock.created", o)
		return o, nil
	}),
	get("/v1/test_helpers/test_clocks/{test_clock}", "test_helpers.test_clocks", "test_helpers.test_clock", func(c *call) (view, *stripeError) {
		return asView(c.s.clocks.get(c.args[0], "id"))
	}),
	remove("/v1/test_helpers/test_clocks/{test_clock}", "test_helpers.test_clocks", deleteClock),
	post("/v1/test_helpers/test_clocks/{test_clock}/advance", "test_helpers.test_clocks", "test_helpers.test_clock", advanceClock),
}

// advanceClock moves a clock and does everything that becomes due on the way.
// Stripe answers at once and works on; here the work is done before the answer.
func advanceClock(c *call) (view, *stripeError) {
	o, f := c.s.clocks.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	to := c.amount("frozen_time")
	if to <= o.frozen {
		return nil, errInvalid("frozen_time", "", "The frozen_time must be after the current frozen_time of the test clock.")
	}
	o.agenda.run(c.s, to)
	o.frozen = to
	o.moving = true
	c.body = c.emit("test_helpers.test_clock.advancing", o)
	o.moving = false
	c.emit("test_helpers.test_clock.ready", o)
	return o, nil
}

// deleteClock deletes the customers on it, too, as Stripe does.
func deleteClock(c *call) (view, *stripeError) {
	o, f := c.s.clocks.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	for _, owner := range c.s.customers.index["test_clock="+o.id] {
		if !owner.deleted {
			c.dropCustomer(owner)
		}
	}
	o.deleted = true
	c.emit("test_helpers.test_clock.deleted", o)
	return &deletedView{"test_helpers.test_clock", o.id}, nil
}
