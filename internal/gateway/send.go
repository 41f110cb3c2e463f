package gateway

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// request rebuilds the call for the vendor, with an idempotency key of ours on every write: derived from
// the agent's where it sent one (so that a retry, also after a rotation, is the same to the vendor), fresh
// otherwise (so that nobody can mistake two calls for one).
func (g *Gateway) request(j *journey) *upstream.Request {
	r := &upstream.Request{
		Method: j.call.Method, Path: j.call.Path, Query: j.call.Query, Body: j.call.Body, Header: j.call.Header,
		Host: j.call.Host, Upload: j.call.Upload, Fields: j.call.Fields,
	}
	if j.call.Writes() {
		agentKey := j.call.IdempotencyKey
		if agentKey == "" {
			agentKey = "\x00" + newToken() // no agent can send a NUL
		}
		r.IdempotencyKey = g.upstreamKey(j, agentKey)
	}
	return r
}

// upstreamKey is the idempotency key that the vendor gets for an agent's own, and the one that reservations
// are found by.
func (g *Gateway) upstreamKey(j *journey, agentKey string) string {
	return g.Ring.Master().UpstreamIdempotencyKey(j.key.ID, j.call.Account, agentKey)
}

// send takes the last look and writes the request, with the secret that the upstream has at that moment. From Depart to
// Land the call counts as on the wire. A stopped call was not written at all. now is the time, read as late as can be.
//
// ctx ends with the agent's interest no more: once a call leaves, its client going away changes nothing.
func (g *Gateway) send(ctx context.Context, j *journey, r *upstream.Request, writes bool, now time.Time) (upstream.Answer, *policy.Failure) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.Deadline)
	defer cancel()
	defer context.AfterFunc(g.wire, cancel)()
	if ended := j.keyEnded(now); ended != nil {
		return upstream.Answer{}, ended
	}
	expired := g.lease() // taken before the brakes are read: whoever stands still after that acts on nothing newer
	flight, stopped := g.Ring.Depart(j.key, writes)
	if stopped != nil {
		return upstream.Answer{}, stopped
	}
	defer flight.Land()
	if expired() != nil {
		return upstream.Answer{}, &unheard
	}
	if present, ok := g.Ring.Upstream(j.upstream.ID); ok {
		j.upstream = present // its secret may have been rotated while the call waited
	}
	answer := g.Client.Do(ctx, g.Adapter.Base(j.upstream.BaseURL, r.Host), j.upstream, r)
	j.theirs += answer.Took
	return answer, nil
}

// unheard ends a call at a node that has not heard from the store for so long that an operator may have stopped the call.
var unheard = policy.Failure{
	Code: upstream.CodeUnavailable, Rule: "keybrake",
	Message: "This Keybrake has not heard from its store for too long, so it lets nothing pass. Nothing was sent. Try again.",
}

// lookup lets the adapter read objects with the upstream's secret, within the budgets of key and upstream
// and never past a pulled brake.
func (g *Gateway) lookup(j *journey) upstream.Lookup {
	return func(ctx context.Context, look upstream.Look) (int, []byte, error) {
		waiting, cancel := context.WithTimeout(ctx, g.LookupWait)
		defer cancel()
		start := time.Now()
		err := g.lookups.wait(waiting, j.key.ID, j.key.Upstream)
		j.took.Wait += time.Since(start)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: too many look-ups are waiting", errLookupBusy)
		}
		if err := g.takeSlot(ctx, j); err != nil {
			return 0, nil, err
		}
		answer, stopped := g.send(ctx, j, &upstream.Request{
			Method: look.Method, Path: look.Path, Query: look.Query, Body: look.Body, Header: lookupHeader(j.call.Header, look.Body != nil),
		}, false, g.Store.Now())
		j.lookups++
		j.took.Lookups += answer.Took
		if stopped != nil {
			return 0, nil, stoppedError{*stopped}
		}
		return answer.Status, answer.Body, answer.Err
	}
}

// lookupHeader is what a look-up shares with the call that it is for: the same account, seen in the same
// version. The names are as the adapter forwards them; what only belongs to the call's own body stays behind.
func lookupHeader(call http.Header, body bool) http.Header {
	header := make(http.Header, len(call))
	for name, values := range call {
		if name != "Content-Type" {
			header[name] = values
		}
	}
	if body {
		header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
	}
	return header
}

// stoppedError carries a pulled brake out of a look-up.
type stoppedError struct{ failure policy.Failure }

func (e stoppedError) Error() string { return e.failure.Message }

var _ upstream.Credential = (*vault.Upstream)(nil)
