package crash

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// auditor holds what a store's books say against what Stripe did and what agents and operators were told. It knows
// four things and no more: what is admitted is written down first; what is open counts as held, what is closed as
// settled; a total is the sum of its parts; what moved is counted, and never above a cap.
type auditor struct {
	w     *world
	found []string

	owner    map[string]*reservation // by the idempotency key that Stripe gets
	recorded map[string]time.Time    // the first intent record, by the same
	called   map[string]*reservation // by a call's own name, or the path of a step
	arrived  map[string][]string     // from the same to the idempotency keys under which it reached Stripe
	outcomes map[int64][]*record     // by reservation
	maker    map[string]*reservation // by intent: the call that made it, in whose windows it counts
}

// audit reads the store and Stripe and returns everything that is wrong. restarted says that a gateway has taken
// the store over since the last kill.
func (w *world) audit(restarted, whole bool) []string {
	w.t.Helper()
	w.readTruth()
	tx, end := w.snapshot()
	defer end()
	w.books.read(w.t, tx, w.archive(), whole)
	a := &auditor{w: w, found: w.books.problems}
	a.index()
	a.reservations(restarted)
	a.intents()
	a.totals()
	a.stripe()
	a.caps()
	a.calls()
	a.brakes()
	return a.found
}

// agree has the books audited.
func (w *world) agree() {
	w.t.Helper()
	for _, problem := range w.audit(true, true) {
		w.t.Error(problem)
	}
}

func (a *auditor) report(format string, args ...any) {
	a.found = append(a.found, fmt.Sprintf(format, args...))
}

// nameOf is how a request is known to be a call's: by what the call wrote into it, or by its path.
func nameOf(path string, body []byte) string {
	if id := callID(body); id != "" {
		return id
	}
	return path
}

func (c *call) name() string {
	if c.object != "" {
		return c.path
	}
	return c.id
}

func (a *auditor) index() {
	a.owner, a.called, a.recorded = make(map[string]*reservation), make(map[string]*reservation), make(map[string]time.Time)
	a.arrived, a.outcomes, a.maker = make(map[string][]string), make(map[int64][]*record), make(map[string]*reservation)
	b := &a.w.books
	for _, r := range b.reservations {
		name := nameOf(r.sent.Path, []byte(r.sent.Body))
		if other := a.owner[r.sent.Key]; other != nil && other.state != released && r.state != released {
			a.report("reservations %d and %d hold the same call (%s) twice", other.id, r.id, name)
		}
		if rec := b.record(r.fixed.Record); rec != nil && (a.recorded[r.sent.Key].IsZero() || rec.At.Before(a.recorded[r.sent.Key])) {
			a.recorded[r.sent.Key] = rec.At
		}
		// A call that was refused and asked again has several; the one that is not released stands for it.
		if other := a.owner[r.sent.Key]; other == nil || other.state == released {
			a.owner[r.sent.Key], a.called[name] = r, r
		}
	}
	for key, s := range a.w.truth.sent {
		name := nameOf(s.first.Path, s.first.Body)
		a.arrived[name] = append(a.arrived[name], key)
	}
	for i := range b.records {
		if r := &b.records[i]; (r.Kind == "outcome" || r.Kind == "reconciled") && r.Reservation != 0 {
			a.outcomes[r.Reservation] = append(a.outcomes[r.Reservation], r)
		}
	}
	for _, c := range a.w.calls {
		if t := c.succeeded(); c.kind == create && t != nil {
			a.maker[t.object] = a.called[c.id]
		}
	}
}

// reservations holds every reservation against its records.
func (a *auditor) reservations(restarted bool) {
	for _, r := range a.w.books.reservations {
		rec := a.w.books.record(r.fixed.Record)
		if rec == nil || rec.Kind != "intent" || rec.Verdict != "allow" || rec.Reservation != r.id || rec.Key != r.key {
			a.report("reservation %d has no intent record: at %d there is %+v", r.id, r.fixed.Record, rec)
		}
		moved, proved := false, false
		for _, o := range a.outcomes[r.id] {
			moved, proved = moved || o.Fate == "moved", proved || o.Proof != ""
		}
		switch {
		case r.state == reserved && restarted:
			a.report("reservation %d is on the wire of a process that is dead", r.id)
		case r.state == settled && !moved, r.state == released && !proved, r.state == unknown && (moved || proved):
			a.report("reservation %d is %s, and its outcome records do not say so", r.id, stateNames[r.state])
		}
	}
}

// intents holds every admission on record against its reservation.
func (a *auditor) intents() {
	for i := range a.w.books.records {
		rec := &a.w.books.records[i]
		if rec.Kind != "intent" || rec.Verdict != "allow" || rec.Reservation == 0 {
			continue
		}
		r := a.w.books.reservations[rec.Reservation]
		switch {
		case r == nil:
			a.report("record %d holds reservation %d, and there is none", rec.Seq, rec.Reservation)
		case rec.Repeat != "attached" && r.fixed.Record != rec.Seq:
			a.report("reservation %d was made twice: by record %d and by %d", r.id, r.fixed.Record, rec.Seq)
		}
	}
}

// totals adds up what reservations hold and holds it against the running totals, both ways.
func (a *auditor) totals() {
	sums := make(map[accountKey]account)
	for _, r := range a.w.books.reservations {
		for _, h := range r.moving.Holds {
			k := accountKey{r.key, h.Resource, windows[h.Per], h.Unit, h.Label}
			s := sums[k]
			if r.state < settled {
				s.held += h.Amount
			} else {
				s.settled += h.Amount
			}
			sums[k] = s
		}
	}
	for k, have := range a.w.books.accounts {
		if have != sums[k] {
			a.report("the account %s has %+v, its reservations add up to %+v", k, have, sums[k])
		}
	}
	for k, want := range sums {
		if _, ok := a.w.books.accounts[k]; !ok && want != (account{}) {
			a.report("the account %s is gone, its reservations add up to %+v", k, want)
		}
	}
}

// stripe holds everything that reached Stripe against the books: recorded before it came, held, and counted.
func (a *auditor) stripe() {
	for key, s := range a.w.truth.sent {
		r := a.owner[key]
		if r == nil {
			a.report("%s reached Stripe (arrival %d) and no reservation holds it", s.first.Path, s.first.Seq)
			continue
		}
		if at := a.recorded[key]; at.After(s.first.At) {
			a.report("%s was recorded at %s, after it reached Stripe at %s", s.first.Path, at, s.first.At)
		}
		if rec := a.w.books.record(r.fixed.Record); rec != nil && len(s.effects) > 0 && rec.At.After(s.effects[0].At) {
			a.report("reservation %d was recorded at %s, after Stripe moved its money at %s", r.id, rec.At, s.effects[0].At)
		}
		for _, e := range s.effects {
			if p := a.principal(r.key); p == nil || e.Customer != p.customer {
				a.report("reservation %d is of %s, and moved the money of %s (%s)", r.id, r.key, e.Customer, e.Object)
			}
		}
		if len(s.effects) > 0 && r.state == released {
			a.report("reservation %d was released, and Stripe moved %d cents for it (%s)", r.id, s.effects[0].Amount, s.effects[0].Object)
		}
		if n := s.moved("refund"); n > 0 && (r.state == settled && r.counted() != n || r.counted() < n && r.state != released) {
			a.report("reservation %d is %s and counts %d cents, Stripe gave back %d", r.id, stateNames[r.state], r.counted(), n)
		}
		if n := len(s.effects); n > 1 && s.moved("release") == 0 {
			a.report("%s moved money %d times under one idempotency key", s.first.Path, n)
		}
	}
	for key, r := range a.owner {
		if r.state == settled && r.sent.Path == "/v1/refunds" && r.counted() > 0 && (a.w.truth.sent[key] == nil || len(a.w.truth.sent[key].effects) == 0) {
			a.report("reservation %d settled %d cents, and Stripe moved nothing for it", r.id, r.counted())
		}
	}
}

func (a *auditor) principal(id string) *principal {
	for _, p := range a.w.keys {
		if p.id == id {
			return p
		}
	}
	return nil
}

// caps adds up what really moved, for each cap and window, and holds it against the cap and against the books.
func (a *auditor) caps() {
	moved := make(map[accountKey]int64)
	for key, s := range a.w.truth.sent {
		r := a.owner[key]
		if r == nil {
			continue // reported
		}
		resource := "refunds"
		if strings.HasPrefix(s.first.Path, "/v1/payment_intents") {
			resource = "payment_intents"
		}
		a.add(moved, r, r, resource, unitCalls, 1)
		for _, e := range s.effects {
			in, cents := r, e.Amount
			if m := a.maker[e.Parent]; m != nil {
				in = m
			}
			switch e.Kind {
			case "capture":
				continue // out of an authorization that counts already
			case "release":
				cents = -cents
			}
			a.add(moved, r, in, resource, unitUSD, cents*10_000)
		}
	}
	for _, p := range a.w.keys {
		for _, rule := range p.rules {
			a.cap(p, rule, moved)
		}
	}
}

// add counts something for all caps and windows that it falls into; when is the reservation that decides the windows.
func (a *auditor) add(to map[accountKey]int64, r, when *reservation, resource string, unit int, n int64) {
	rec := a.w.books.record(when.fixed.Record)
	if rec == nil {
		return // reported
	}
	for _, per := range windows[2:] {
		for _, res := range []string{resource, "*"} {
			to[accountKey{r.key, res, per, unit, label(per, rec.At)}] += n
		}
	}
}

// label is the name of the window of an instant. All keys here live in UTC.
func label(per string, t time.Time) string {
	t = t.UTC()
	switch per {
	case "hour":
		return t.Format("2006-01-02T15+00:00")
	case "day":
		return t.Format("2006-01-02")
	case "month":
		return t.Format("2006-01")
	}
	return per
}

func (a *auditor) cap(p *principal, rule rule, moved map[accountKey]int64) {
	limit, unit := rule.cents*10_000, unitUSD
	if rule.calls > 0 {
		limit, unit = rule.calls, unitCalls
	}
	of := func(k accountKey) bool {
		return k.key == p.id && k.resource == rule.resource && k.per == rule.per && k.unit == unit
	}
	for k, n := range moved {
		if !of(k) {
			continue
		}
		if have := a.w.books.accounts[k]; n > have.held+have.settled {
			a.report("%d moved at Stripe on %s, the books have %+v", n, k, have)
		}
		if n > limit {
			a.report("%d moved at Stripe on %s, over the cap of %d", n, k, limit)
		}
	}
	for k, have := range a.w.books.accounts {
		if of(k) && have.held+have.settled > limit {
			a.report("the account %s has %+v, over the cap of %d", k, have, limit)
		}
	}
}

// calls holds everything that agents were told against Stripe and the books.
func (a *auditor) calls() {
	for _, c := range a.w.calls {
		if c.kind == read {
			a.answers(c)
			continue
		}
		keys := a.arrived[c.name()]
		if len(keys) > 1 {
			a.report("call %s reached Stripe under %d idempotency keys", c.id, len(keys))
		}
		a.answers(c)
		if told := c.succeeded(); told != nil {
			a.promised(c, told)
			continue
		}
		if len(keys) > 0 && c.refused() {
			a.report("call %s was refused with %s and reached Stripe", c.id, c.tries[0].code)
		}
		if len(keys) == 1 && c.failed() && len(a.w.truth.sent[keys[0]].effects) > 0 {
			a.report("call %s was answered %d %s, and money moved", c.id, c.tries[0].status, c.tries[0].code)
		}
	}
}

// answers checks that what each answer refers to is there, and that no two answers contradict each other.
func (a *auditor) answers(c *call) {
	var first *try
	for i := range c.tries {
		t := &c.tries[i]
		if t.status == 0 {
			continue
		}
		if t.unavailable() && (c.kind != read || a.w.nodes != nil) {
			continue // it may have no record: the store could not be written
		}
		// A process that was paused for long, or has no share of a busy machine, finds that it cannot reach Stripe in time; then
		// nothing may have reached it, which calls looks at.
		if t.status >= 500 && t.ours && !t.unknown() && t.code != "keybrake_upstream_unreachable" {
			a.report("call %s was answered %d %s", c.id, t.status, t.code)
		}
		rec := a.w.books.record(t.record)
		if rec == nil || rec.Key != c.who.id || t.status == 200 && (rec.Kind != "intent" || rec.Verdict != "allow") {
			a.report("call %s was answered %d with record %d, where there is %+v", c.id, t.status, t.record, rec)
		}
		if t.status != 200 || c.kind == read {
			continue
		}
		if first == nil {
			first = t
		}
		if t.object != first.object || t.amount != first.amount {
			a.report("call %s was answered with %s of %d, and later with %s of %d", c.id, first.object, first.amount, t.object, t.amount)
		}
	}
}

// promised checks a call that an agent was told has succeeded.
func (a *auditor) promised(c *call, told *try) {
	r := a.called[c.name()]
	if r == nil {
		a.report("call %s succeeded (%s) and no reservation holds it", c.id, told.object)
		return
	}
	if r.state != settled && !told.pending {
		a.report("call %s succeeded (%s), its reservation %d is %s", c.id, told.object, r.id, stateNames[r.state])
	}
	s := a.w.truth.sent[r.sent.Key]
	if s == nil {
		a.report("call %s succeeded (%s) and never reached Stripe", c.id, told.object)
		return
	}
	if c.kind == refund && (len(s.effects) != 1 || s.effects[0].Object != told.object || s.effects[0].Amount != told.amount) {
		a.report("call %s was told that %s moved %d cents, Stripe has %+v", c.id, told.object, told.amount, s.effects)
	}
	if c.kind != refund && r.counted() > told.amount {
		a.report("call %s made %s of %d cents, its reservation %d counts %d", c.id, told.object, told.amount, r.id, r.counted())
	}
}

// brakes checks that what was acknowledged to operators holds, and that nothing passed a brake.
func (a *auditor) brakes() {
	last := make(map[*principal]*act)
	for _, act := range a.w.acts {
		last[act.who] = act
	}
	for p, act := range last {
		if _, stopped := a.w.books.brakes["key:"+p.id]; act.acknowledged && stopped != act.stop {
			a.report("the brake of %s was acknowledged (stop: %t), and the books say %t", p.name, act.stop, stopped)
		}
	}
	for scope := range a.w.books.brakes {
		if !strings.HasPrefix(scope, "key:") { // a freeze, or books that are taken for older than they were
			a.report("money is stopped, and nobody asked for it: %s", scope)
		}
	}
	for _, c := range a.w.calls {
		for i := range c.tries {
			t := &c.tries[i]
			if !a.w.stopped(c.who, t.began, t.ended) {
				continue
			}
			// A node of a cluster that has not heard of a stop has no lease: it refuses, for whatever reason it finds first.
			if t.status != 0 && t.code != "keybrake_key_killed" && (a.w.nodes == nil || !t.ours || t.unknown()) {
				a.report("call %s was sent to a stopped key and answered %d %s", c.id, t.status, t.code)
			}
			if i == 0 && len(a.arrived[c.name()]) > 0 && len(c.tries) == 1 {
				a.report("call %s was sent to a stopped key and reached Stripe", c.id)
			}
		}
	}
}

// stopped reports whether a key was surely stopped all the while.
func (w *world) stopped(p *principal, from, to time.Time) bool {
	acts := w.acts // in order of time
	i := sort.Search(len(acts), func(i int) bool { return !acts[i].began.Before(to) })
	for i--; i >= 0; i-- {
		if act := acts[i]; act.who == p {
			return act.stop && act.acknowledged && act.ended.Before(from)
		}
	}
	return false
}
