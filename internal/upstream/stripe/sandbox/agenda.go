package sandbox

import (
	"cmp"
	"slices"
	"time"
)

// agenda is what will happen without any call, in order of time: drafts finalize
// themselves, subscriptions renew, trials end.
type agenda struct {
	tasks []*task
	seq   int
}

// task runs once, at its time. Things may have changed since it was written
// down: it looks for itself whether it still applies.
type task struct {
	at  int64 // Unix seconds
	seq int
	run func(*call)
}

func (a *agenda) add(at int64, run func(*call)) {
	a.seq++
	t := &task{at: at, seq: a.seq, run: run}
	i, _ := slices.BinarySearchFunc(a.tasks, t, func(x, y *task) int {
		return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.seq, y.seq))
	})
	a.tasks = slices.Insert(a.tasks, i, t)
}

// run does what is due until a time, each task at its own time: what it writes
// down may become due as well.
func (a *agenda) run(s *account, until int64) {
	for len(a.tasks) > 0 && a.tasks[0].at <= until {
		t := a.tasks[0]
		a.tasks[0] = nil // or the backing array would keep it alive
		a.tasks = a.tasks[1:]
		at := time.Unix(t.at, 0)
		t.run(&call{s: s, p: &node{kind: nodeMap}, at: at, now: t.at})
	}
}

// tick does what the passing of time does to objects on no test clock.
func (s *account) tick(at time.Time) { s.agenda.run(s, at.Unix()) }

// later puts a task on the agenda of a customer: that of the test clock it is on, or the wall's.
func (c *call) later(customer string, at int64, run func(*call)) {
	if k := c.s.clockOf(customer); k != nil {
		k.agenda.add(at, run)
		return
	}
	c.s.agenda.add(at, run)
}

// clockOf is the test clock that a customer lives on; nil for the wall's.
func (s *account) clockOf(customer string) *testClock {
	o := s.customers.byID[customer]
	if o == nil || o.clock == "" {
		return nil
	}
	return s.clocks.byID[o.clock]
}

// on makes the rest of the call happen at a customer's time.
func (c *call) on(customer string) {
	if k := c.s.clockOf(customer); k != nil {
		c.now = k.frozen
		c.at = time.Unix(k.frozen, 0)
	}
}

// renderClock writes the test clock of a customer's object.
func (e *enc) renderClock(customer string, x *expansion) {
	id := ""
	if k := e.s.clockOf(customer); k != nil {
		id = k.id
	}
	e.ref("test_clock", id, x)
}
