package gateway

import (
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// Ended is what there is to tell of a call when its agent has its answer: for counters and for a line in a log, never for
// a decision. Nothing in it is secret, and everything that an agent wrote itself is bounded.
type Ended struct {
	AuditID string // of its record; empty if there is none
	Request string
	Trace   Trace

	Key      policy.KeyID // empty: no key was recognized
	KeyName  string
	Upstream string // its name
	Mode     string // test or live
	From     string // address
	RunID    string

	Operation policy.OperationName // empty: none was recognized
	Method    string
	Route     string // the template
	Writes    bool

	Verdict policy.Verdict // as on record: a call that was admitted and stopped at the last look was allowed
	Code    policy.Code    // of the refusal that the agent got; empty: it got the vendor's answer
	Rule    string
	Shadow  bool // enforcement would have denied

	Amount    money.Amount // of the first movement of money
	USD       money.USD    // of all of them
	Customers []policy.CustomerID

	Status         int    // what the agent got
	UpstreamStatus int    // what the vendor answered; 0: it was not asked, or gave no answer
	Fate           string // moved, refused, unknown; empty: it was not sent
	Repeat         string // of the agent's idempotency key, as on record

	Took    Timings
	Lookups int
	// Caps is how the caps stand that the call counts against.
	Caps []store.CapState

	// Folded: the refusal is like one that was just recorded, and is counted with it. A summary follows.
	Folded bool
	// Count is set on a summary of that many refusals, each of which was told before with Folded; 0: this is a call.
	Count int64
}

// Timings say where a call's time went. What overlaps is in both: a read is admitted while the vendor is asked.
type Timings struct {
	Read     time.Duration // until the request was there
	Wait     time.Duration // for a slot, and for a turn to look something up
	Decide   time.Duration // parsing, deciding, and everything else before the admission
	Lookups  time.Duration // the vendor's part of them
	Admit    time.Duration // until holds and record were durable
	Upstream time.Duration // the vendor's part of the call itself
	Settle   time.Duration // until the outcome was durable; 0 for a read, nobody waits for its
	Total    time.Duration
}

// Ours is the time that the call would not have taken without Keybrake, its look-ups included.
func (t Timings) Ours() time.Duration { return t.Total - t.Read - t.Upstream }

// judged notes that everything before the admission is over.
func (j *journey) judged() {
	t := &j.took
	t.Decide = time.Since(j.start) - t.Read - t.Wait - t.Lookups - t.Admit - t.Upstream - t.Settle
}

// tell says that a call has ended.
func (g *Gateway) tell(j *journey) {
	if g.Ended == nil || j.told {
		return
	}
	j.told = true
	if j.took.Decide == 0 {
		j.judged()
	}
	j.took.Total = time.Since(j.start)
	e := &Ended{
		AuditID: j.auditID(), Request: j.request, Trace: j.trace, From: j.from.String(), RunID: j.run, Method: j.raw.Method,
		Verdict: j.admitted.Verdict, Code: j.code, Rule: j.rule, Status: j.status, UpstreamStatus: j.upstreamStatus, Fate: j.fate,
		Took: j.took, Lookups: j.lookups, Caps: j.admitted.Caps, Folded: j.folded,
		Shadow: j.decision.Shadowed || len(j.admitted.Full) > 0 && j.admitted.Verdict == policy.Allow,
	}
	if e.AuditID == "" {
		e.AuditID = j.foldedInto
	}
	if j.key != nil {
		e.Key, e.KeyName, e.Mode = j.key.ID, j.key.Name, j.key.Mode.String()
	}
	if j.upstream != nil {
		e.Upstream = j.upstream.Name
	}
	if j.raw.Path == selfPath && j.call == nil {
		e.Operation = selfOperation
		if j.code == "" {
			e.Verdict = policy.Allow
		}
	}
	if j.call != nil {
		op := &j.call.Operation
		e.Operation, e.Route, e.Writes, e.Customers = op.Name, j.call.Template, j.call.Writes(), op.Customer.Customers
		for i := range op.Effects {
			if effect := &op.Effects[i]; effect.Known {
				if e.Amount.Currency == "" {
					e.Amount = effect.Amount
				}
				e.USD += effect.USD
			}
		}
		switch {
		case j.resend != nil:
			e.Repeat = "attached"
		case j.admitted.Detached:
			e.Repeat = "anew"
		case j.attaches():
			e.Repeat = "first"
		}
	}
	g.Ended(e)
}

// selfOperation stands for agents' questions about their own key, which are no operation of the vendor's.
const selfOperation = "keybrake.self"

// tellFolds sums up refusals that were told one by one.
func (g *Gateway) tellFolds(records []*audit.Record) {
	if g.Ended == nil {
		return
	}
	for _, r := range records {
		e := &Ended{
			Key: r.Key, KeyName: r.KeyName, Mode: r.Mode, Operation: r.Operation, From: r.From, Method: r.Method, Route: r.Route,
			Status: r.Status, Count: r.Count,
		}
		if r.Ref != 0 {
			e.AuditID = audit.ID(audit.FirstChain, r.Ref)
		}
		if len(r.Failures) > 0 {
			e.Code, e.Rule = r.Failures[0].Code, r.Failures[0].Rule
		}
		g.Ended(e)
	}
}
