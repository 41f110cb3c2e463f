package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// maxRejudge bounds how often a call is judged again because its key's policy changed under it.
const maxRejudge = 3

// serve takes one call along the path of DESIGN section 4, steps 2 to 12. ctx is the agent's; from the
// admission on the call no longer depends on it.
func (g *Gateway) serve(ctx context.Context, j *journey) upstream.Response {
	defer j.leaveSlot()
	if refused := g.authenticate(j); refused != nil { // again: it may have been stopped while its body came in
		return g.deny(ctx, j, *refused)
	}
	if refused := g.parse(j); refused != nil {
		return g.deny(ctx, j, *refused)
	}
	for range maxRejudge {
		if stop := g.attach(ctx, j); stop != nil {
			return stop(g, ctx, j)
		}
		if j.resend == nil {
			if stop := g.judge(ctx, j); stop != nil {
				return stop(g, ctx, j)
			}
		}
		if j.key.Probe && j.call.Writes() {
			return g.deny(ctx, j, probed)
		}
		if err := g.takeSlot(ctx, j); err != nil {
			return g.busy(ctx, j, err)
		}
		if !j.call.Writes() {
			return g.read(ctx, j)
		}
		response, again := g.write(context.WithoutCancel(ctx), j)
		if !again {
			return response
		}
		if refused := g.again(j); refused != nil {
			return g.deny(ctx, j, *refused)
		}
	}
	return g.busy(ctx, j, errors.New("the key's policy keeps changing"))
}

// ending is how a call ends before it is admitted.
type ending func(*Gateway, context.Context, *journey) upstream.Response

func denied(failures ...policy.Failure) ending {
	return func(g *Gateway, ctx context.Context, j *journey) upstream.Response {
		return g.deny(ctx, j, failures...)
	}
}

func failed(err error) ending {
	return func(g *Gateway, ctx context.Context, j *journey) upstream.Response { return g.busy(ctx, j, err) }
}

// authenticate finds the key and what it is bound to.
func (g *Gateway) authenticate(j *journey) *policy.Failure {
	j.presented, _ = vault.PresentedFrom(j.raw.Header["Authorization"])
	key, sent, refused := g.Ring.Authenticate(vault.Attempt{
		Presented: j.presented, Now: g.Store.Now(), From: j.from, // whether it writes, the route will tell
	})
	j.key, j.credential = key, sent
	if key != nil {
		j.policy = key.Effective()
		j.upstream, _ = g.Ring.Upstream(key.Upstream)
	}
	if refused == nil && j.upstream == nil {
		return &policy.Failure{Code: policy.CodeKeyInvalid, Rule: "key", Message: "The vault key's upstream is gone. Ask its operator for a new one."}
	}
	return refused
}

// keyEnded says that the key, or the credential that the agent sent, has ended by a time: while the call waited, say.
func (j *journey) keyEnded(now time.Time) *policy.Failure { return j.key.Ended(j.credential, now) }

// parse turns the raw request into a call.
func (g *Gateway) parse(j *journey) *policy.Failure {
	call, refusal := g.Adapter.Parse(j.raw, j.upstream.Version)
	j.call, j.unread = call, refusal != nil
	if refusal != nil {
		if outside := outOfScope(j); outside != nil {
			return outside
		}
		return failureOf(refusal)
	}
	call.Upstream, call.SecretsPass = j.key.Upstream, j.policy.ClientSecrets
	j.policy.Waive(&call.Operation)
	return g.Ring.LastLook(j.key, call.Writes())
}

// outOfScope says that a call which cannot be read is none of the key's business either: whatever is wrong with
// it, a call outside the scopes is answered as one.
func outOfScope(j *journey) *policy.Failure {
	if j.call == nil || j.policy.Enforcement == policy.Shadow {
		return nil
	}
	d := policy.Decide(j.policy, &j.call.Operation)
	i := slices.IndexFunc(d.Failures, func(f policy.Failure) bool { return f.Code == policy.CodeScopeDenied })
	if i < 0 {
		return nil
	}
	return &d.Failures[i]
}

func failureOf(r *policy.Refusal) *policy.Failure {
	return &policy.Failure{Code: r.Code, Rule: "catalog", Param: r.Param, Message: r.Message}
}

// again prepares a call to be judged anew, under the key as it is now.
func (g *Gateway) again(j *journey) *policy.Failure {
	j.resend, j.decision = nil, policy.Decision{}
	if refused := g.authenticate(j); refused != nil {
		return refused
	}
	return g.parse(j)
}

// probed ends a write of a twin that `keybrake verify` made: it is known what would have become of it.
var probed = policy.Failure{
	Code: policy.CodeProbe, Rule: "probe",
	Message: "This key only probes: the call is allowed, and stops here. Nothing was held or sent.",
}

// attaches reports whether a second call with the same idempotency key is the same call: the agent sent one, and the
// vendor gives it a meaning there (Stripe's v1 does on POST only).
func (j *journey) attaches() bool {
	return j.call.Writes() && j.call.IdempotencyKey != "" && j.call.AttachFor > 0
}

// attach finds the reservation that the agent's idempotency key belongs to, before anything is looked up.
func (g *Gateway) attach(ctx context.Context, j *journey) ending {
	if !j.attaches() {
		return nil
	}
	r, err := g.Store.Attached(ctx, j.key.ID, j.call.Account, g.upstreamKey(j, j.call.IdempotencyKey))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return failed(err)
	}
	return g.attachTo(j, r)
}

// attachTo decides what a second use of an idempotency key is: a retry, another call under the same key,
// the same call while the first is still on the wire, or, after too long, a new call.
func (g *Gateway) attachTo(j *journey, r *ledger.Reservation) ending {
	switch {
	case r.State == ledger.Released:
		return nil
	case r.State != ledger.Reserved && g.Store.Now().Sub(r.FirstSent) > j.call.AttachFor:
		return nil
	case r.Fingerprint != j.call.Fingerprint:
		return denied(policy.Failure{
			Code: policy.CodeIdemMismatch, Rule: "idempotency",
			Message: "This idempotency key was used before with other parameters or for another operation. Send a new key for a new call.",
		})
	case r.State == ledger.Reserved:
		return denied(inUse)
	}
	j.resend = r
	if j.call.Operation.Customer.Customers == nil {
		j.call.Operation.Customer.Customers = r.Customers // found out by the first attempt's look-ups; for the record
	}
	if held := slices.Clone(r.Effects); len(held) == len(j.call.Operation.Effects) {
		for i := range held {
			// The object that the first answer named is no part of what was asked: another one now is a second run.
			held[i].Object = j.call.Operation.Effects[i].Object
		}
		j.call.Operation.Effects = held // what was held is what the answer is read against
	}
	return nil
}

var inUse = policy.Failure{
	Code: policy.CodeIdemInUse, Rule: "idempotency",
	Message: "A call with this idempotency key is on its way. Wait for its answer, then send the key again.",
}

// judge decides, looks up what only the vendor knows, and decides again.
func (g *Gateway) judge(ctx context.Context, j *journey) ending {
	op := &j.call.Operation
	g.quote(op)
	j.decision = policy.Decide(j.policy, op)
	if j.decision.Verdict == policy.Deny {
		return refuse
	}
	if !op.NeedsLookup(j.policy) {
		if !op.Resolved {
			op.Resolved = true // nothing was left open: the same decision, now complete
			if j.decision = policy.Decide(j.policy, op); j.decision.Verdict == policy.Deny {
				return refuse
			}
		}
		return g.fullAlready(ctx, j)
	}
	if stop := g.fullAlready(ctx, j); stop != nil {
		return stop
	}
	refusal, err := g.Adapter.Resolve(ctx, j.call, j.policy, g.lookup(j))
	if err != nil {
		return g.lookupFailed(err)
	}
	if refusal != nil {
		return denied(*failureOf(refusal))
	}
	g.quote(op)
	if j.decision = policy.Decide(j.policy, op); j.decision.Verdict == policy.Deny {
		return refuse
	}
	if !op.Resolved {
		return failed(errors.New("the adapter left the operation unresolved")) // unknown means no
	}
	return g.fullAlready(ctx, j) // now that the amounts are known
}

// refuse ends a call with every rule that it broke.
func refuse(g *Gateway, ctx context.Context, j *journey) upstream.Response {
	return g.deny(ctx, j, j.decision.Failures...)
}

// quote fixes the rate of every effect whose amount is known.
func (g *Gateway) quote(op *policy.Operation) {
	for i := range op.Effects {
		e := &op.Effects[i]
		if !e.Known || e.Quote.Value != 0 {
			continue
		}
		quote, err := g.Rates().Quote(e.Amount.Currency, g.Store.Now())
		if err == nil {
			e.USD, err = quote.USD(e.Amount.Minor)
		}
		if err != nil {
			e.NoRate = err.Error()
			continue
		}
		e.Quote = quote
	}
}

// read takes a read to the vendor while its intent record is being written, and waits for both.
func (g *Gateway) read(ctx context.Context, j *journey) upstream.Response {
	record := g.intent(j)
	type admission struct {
		admitted store.Admitted
		took     time.Duration
		err      error
	}
	recorded := make(chan admission, 1)
	j.judged()
	go func() {
		start := time.Now()
		a, err := g.Store.Admit(context.WithoutCancel(ctx), &store.Admission{
			Key: j.key.ID, KeyVersion: j.key.Version, Upstream: j.key.Upstream, Record: record, StatusOf: g.statusOf, Ended: j.keyEnded,
		})
		recorded <- admission{a, time.Since(start), err}
	}()
	answer, stopped := g.send(ctx, j, g.request(j), false, g.Store.Now())
	done := <-recorded
	j.took.Admit, j.took.Upstream = done.took, answer.Took
	switch {
	case done.err != nil:
		return g.unavailable(j, done.err)
	case done.admitted.Stale:
		// The store wrote nothing: the answer is withheld, and the refusal is this call's record.
		return g.busy(ctx, j, errors.New("the key's policy changed while the call was on its way"))
	case done.admitted.Verdict == policy.Deny:
		return g.render(j, done.admitted.Entry, record.Failures)
	}
	j.admitted = done.admitted
	if stopped != nil {
		return g.stoppedAtLastLook(ctx, j, stopped)
	}
	return g.finishRead(j, &answer)
}

// write admits a write, sends it, settles it and answers. again asks for the call to be judged anew.
func (g *Gateway) write(ctx context.Context, j *journey) (response upstream.Response, again bool) {
	if n := g.unsettled.Load(); n > 0 && len(j.call.Operation.Effects) > 0 {
		return g.busy(ctx, j, errUnsettled(n)), false
	}
	request := g.request(j)
	if j.resend != nil {
		sent, err := upstream.DecodeSent(j.resend.Sent)
		if err != nil {
			return g.busy(ctx, j, err), false
		}
		if _, busy := g.resending.LoadOrStore(j.resend.ID, true); busy {
			return g.deny(ctx, j, inUse), false
		}
		defer g.resending.Delete(j.resend.ID)
		request = sent
	}
	admission, err := g.admission(j, request)
	if err != nil {
		return g.busy(ctx, j, err), false
	}
	j.judged()
	start := time.Now()
	j.admitted, err = g.Store.Admit(ctx, admission)
	j.took.Admit += time.Since(start)
	switch a := &j.admitted; {
	case err != nil:
		return g.unavailable(j, err), false
	case a.Stale:
		return upstream.Response{}, true
	case a.InUse != nil:
		// Another call took the idempotency key between our look and the admission.
		if stop := g.attachTo(j, a.InUse); stop != nil {
			return stop(g, ctx, j), false
		}
		return upstream.Response{}, true
	case a.Verdict == policy.Deny:
		return g.render(j, a.Entry, admission.Record.Failures), false
	}
	now := g.Store.Now()
	if now.Sub(j.admitted.Entry.At) > leaveWithin {
		return g.stoppedAtLastLook(ctx, j, &late), false
	}
	answer, stopped := g.send(ctx, j, request, true, now)
	j.took.Upstream = answer.Took
	if stopped != nil {
		return g.stoppedAtLastLook(ctx, j, stopped), false
	}
	return g.finishWrite(ctx, j, &answer), false
}

// late ends a write that did not leave soon after its admission. The vendor's memory of idempotency keys and whoever asks
// later what became of it go by the admission's time: one that leaves hours after it would be looked for where it is not.
var late = policy.Failure{
	Code: upstream.CodeUnavailable, Rule: "keybrake",
	Message: "Keybrake stood still for too long after the call was admitted, so it was not sent. Try again.",
}

// admission asks the store for the brake, the holds and the intent record.
func (g *Gateway) admission(j *journey, request *upstream.Request) (*store.Admission, error) {
	a := &store.Admission{
		Key: j.key.ID, KeyVersion: j.key.Version, Upstream: j.key.Upstream, Writes: true, Record: g.intent(j),
		AllowRepeat: j.policy.RepeatUnknown, AttachFor: j.call.AttachFor, StatusOf: g.statusOf, Ended: j.keyEnded,
	}
	a.Reserve = g.reserve(j)
	if j.resend != nil {
		a.Resend = j.resend.ID
		return a, nil
	}
	var err error
	if a.Reserve.Sent, err = upstream.EncodeSent(request); err != nil {
		return nil, err
	}
	if j.attaches() {
		// Not the agent's own text: whatever it put into its key, a secret included, stays out of the store.
		a.Reserve.IdemKey = g.upstreamKey(j, j.call.IdempotencyKey)
	}
	return a, nil
}

// reserve is what the ledger is asked for: the call's effects, to be held against all caps of its key.
func (g *Gateway) reserve(j *journey) *ledger.Request {
	op := &j.call.Operation
	return &ledger.Request{
		Key: j.key.ID, Upstream: j.key.Upstream, Operation: op.Name, Customers: op.Customer.Customers,
		Caps: j.policy.Caps, Zone: j.policy.Timezone, Effects: op.Counted(), Counts: op.Counts(),
		Soft:        j.policy.Enforcement == policy.Shadow,
		IdemAccount: j.call.Account, Fingerprint: j.call.Fingerprint,
	}
}

// resolution is what became of the call, for its reservation if it has one.
func (j *journey) resolution(record *audit.Record, fate ledger.Fate) *store.Resolution {
	r := &store.Resolution{Record: record, Fate: fate}
	if of := j.admitted.Reservation; of != nil {
		r.Reservation, r.Made = of.ID, of.At
	}
	return r
}
