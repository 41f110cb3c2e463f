package crash

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"
)

// agent is one client. It keeps what it does not know the outcome of, as agents do, and asks again after a restart.
type agent struct {
	w       *world
	number  int
	rng     *rand.Rand
	calls   []*call     // all that it ever wanted
	unsure  []*call     // sent, and never answered, or answered that nobody knows
	over    func() bool // nil: it goes on until a connection breaks
	intents []intent
}

// intent is a PaymentIntent that the agent made and has not brought to its end.
type intent struct {
	who    *principal
	id     string
	amount int64
	state  string
}

// spend asks again for what it is unsure of and then sends one call after the other, until a connection breaks. tell
// is told of every answer.
func (a *agent) spend(tell func()) {
	again := a.unsure
	a.unsure = nil
	for i, c := range again {
		if a.over != nil && a.over() {
			a.unsure = append(a.unsure, again[i:]...)
			return
		}
		if c.idem == "" || a.rng.IntN(5) == 0 {
			continue // without a key nobody may ask again; and some agents never come back
		}
		if !a.ask(c, tell) {
			a.unsure = append(a.unsure, again[i+1:]...)
			return
		}
	}
	for a.over == nil || !a.over() {
		c := a.next()
		a.calls = append(a.calls, c)
		if !a.ask(c, tell) {
			return
		}
	}
}

// ask sends a call and learns from its answer; false if there was none.
func (a *agent) ask(c *call, tell func()) bool {
	t := a.w.send(c)
	if t.status == 0 || t.status == 429 || t.status >= 500 {
		a.unsure = append(a.unsure, c)
	}
	if t.status == 0 {
		return false
	}
	if a.over != nil && t.unavailable() {
		time.Sleep(5 * time.Millisecond) // its node, or all of them, take no calls: others need the processor more
	}
	tell()
	if t.status == 200 && (t.state == "requires_confirmation" || t.state == "requires_capture") {
		a.intents = append(a.intents, intent{c.who, t.object, t.amount, t.state})
	}
	return true
}

// next is what the agent wants now.
func (a *agent) next() *call {
	id := fmt.Sprintf("c%d-%d", a.number, len(a.calls))
	idem := ""
	if a.rng.IntN(3) > 0 {
		idem = "key-" + id
	}
	if n := len(a.intents); n > 0 && a.rng.IntN(2) == 0 {
		in := a.intents[n-1]
		a.intents = a.intents[:n-1]
		return a.goOn(in, id, idem)
	}
	who := a.w.keys[len(a.w.keys)-1-a.rng.IntN(min(len(a.w.keys), len(kinds)))]
	if a.rng.IntN(16) == 0 {
		return newCall(who, read, id, "/v1/charges?limit=3&customer="+url.QueryEscape(who.customer), "", "")
	}
	if who.refunds && (!who.intents || a.rng.IntN(2) == 0) {
		if a.rng.IntN(4) == 0 {
			return newRefund(who, id, who.small[a.rng.IntN(len(who.small))], 0, idem) // all that is left of it
		}
		return newRefund(who, id, who.charges[a.rng.IntN(len(who.charges))], 50+a.rng.Int64N(250), idem)
	}
	how := []string{"", "&confirm=true", "&confirm=true&capture_method=manual"}[a.rng.IntN(3)]
	return newIntent(who, id, 50+a.rng.Int64N(450), how, idem)
}

// goOn confirms or captures.
func (a *agent) goOn(in intent, id, idem string) *call {
	if in.state == "requires_confirmation" {
		return newStep(in.who, confirm, id, in.id, "", idem)
	}
	form := ""
	if a.rng.IntN(2) == 0 {
		form = fmt.Sprintf("amount_to_capture=%d", 1+a.rng.Int64N(in.amount))
	}
	return newStep(in.who, capture, id, in.id, form, idem)
}
