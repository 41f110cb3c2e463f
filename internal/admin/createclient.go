package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// createPauses is how long a client waits before it sends a create again whose answer did not arrive.
var createPauses = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond}

// create makes something over the API, once: if the answer does not arrive, the request is sent again under the same
// idempotency key. replayed says that an earlier attempt had made it, so that its secret is lost.
func create[O any](ctx context.Context, c *Client, path string, in any) (out O, replayed bool, err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return out, false, fmt.Errorf("encode the request: %w", err)
	}
	key := header{"Idempotency-Key", rand.Text()}
	for attempt := 0; ; attempt++ {
		resp, err := c.send(ctx, http.MethodPost, path, nil, "application/json", bytes.NewReader(text), key)
		replayed = err == nil && resp.Header.Get(replayedHeader) != ""
		out, err = receive[O](resp, err)
		if !errors.Is(err, ErrUnreachable) || attempt == len(createPauses) || !sleep(ctx, createPauses[attempt]) {
			return out, replayed, err
		}
	}
}

// sleep waits; false: ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// AddUpstream calls Service.AddUpstream.
func (c *Client) AddUpstream(ctx context.Context, req UpstreamRequest) (UpstreamView, error) {
	out, _, err := create[UpstreamView](ctx, c, "upstreams", req)
	return out, err
}

// CreateKey calls Service.CreateKey. If the answer that showed the key's text was lost on the way, the key is there and the
// error says how to get another text for it.
func (c *Client) CreateKey(ctx context.Context, req KeyRequest) (KeyCreated, error) {
	out, replayed, err := create[KeyCreated](ctx, c, "keys", req)
	if err == nil && replayed {
		err = fmt.Errorf("the vault key %s was made, but the answer that showed it was lost on the way; `keybrake key rotate %s --overlap 0s` shows another text", out.Name, out.ID)
	}
	return out, err
}

// CreateOperator calls Service.CreateOperator.
func (c *Client) CreateOperator(ctx context.Context, req OperatorRequest) (Operator, error) {
	out, _, err := create[Operator](ctx, c, "operators", req)
	return out, err
}

// Invite calls Service.Invite. If the answer that showed the link was lost on the way, the error says so.
func (c *Client) Invite(ctx context.Context, operator string, req InviteRequest) (Invite, error) {
	out, replayed, err := create[Invite](ctx, c, "operators/"+seg(operator)+"/invite", req)
	if err == nil && replayed {
		err = fmt.Errorf("a link was made for %s, but the answer that showed it was lost on the way; make another, which takes its place", out.Operator)
	}
	return out, err
}

// RotateKey calls Service.RotateKey. If the answer that showed the new text was lost on the way, the error says how to go on.
func (c *Client) RotateKey(ctx context.Context, idOrName string, req Rotation) (KeyRotated, error) {
	out, replayed, err := create[KeyRotated](ctx, c, "keys/"+seg(idOrName)+"/rotate", req)
	if err == nil && replayed {
		err = fmt.Errorf("the vault key %s has a new text (…%s), but the answer that showed it was lost on the way; `keybrake key rotate %s --undo` takes it back while the one before works, and another rotation shows another", out.Name, out.Last4, out.ID)
	}
	return out, err
}

// RotateUpstream calls Service.RotateUpstream.
func (c *Client) RotateUpstream(ctx context.Context, name string, req UpstreamSecret) (UpstreamView, error) {
	out, _, err := create[UpstreamView](ctx, c, "upstreams/"+seg(name)+"/rotate", req)
	return out, err
}

// CreateToken calls Service.CreateToken. If the answer that showed the token was lost on the way, the error says so.
func (c *Client) CreateToken(ctx context.Context, req TokenRequest) (TokenCreated, error) {
	out, replayed, err := create[TokenCreated](ctx, c, "tokens", req)
	if err == nil && replayed {
		err = fmt.Errorf("the token %s was made, but the answer that showed it was lost on the way; delete it (`keybrake token delete %s`) and make another", out.Name, out.Name)
	}
	return out, err
}
