package sim

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// class is a kind of call: what has to become of it, or may. An ordinary call has no must.
type class struct {
	name string
	must string   // the reason it has to be refused for
	may  []string // further reasons it may be refused for
	// marked: the policy would refuse it, and does not enforce anything.
	marked bool
}

// refused checks that a denial has the right reason, with the right figures.
func (a *auditor) refused(rec *audit.Record, c *change) {
	k, made := a.keys[rec.Key], a.calls[rec.RunID]
	if k == nil || made == nil || len(rec.Failures) == 0 {
		return
	}
	right := true
	switch code := rec.Failures[0].Code; code {
	case policy.CodeCapExceeded:
		for i := range rec.Caps {
			a.full(rec, &rec.Caps[i], k, made)
		}
	case policy.CodeKeyKilled, policy.CodeKeyReadOnly:
		right = slices.ContainsFunc(a.brakes, func(b *pulled) bool {
			return b.covers(k) && (b.released == 0 || b.released >= made.begun || a.now()-b.lifted < 90) && (b.readOnly || code == policy.CodeKeyKilled)
		})
	case policy.CodeOutcomePending:
		right = slices.ContainsFunc(k.claims, func(cl *claim) bool { return cl.state == ledger.Unresolved || cl.closed >= made.begun })
	case policy.CodeIdemInUse, policy.CodeIdemMismatch:
		right = slices.Contains(made.class.may, string(code)) && len(k.claims) > 0
	case policy.CodeKeyExpired:
		right = a.hadEnded(rec)
	case policy.CodeFrozen:
		right = a.frozen[k.id]
	case "keybrake_unavailable", "keybrake_upstream_unreachable", "keybrake_upstream_credential":
	default:
		right = string(code) == made.class.must || slices.Contains(made.class.may, string(code))
	}
	if !right {
		a.fail("I-32", "%s (%s) was refused for %s, which does not hold: %s", rec.RunID, made.class.name, rec.Failures[0].Code, rec.Failures[0].Message)
	}
}

// full checks that a cap that is said to be full was, with these figures, at some moment of the call.
func (a *auditor) full(rec *audit.Record, said *audit.Cap, k *keyBook, made *call) {
	l := limit{resource: said.Resource, per: said.Per, calls: said.Unit == policy.UnitCalls}
	if left := max(0, said.Limit-said.Held-said.Settled); left != said.Left {
		a.fail("I-32", "denial %d: %d of %d are used and %d is said to be left", rec.Seq, said.Held+said.Settled, said.Limit, said.Left)
	}
	if l.per != "call" {
		var asked int64
		known := false
		for _, e := range rec.Effects {
			if e.Bucket == l.resource || l.resource == "*" {
				asked, known = asked+int64(e.USD), true
			}
		}
		if l.calls {
			asked, known = 1, true
		}
		if known && asked <= said.Left && (l.calls || l.resource != "payment_intents") {
			a.fail("I-32", "denial %d: %s per %s has room for %d, %d was asked", rec.Seq, l.resource, l.per, said.Left, asked)
		}
	}
	label := window(l.per, rec.At, k.zone)
	if l.per == "call" || a.afterwards || label != window(l.per, made.at, k.zone) {
		return // one call's limit has no account; and a window that ended meanwhile has other figures
	}
	if open, settled := a.before(k, &l, label, rec.Seq); open == said.Held && settled == said.Settled {
		a.exact++
		return
	}
	began := false // whether the account was there before the call
	for key, history := range a.accounts {
		if key.Key != k.id || string(key.Resource) != l.resource || key.Per.String() != l.per || (key.Unit == policy.UnitCalls) != l.calls || key.Label != label {
			continue
		}
		for i, s := range history {
			began = began || s.step < made.begun
			over := i+1 < len(history) && history[i+1].step < made.begun
			if !over && s.Held == said.Held && s.Settled == said.Settled {
				a.exact++
				return
			}
		}
	}
	if !began && said.Held == 0 && said.Settled == 0 {
		a.exact++
		return
	}
	if slices.ContainsFunc(k.claims, func(cl *claim) bool { return !cl.gross() && (l.resource == "*" || l.resource == cl.bucket) }) {
		return // in the middle of a transaction, the books' word about intents is not at hand
	}
	a.fail("I-32", "denial %d: %s per %s is said to stand at held %d settled %d; it never did during %s", rec.Seq, l.resource, l.per, said.Held, said.Settled, made.run)
}

// before is how an account stood when a record was decided: with what came before it in the same transaction.
func (a *auditor) before(k *keyBook, l *limit, label string, seq int64) (open, settled int64) {
	for _, cl := range k.claims {
		if cl.books.AuditSeq < seq {
			o, s := a.counts(cl, l, label)
			open, settled = open+o, settled+s
		}
	}
	return open, settled
}

// brake takes down that an operator asks for a stop; inForce that it was said to hold.
func (a *auditor) brake(scope string, readOnly bool) *pulled {
	p := &pulled{scope: scope, readOnly: readOnly, asked: a.steps()}
	a.brakes = append(a.brakes, p)
	return p
}

// releasing takes down that a release of a scope was asked for: from here on calls may pass.
func (a *auditor) releasing(scope string) {
	for _, b := range a.brakes {
		if b.scope == scope {
			b.inForce = false
		}
	}
}

// released ends the brakes of a scope that were asked for before a step.
func (a *auditor) released(scope string, before int64) {
	for _, b := range a.brakes {
		if b.scope == scope && b.asked < before && b.released == 0 {
			b.released, b.lifted = a.steps(), a.now() // the memory of a process may follow a moment later
		}
	}
}

// crashed forgets stops that held in the memory of a process that is gone.
func (a *auditor) crashed() {
	for _, b := range a.brakes {
		if !b.durable {
			b.inForce = false
		}
	}
}

// finish holds what is durable at the end against what happened. crashes excuse what lived in memory only.
func (a *auditor) finish(r *rows, crashes int) {
	a.chain(r)
	outcomes := make(map[int64]int)
	var folded int64
	intents := make(map[string]int)
	for _, rec := range a.records {
		switch rec.Kind {
		case audit.KindOutcome:
			outcomes[rec.Ref]++
		case audit.KindFolded:
			folded += rec.Count
		case audit.KindIntent, audit.KindDenied:
			intents[rec.RunID]++
		}
	}
	for _, rec := range a.records {
		if rec.Kind != audit.KindIntent {
			continue
		}
		switch n := outcomes[rec.Seq]; {
		case n == 1, n == 0 && rec.Reservation == 0: // a read's outcome may be lost
		case n == 0 && rec.Repeat == "attached" && crashes > 0:
		default:
			a.fail("I-23", "intent %d of %s (%s) has %d outcomes", rec.Seq, rec.RunID, rec.Operation, n)
		}
	}
	var silent, unheard int64
	for _, run := range slices.Sorted(maps.Keys(a.calls)) {
		c := a.calls[run]
		if intents[run] > 1 {
			a.fail("I-22", "%s has %d intents or denials", run, intents[run])
		}
		switch {
		case intents[run] > 0 || !c.ended:
		case c.unheard:
			unheard++ // recorded if the store would have it, and then perhaps counted with others
		default:
			silent++
		}
	}
	if n := folded + a.lost; crashes == 0 && (n < silent || n > silent+unheard) {
		a.fail("I-23", "%d calls were answered without a record, %d were folded", silent, folded)
	}
	a.money(r)
}

// chain recomputes every hash.
func (a *auditor) chain(r *rows) {
	hash := audit.NewChain(audit.FirstChain).Hash
	for i, e := range r.entries {
		h := sha256.New()
		h.Write([]byte("keybrake-audit-v1\n"))
		h.Write(hash[:])
		h.Write(e.Bytes)
		hash = [32]byte(h.Sum(nil))
		if e.Seq != int64(i+1) || e.Hash != hash {
			a.fail("I-24", "record %d does not follow the one before it", e.Seq)
			return
		}
	}
	if len(r.entries) != len(a.records) {
		a.fail("I-23", "%d records are stored, %d became durable", len(r.entries), len(a.records))
	}
}

// money holds what the vendor did against what the books say it came to.
func (a *auditor) money(r *rows) {
	counted := make(map[string]int64)
	for k, o := range r.objects {
		if strings.HasPrefix(string(k.Object), "pi_") {
			n := o.Settled
			for _, c := range o.Claims {
				n += c.Minor
			}
			counted[string(k.Object)] += n
		}
	}
	open := make(map[string]bool)
	for _, id := range r.open {
		open[string(r.reservations[id].Key)] = true
	}
	for _, id := range slices.Sorted(maps.Keys(a.intents)) {
		if moved := a.intents[id]; moved > counted[id] && len(open) == 0 && r.objects != nil {
			a.fail("I-01", "%s came to %d, the books count %d", id, moved, counted[id])
		}
	}
	for _, cl := range a.claims {
		if cl.gross() && cl.state == ledger.Settled && cl.ran != cl.minor && !cl.echo {
			a.fail("I-07", "reservation %d settled %d and %d moved", cl.id, cl.minor, cl.ran)
		}
		if got := r.reservations[cl.id]; got == nil || got.State != cl.state {
			a.fail("I-05", "reservation %d ends as %v, its records say %s", cl.id, got, cl.state)
		}
	}
	for k, account := range r.accounts {
		a.sums(k, account)
	}
}

var _ = store.ScopeAll
