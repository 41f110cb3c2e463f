package sim

import (
	"math/rand/v2"
	"slices"
	"time"
)

// run is the scheduler: it looks when everybody is blocked and decides what happens next, until all agents are done and
// everything that could be learned is known.
func (w *world) run() {
	w.boot()
	if w.sweep != nil {
		w.start(newAgent(w, 0).day)
	} else {
		for i := range 8 {
			w.agents.Add(1)
			w.start(newAgent(w, i).work)
		}
		w.start(newOperator(w, "brakes", 11).brakes)
		w.start(newOperator(w, "limits", 12).changes)
		w.start(w.postman)
		w.start(w.asker)
	}
	for {
		w.b.settle(w.enqueue, w.now())
		if w.working.Load() == 0 {
			break
		}
		w.step()
		if w.b.steps.Load() > int64(2000*w.options.calls)+100_000 {
			w.problems = append(w.problems, "the run does not end")
			break
		}
	}
	w.finish()
}

// done ends what start or boot began.
func (w *world) done() {
	w.working.Add(-1)
	w.b.handOver()
}

// start runs an agent or operator until it is done.
func (w *world) start(f func()) {
	w.working.Add(1)
	go func() {
		defer w.done()
		f()
	}()
}

// step lets one thing happen.
func (w *world) step() {
	if w.sweep != nil && (w.sweep.crash || w.engine.broken != nil) {
		w.sweep.crash = false
		w.recover()
		return
	}
	if !w.calm && w.p.up && !w.ending && w.mishap() {
		return
	}
	w.work(w.rng)
}

// mishap is what happens to machines: a crash, a clock that is set, time that passes.
func (w *world) mishap() bool {
	odds := 4000
	if slices.ContainsFunc(w.b.waiting, func(t *turn) bool { return t.late }) {
		odds = 400 // the vendor is slow with a call: that is when time matters
	}
	switch n := w.rng.IntN(odds); {
	case odds == 400 && n < 8:
		w.skew()
	case odds == 400 && n < 16:
		w.sleep(time.Duration(30+w.rng.IntN(60)) * time.Second)
	case odds == 400:
		return false
	case w.engine.broken != nil && n < 400:
		w.recover()
	case n < 1:
		w.crash()
	case n < 3:
		w.skew()
	case n < 6:
		w.leap()
	case n < 60:
		w.sleep(time.Duration(1+w.rng.IntN(2000)) * time.Millisecond)
	case n < 66:
		w.sleep(time.Duration(1+w.rng.IntN(80)) * time.Second)
	case n < 70:
		w.vendor.later()
	case n < 74 && len(w.engine.queue) > 0: // those who waited too long are turned away
		w.busy()
	default:
		return false
	}
	return true
}

// work passes the baton to somebody who waits, or lets the store make a transaction.
func (w *world) work(rng *rand.Rand) {
	b := w.b
	if i := slices.IndexFunc(b.waiting, func(t *turn) bool { return t.late && w.now()-t.born > 240 }); i >= 0 {
		b.pass(&b.waiting, i) // later than that the vendor is not
		return
	}
	n, queued := len(b.waiting), len(w.engine.queue)
	switch {
	case queued > 0 && (n == 0 || rng.IntN(n+3) < 3):
		w.commit(rng)
	case n > 0 && (w.busyOnes() || rng.IntN(3) == 0):
		b.pass(&b.waiting, rng.IntN(n))
	case len(b.hanging) > 0 && rng.IntN(3) == 0:
		b.pass(&b.hanging, rng.IntN(len(b.hanging)))
	default:
		w.sleep(time.Duration(1+rng.IntN(6000)) * time.Millisecond) // somebody waits for a timer
	}
}

// busyOnes reports whether anybody waits who is not only looking for something to do.
func (w *world) busyOnes() bool {
	return slices.ContainsFunc(w.b.waiting, func(t *turn) bool { return t.what != idle })
}

// idle is what operators wait with while they have nothing to do.
const idle = "idle"

func (w *world) commit(rng *rand.Rand) {
	fault := ""
	if w.sweep != nil {
		if fault = w.sweep.strikesCommit(w); fault == "crash" {
			return
		}
	} else if !w.calm && w.p.up && !w.ending {
		fault = w.chance(rng)
	}
	w.engine.commit(w.engine.pick(rng), fault)
	if w.engine.lazy && rng.IntN(4) == 0 {
		if err := w.engine.catchUp(); err != nil {
			w.problems = append(w.problems, err.Error())
		}
	}
}

// recover ends what keeps the store from taking anything: the server is seen again, or there is a new process.
func (w *world) recover() {
	if w.engine.away == nil {
		w.crash()
		return
	}
	if err := w.engine.comeBack(); err != nil {
		w.problems = append(w.problems, err.Error())
	}
}

// sleep lets time pass: timers fire.
func (w *world) sleep(d time.Duration) {
	w.b.notef("sleep", "time", "%s", d)
	time.Sleep(d)
}

// skew sets this machine's clock, forward or back. It stays within an hour's span: a clock that goes back by more makes
// idempotency keys look younger than the vendor finds them.
func (w *world) skew() {
	if w.clock.world().Before(w.skewed.Add(30 * time.Minute)) {
		return // it is set now and then, not all the time
	}
	w.skewed = w.clock.world()
	w.clock.skew = time.Duration(w.rng.IntN(2*maxSkew)-maxSkew) * time.Second
	w.b.notef("clock", "time", "our clock is %s off", w.clock.skew)
}

// maxSkew is how many seconds our clock may be off.
var maxSkew = 1500

// leap lets hours or days pass for everybody at once, when nothing is on the wire.
func (w *world) leap() {
	if len(w.b.hanging) > 0 || slices.ContainsFunc(w.b.waiting, func(t *turn) bool { return t.late }) || len(w.vendor.wires) > 0 {
		return
	}
	d := time.Duration(1+w.rng.IntN(int(30*time.Hour/time.Second))) * time.Second
	if w.rng.IntN(3) == 0 { // too late to attach to what was sent just now, and the vendor remembers it
		d = 23*time.Hour + time.Duration(w.rng.IntN(3000))*time.Second
	}
	w.clock.leap += d
	w.b.notef("leap", "time", "%s", d)
}

// busy turns away one who waits for the store.
func (w *world) busy() {
	i := w.rng.IntN(len(w.engine.queue))
	t := w.engine.queue[i]
	w.engine.queue = slices.Delete(w.engine.queue, i, i+1)
	t.unit.err = errBusy
	w.auditor.lost += t.unit.folded()
	t.unit = nil
	w.b.note("busy", t.who, t.what)
	w.b.waiting = append(w.b.waiting, t)
}

// finish lets everything that is on its way come to its end, asks the vendor about what is open, and audits.
func (w *world) finish() {
	w.ending = true
	w.vendor.plan = func(bool) plan { return plan{} }
	if w.engine.broken != nil {
		w.recover()
	}
	for range 3 {
		w.quiet()
		w.sleep(6 * time.Minute)
	}
	for range 4 {
		w.start(w.askOnce)
		w.quiet()
		w.clock.leap += 13 * time.Minute
	}
	w.quiet()
	if w.p.gateway != nil {
		w.p.stop()
		w.start(w.p.gateway.Close)
		w.quiet()
		w.p.service.Close()
	}
	w.auditor.finish(w.engine.durable, w.crashes)
}

// quiet works until nobody has anything to do but wait.
func (w *world) quiet() {
	for {
		w.b.settle(w.enqueue, w.now())
		switch {
		case len(w.b.waiting)+len(w.engine.queue) > 0:
			w.work(w.rng)
		case len(w.b.hanging) > 0:
			w.b.pass(&w.b.hanging, 0)
		default:
			return
		}
	}
}
