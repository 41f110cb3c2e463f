package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

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

// sentForm is a request as it is kept with its reservation, to be sent again on a retry.
type sentForm struct {
	Method string      `json:"m"`
	Path   string      `json:"p"`
	Query  string      `json:"q,omitempty"`
	Body   string      `json:"b,omitempty"`
	Header http.Header `json:"h,omitempty"`
	Key    string      `json:"k,omitempty"`
	Host   string      `json:"o,omitempty"`
}

func encodeSent(r *upstream.Request) ([]byte, error) {
	sent, err := json.Marshal(sentForm{r.Method, r.Path, r.Query, string(r.Body), r.Header, r.IdempotencyKey, r.Host})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return sent, nil
}

func decodeSent(b []byte) (*upstream.Request, error) {
	var s sentForm
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decode the stored request: %w", err)
	}
	return &upstream.Request{
		Method: s.Method, Path: s.Path, Query: s.Query, Body: []byte(s.Body), Header: s.Header, IdempotencyKey: s.Key, Host: s.Host,
	}, nil
}

// send takes the last look and writes the request. From Depart to Land the call counts as on the wire. A
// stopped call was not written at all.
//
// ctx ends with the agent's interest no more: once a call leaves, its client going away changes nothing.
func (g *Gateway) send(ctx context.Context, j *journey, r *upstream.Request, writes bool) (upstream.Answer, *policy.Failure) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.Deadline)
	defer cancel()
	flight, stopped := g.Ring.Depart(j.key, writes)
	if stopped != nil {
		return upstream.Answer{}, stopped
	}
	defer flight.Land()
	answer := g.Client.Do(ctx, g.Adapter.Base(j.upstream.BaseURL, r.Host), j.upstream, r)
	j.theirs += answer.Took
	return answer, nil
}

// lookup lets the adapter read objects with the upstream's secret, within the budgets of key and upstream
// and never past a pulled brake.
func (g *Gateway) lookup(j *journey) upstream.Lookup {
	return func(ctx context.Context, look upstream.Look) (int, []byte, error) {
		waiting, cancel := context.WithTimeout(ctx, g.LookupWait)
		defer cancel()
		if err := g.lookups.wait(waiting, j.key.ID, j.key.Upstream); err != nil {
			return 0, nil, fmt.Errorf("%w: too many look-ups are waiting", errLookupBusy)
		}
		answer, stopped := g.send(ctx, j, &upstream.Request{
			Method: look.Method, Path: look.Path, Query: look.Query, Body: look.Body, Header: lookupHeader(j.call.Header, look.Body != nil),
		}, false)
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
