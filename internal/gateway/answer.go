package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
)

var errLookupBusy = errors.New("busy")

func errUnsettled(n int64) error {
	return fmt.Errorf("%d outcomes could not be written to the store yet", n)
}

// finishRead answers a read: guarded, with its outcome recorded behind.
func (g *Gateway) finishRead(j *journey, answer *upstream.Answer) upstream.Response {
	outcome := g.Adapter.Outcome(j.call, answer)
	response, guarded := g.show(j, answer, &outcome, j.policy)
	record := g.outcomeRecord(j, answer, outcome)
	if guarded.Tripped && j.policy.Enforcement == policy.Enforce {
		foreign := policy.Failure{
			Code: policy.CodeCustomerDenied, Rule: "customers",
			Message: "The answer showed a customer that this vault key may not see, so it was withheld. Ask for what belongs to this key's customers only.",
		}
		record.Failures = []policy.Failure{foreign}
		response = g.Adapter.Refuse(g.denial(j, foreign))
	}
	j.ended = true
	record.Guarded, record.Withheld, record.Status = guarded.Tripped, guarded.Withheld, response.Status
	g.background.Go(func() {
		// The intent is on record; a read's outcome is told behind, and a full queue may cost it.
		if _, err := g.Store.Log(context.Background(), record); err != nil {
			g.Log.Warn("a read's outcome was not recorded", "audit_id", j.auditID(), "err", err)
		}
	})
	return g.finish(j, response)
}

// finishWrite settles what an answer says and passes it on.
func (g *Gateway) finishWrite(ctx context.Context, j *journey, answer *upstream.Answer) upstream.Response {
	outcome := g.Adapter.Outcome(j.call, answer)
	if j.resend != nil {
		outcome = retried(outcome, answer.Status)
	}
	if err := g.Adapter.Follow(ctx, j.call, answer, &outcome, g.lookup(j)); err != nil {
		g.Log.Warn("what an answer names could not be read; it stays counted as it was held", "audit_id", j.auditID(), "err", err)
	}
	seen := j.policy
	joins := policy.CustomerID("")
	if outcome.Fate == upstream.Moved && outcome.NewCustomer != "" && !j.policy.Customers.Any && j.policy.MayCreate {
		joins, seen = outcome.NewCustomer, joined(j.policy, outcome.NewCustomer)
	}
	response, guarded := g.show(j, answer, &outcome, seen)
	record := g.outcomeRecord(j, answer, outcome)
	record.Guarded, record.Withheld, record.Status = guarded.Tripped, guarded.Withheld, response.Status
	resolution := j.resolution(record, g.fate(j, answer, &outcome))
	resolution.Joins = joins
	record.Proof = string(resolution.Fate.Proof)
	if guarded.Tripped && outcome.Fate != upstream.Refused && j.policy.Enforcement == policy.Enforce {
		resolution.Freeze = "the answer to " + string(j.call.Operation.Name) + " showed a customer that is not allowed"
	}
	if j.resend != nil && j.resend.State == ledger.Settled {
		g.settledBefore(j, resolution, &outcome)
		record.Proof = ""
	}
	resolved(record, resolution)
	settled := g.settle(ctx, j, resolution)
	response = g.finish(j, response)
	if !settled {
		response.Header.Set("Keybrake-Settlement", "pending")
	}
	return response
}

// resolved notes what a resolution says beyond its record's fate.
func resolved(r *audit.Record, by *store.Resolution) {
	r.Pending = by.Fate.Pending
	for _, f := range by.Fate.Finals {
		r.Finals = append(r.Finals, audit.Final{Bucket: string(f.Bucket), Object: string(f.Object), Amount: f.Amount})
	}
}

// settledBefore completes the resolution of a retry whose first attempt was settled: that stands. The vendor must say so
// too: an answer that is no replay is a second run, for which nothing was held.
func (g *Gateway) settledBefore(j *journey, r *store.Resolution, o *upstream.Outcome) {
	again := r.Fate
	r.Fate = ledger.Fate{State: ledger.Settled}
	if o.Fate != upstream.Moved || o.Replayed || again.State != ledger.Settled || !j.call.MarksReplays && sameObjects(j.resend, again.Moved) {
		return
	}
	r.Freeze = "the upstream ran " + string(j.call.Operation.Name) + " again under an idempotency key that it had answered before"
	request := g.reserve(j)
	request.AuditSeq, request.Sent = j.admitted.Entry.Seq, j.resend.Sent
	r.Again = &store.Rerun{Request: request, Fate: again}
}

// sameObjects reports whether an answer is about the very objects that a reservation was settled for.
func sameObjects(r *ledger.Reservation, moved []ledger.Moved) bool {
	for i, m := range moved {
		if m.Object == "" || m.Object != r.Effects[i].Object {
			return false
		}
	}
	return len(moved) > 0
}

// retried reads an answer to a call that was sent before. A refusal of this attempt proves something about
// the first one only if the vendor says that it is the first one's answer, or if it got as far as asking
// the bank: whatever had run before would have been replayed.
func retried(o upstream.Outcome, status int) upstream.Outcome {
	if o.Fate == upstream.Refused && !o.Replayed && status != http.StatusPaymentRequired {
		o.Fate, o.Why = upstream.Unknown, "the retry was refused ("+o.Why+"), the first attempt is still unknown"
	}
	return o
}

func joined(p *policy.Policy, c policy.CustomerID) *policy.Policy {
	with := *p
	with.Customers = p.Customers.With(c)
	return &with
}

// fate translates an outcome into what the ledger does.
func (g *Gateway) fate(j *journey, answer *upstream.Answer, o *upstream.Outcome) ledger.Fate {
	f := ledger.Fate{State: ledger.Unresolved, UpstreamRequest: o.RequestID, Why: o.Why}
	for _, final := range o.Finals {
		f.Finals = append(f.Finals, ledger.Final(final))
	}
	switch {
	case o.Fate == upstream.Refused && !answer.Sent:
		f.State, f.Proof = ledger.Released, ledger.ProofNotWritten
	case o.Fate == upstream.Refused:
		f.State, f.Proof = ledger.Released, ledger.ProofRefused
	case o.Fate == upstream.Moved && o.Replayed && j.admitted.Detached:
		f.State, f.Proof = ledger.Released, ledger.ProofReplayed
	case o.Fate == upstream.Moved:
		f.State, f.Pending, f.Moved = ledger.Settled, o.Pending, j.moved(o.Moved)
		if r := j.admitted.Reservation; r != nil && len(f.Moved) != len(r.Effects) {
			// Read against other effects than were held: rather an open hold than a wrong settlement.
			f = ledger.Fate{State: ledger.Unresolved, UpstreamRequest: o.RequestID, Why: "the answer does not fit what was held"}
		}
	}
	return f
}

// moved leaves out what was not held: effects that the policy unmeters.
func (j *journey) moved(all []upstream.MovedEffect) []ledger.Moved {
	out := make([]ledger.Moved, 0, len(all))
	for i, m := range all {
		if e := &j.call.Operation.Effects[i]; e.Known && !e.Unmeterable {
			out = append(out, ledger.Moved(m))
		}
	}
	return out
}

// show turns an answer, or the lack of one, into what the agent sees.
func (g *Gateway) show(j *journey, answer *upstream.Answer, o *upstream.Outcome, p *policy.Policy) (upstream.Response, upstream.Guarded) {
	failure := func(code policy.Code, retry bool, message string) (upstream.Response, upstream.Guarded) {
		d := g.denial(j, policy.Failure{Code: code, Rule: "upstream", Message: message})
		d.Retry = retry
		if r := j.admitted.Reservation; o.Fate == upstream.Unknown && r != nil {
			d.Reservation = "rsv_" + strconv.FormatInt(int64(r.ID), 10)
		}
		return g.Adapter.Refuse(d), upstream.Guarded{}
	}
	switch {
	case o.CredentialRefused:
		g.Log.Error("the upstream refuses our credential", "upstream", j.upstream.Name, "status", answer.Status, "upstream_request", o.RequestID)
		return failure(upstream.CodeCredential, false, credentialRefused)
	case answer.Status == 0 && !answer.Sent:
		return failure(upstream.CodeUnreachable, true, "The upstream could not be reached; nothing was sent. Try again.")
	case o.Fate == upstream.Unknown && j.call.Writes() && (o.Garbled || !shows(answer)):
		return failure(upstream.CodeOutcomeUnknown, j.attaches(),
			"The call was sent, but its outcome is not known ("+o.Why+"). What it may have moved stays held. "+cure(j))
	case !shows(answer):
		return failure(upstream.CodeUnreachable, true, "The upstream gave no usable answer to this read ("+o.Why+"). Try again.")
	}
	guarded := g.Adapter.Guard(j.call, p, answer)
	return upstream.Response{Status: guarded.Status, Header: guarded.Header, Body: guarded.Body}, guarded
}

// cure says how an agent learns the outcome of a call that nobody knows yet.
func cure(j *journey) string {
	if j.attaches() {
		return "Send it again with the same idempotency key to learn the outcome."
	}
	return "No idempotency key binds it, so sending it again could do it twice: look at Stripe whether it happened, or ask an operator."
}

// shows reports whether an answer is whole and the vendor's own word about the call.
func shows(a *upstream.Answer) bool {
	return a.Err == nil && (a.Status >= 200 && a.Status < 300 || a.Status >= 400 && a.Status < 500)
}

// How far a settlement has come.
const (
	settling    int32 = iota // the agent's answer waits for it
	settledNow               // it was written in time
	outstanding              // it is counted in unsettled
)

// settle writes a resolution. If the store cannot, or not within StoreWait, the agent still gets the truth: the hold
// stays, the writing goes on behind, and until it succeeds no new money call is taken.
func (g *Gateway) settle(ctx context.Context, j *journey, r *store.Resolution) bool {
	j.ended = true
	var state atomic.Int32
	outstands := func(err error) bool {
		if !state.CompareAndSwap(settling, outstanding) {
			return state.Load() == outstanding
		}
		g.unsettled.Add(1)
		g.Log.Error("an outcome could not be written; it is tried again and new money calls wait", "audit_id", j.auditID(), "err", err)
		return true
	}
	written, failed := make(chan store.Resolved, 1), make(chan struct{}, 1)
	g.background.Go(func() {
		resolved, err := g.Store.Resolve(ctx, r)
		for pause := settleRetry; err != nil; pause = min(2*pause, settleRetryMax) {
			outstands(err)
			select {
			case failed <- struct{}{}:
			default:
			}
			select {
			case <-g.quit:
				return
			case <-time.After(pause):
			}
			resolved, err = g.Store.Resolve(ctx, r)
		}
		inTime := state.CompareAndSwap(settling, settledNow)
		g.settled(j, r, resolved)
		if !inTime {
			g.unsettled.Add(-1)
		}
		written <- resolved
	})
	late := time.NewTimer(g.StoreWait)
	defer late.Stop()
	start := time.Now()
	defer func() { j.took.Settle += time.Since(start) }()
	select {
	case <-failed:
		return false
	case <-late.C:
		if outstands(fmt.Errorf("%w: waited %s", store.ErrBusy, g.StoreWait)) {
			return false
		}
		j.renew(<-written) // just now
	case resolved := <-written:
		j.renew(resolved)
	}
	return true
}

// renew takes over how the caps stand after a settlement, so that the agent is told what is left after all.
func (j *journey) renew(resolved store.Resolved) {
	j.admitted.Caps = store.Renewed(j.admitted.Caps, resolved.Caps)
}

// settled follows up on what is durable now.
func (g *Gateway) settled(j *journey, r *store.Resolution, done store.Resolved) {
	for _, o := range done.Overs {
		g.Log.Error("the upstream moved more than was held; the key's writes are frozen",
			"key", j.key.ID, "bucket", o.Bucket, "held_usd", o.Held.String(), "moved_usd", o.Moved.String(), "audit_id", j.auditID())
	}
	if done.Forgotten {
		g.Log.Error("the store has forgotten a call that was on the wire when it was set back; unless nothing moved, the key's writes are frozen",
			"key", j.key.ID, "fate", r.Record.Fate, "outcome", audit.ID(audit.FirstChain, done.Entry.Seq))
		return // not even a created customer is in the list
	}
	if r.Freeze != "" {
		g.Log.Error("a key's writes are frozen", "key", j.key.ID, "why", r.Freeze, "audit_id", j.auditID())
	}
	if r.Joins == "" {
		return
	}
	if err := g.join(j.key.ID, r.Joins); err != nil {
		// Durable already: until the next change or restart this process only refuses more than it must.
		g.Log.Error("a created customer is not in the key's list in memory", "key", j.key.ID, "err", err)
	}
}

// deny records a refusal and renders its first reason. A refusal that cannot be recorded is a 503: no
// record, no call.
func (g *Gateway) deny(ctx context.Context, j *journey, failures ...policy.Failure) upstream.Response {
	return g.refuse(ctx, j, false, "", failures...)
}

// refuse is deny for calls that may succeed when they are sent again (retry), with what operators are told
// beyond the failure's own words (why).
func (g *Gateway) refuse(ctx context.Context, j *journey, retry bool, why string, failures ...policy.Failure) upstream.Response {
	record := g.intent(j)
	record.Failures, record.Why = nil, why
	for _, f := range failures {
		record.Deny(f)
	}
	denial := g.denial(j, failures[0])
	denial.Retry = retry
	record.Status = g.statusOf(failures[0])
	id, err := g.recordDenial(context.WithoutCancel(ctx), j, record)
	if err != nil {
		return g.unavailable(j, err)
	}
	denial.AuditID = id
	return g.finish(j, g.Adapter.Refuse(denial))
}

// statusOf is the status that an agent gets for a denial.
func (g *Gateway) statusOf(f policy.Failure) int {
	return g.Adapter.Refuse(upstream.Denial{Code: f.Code, ScopeStatus: g.ScopeStatus}).Status
}

// render answers a refusal that the admission recorded.
func (g *Gateway) render(j *journey, entry audit.Entry, failures []policy.Failure) upstream.Response {
	j.admitted.Entry = entry
	return g.finish(j, g.Adapter.Refuse(g.denial(j, failures[0])))
}

// stoppedAtLastLook ends a call that was admitted and then met a brake, or came too late: nothing of it was sent. What
// an earlier attempt under the same idempotency key did is as open as before.
func (g *Gateway) stoppedAtLastLook(ctx context.Context, j *journey, f *policy.Failure) upstream.Response {
	denial := g.denial(j, *f)
	denial.Retry = f.Code == upstream.CodeUnavailable
	response := g.Adapter.Refuse(denial)
	record := g.outcomeRecord(j, nil, upstream.Outcome{Fate: upstream.Refused, Why: "stopped at the last look"})
	record.Failures, record.Status = []policy.Failure{*f}, response.Status
	fate := ledger.Fate{State: ledger.Released, Proof: ledger.ProofNotSent, Why: f.Message}
	if j.resend != nil {
		fate = j.unchanged(f.Message)
	}
	record.Proof = string(fate.Proof)
	resolution := j.resolution(record, fate)
	resolution.OnWire = j.resend == nil // another node may have taken it over from this one, and sent it again
	g.settle(context.WithoutCancel(ctx), j, resolution)
	return g.finish(j, response)
}

// unchanged is the fate that leaves a reservation's money where it is.
func (j *journey) unchanged(why string) ledger.Fate {
	if r := j.admitted.Reservation; r != nil && r.State == ledger.Settled {
		return ledger.Fate{State: ledger.Settled}
	}
	return ledger.Fate{State: ledger.Unresolved, Why: why}
}

// overloaded is the failure of a call for which we could not do our part. A read may have been sent already: it is
// while it is being recorded.
func (j *journey) overloaded() policy.Failure {
	f := policy.Failure{
		Code: upstream.CodeUnavailable, Rule: "keybrake",
		Message: "Keybrake cannot take the call right now; it was not sent. Try again.",
	}
	if j.call != nil && !j.call.Writes() {
		f.Message = "Keybrake cannot take or record this read right now, so it gives no answer to it. Try again."
	}
	return f
}

// busy answers a call for which we could not do our part, and records it if the store will have it.
func (g *Gateway) busy(ctx context.Context, j *journey, err error) upstream.Response {
	failure := j.overloaded()
	if crowded, ok := isCrowded(err); ok {
		failure.Message = crowded.message // no line in the log: a flood would fill it, and its records are folded
	} else {
		g.Log.Warn("a call could not be taken", "request", j.request, "err", err)
	}
	return g.refuse(ctx, j, true, err.Error(), failure)
}

// unavailable is busy where the store itself fails: there can be no record of it but the log's line.
func (g *Gateway) unavailable(j *journey, err error) upstream.Response {
	g.Log.Error("a call could not be taken or recorded", "request", j.request, "err", err)
	d := g.denial(j, j.overloaded())
	d.Retry = true
	return g.finish(j, g.Adapter.Refuse(d))
}

// lookupFailed ends a call whose look-up had no answer.
func (g *Gateway) lookupFailed(err error) ending {
	var stopped stoppedError
	switch {
	case errors.As(err, &stopped):
		return denied(stopped.failure)
	case errors.Is(err, errLookupBusy):
		return failed(err)
	}
	if _, crowded := isCrowded(err); crowded {
		return failed(err)
	}
	return func(g *Gateway, ctx context.Context, j *journey) upstream.Response {
		if errors.Is(err, upstream.ErrCredential) {
			g.Log.Error("the upstream refuses our credential", "upstream", j.upstream.Name, "err", err)
			return g.refuse(ctx, j, false, err.Error(), policy.Failure{Code: upstream.CodeCredential, Rule: "upstream", Message: credentialRefused})
		}
		g.Log.Warn("a look-up failed", "request", j.request, "err", err)
		return g.refuse(ctx, j, true, err.Error(), policy.Failure{
			Code: upstream.CodeUnreachable, Rule: "upstream",
			Message: "The upstream could not be asked what the call needs to know; the call was not sent. Try again.",
		})
	}
}

const credentialRefused = "Stripe refused the credential that Keybrake holds for this upstream. An operator has to look at it."

// denial fills in what every refusal carries.
func (g *Gateway) denial(j *journey, f policy.Failure) upstream.Denial {
	j.code, j.rule = f.Code, f.Rule
	return upstream.Denial{
		Code: f.Code, Message: f.Message, Param: f.Param, Rule: f.Rule, Cap: f.Cap,
		AuditID: j.auditID(), RequestID: j.request, ScopeStatus: g.ScopeStatus,
	}
}

// finish adds our own headers.
func (g *Gateway) finish(j *journey, r upstream.Response) upstream.Response {
	if r.Header == nil {
		r.Header = make(http.Header, 3)
	}
	if id := j.auditID(); id != "" {
		r.Header["Keybrake-Audit-Id"] = []string{id}
	}
	if remaining := remaining(j.admitted.Caps); remaining != "" {
		r.Header["Keybrake-Remaining"] = []string{remaining}
	}
	if j.call != nil && j.call.IdempotencyKey != "" {
		r.Header["Idempotency-Key"] = []string{j.call.IdempotencyKey}
	}
	if parent := j.trace.parent(); parent != "" {
		r.Header["Traceparent"] = []string{parent}
	}
	return r
}
