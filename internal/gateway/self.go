package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
)

// selfBody is what an agent learns about its own key.
type selfBody struct {
	ID      policy.KeyID `json:"id"`
	Name    string       `json:"name"`
	Mode    string       `json:"mode"`
	Expires *time.Time   `json:"expires"`
	// TextExpires is when the text that was sent ends, if the key has a newer one.
	TextExpires *time.Time        `json:"text_expires,omitempty"`
	Shadow      bool              `json:"shadow,omitempty"`
	Scopes      map[string]string `json:"scopes"`
	Customers   any               `json:"customers"` // "any" or a list
	Caps        []capBody         `json:"caps"`
	AsOf        time.Time         `json:"as_of"`
}

// capBody is one cap with how it stands: amounts as decimal strings, calls as digits.
type capBody struct {
	Resource string     `json:"resource"`
	Per      string     `json:"per"`
	Unit     string     `json:"unit"`
	Limit    string     `json:"limit"`
	Held     string     `json:"held"`
	Settled  string     `json:"settled"`
	Left     string     `json:"left"`
	ResetsAt *time.Time `json:"resets_at"`
}

// self answers GET /keybrake/v1/self: scopes, caps, what is left, expiry. It asks nobody but the store.
func (g *Gateway) self(ctx context.Context, j *journey) upstream.Response {
	if refused := g.authenticate(j); refused != nil {
		return g.deny(ctx, j, *refused)
	}
	if j.raw.Method != http.MethodGet {
		return g.deny(ctx, j, policy.Failure{
			Code: policy.CodeUnknownRoute, Rule: "catalog", Message: "Ask with GET " + selfPath + ".",
		})
	}
	caps, err := g.capStates(ctx, j.key.ID, j.policy)
	if err != nil {
		return g.unavailable(j, err)
	}
	body := selfBody{
		ID: j.key.ID, Name: j.key.Name, Mode: j.key.Mode.String(), AsOf: g.Store.Now(),
		Shadow: j.policy.Enforcement == policy.Shadow, Scopes: make(map[string]string, len(j.policy.Scopes)),
		Customers: j.policy.Customers.List, Caps: make([]capBody, 0, len(caps)),
	}
	if !j.key.Expires.IsZero() {
		body.Expires = &j.key.Expires
	}
	if !j.credential.Expires.IsZero() {
		body.TextExpires = &j.credential.Expires
	}
	if j.policy.Customers.Any {
		body.Customers = "any"
	}
	for r, a := range j.policy.Scopes {
		body.Scopes[string(r)] = a.String()
	}
	for _, c := range caps {
		body.Caps = append(body.Caps, bodyOf(c))
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return g.unavailable(j, err)
	}
	return upstream.Response{Status: http.StatusOK, Header: http.Header{
		"Content-Type": {"application/json"}, "Request-Id": {j.request},
	}, Body: encoded}
}

func (g *Gateway) capStates(ctx context.Context, id policy.KeyID, p *policy.Policy) ([]store.CapState, error) {
	now := g.Store.Now()
	keys := make([]ledger.AccountKey, len(p.Caps))
	for i, c := range p.Caps {
		keys[i] = ledger.AccountKey{Key: id, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, now, p.Timezone)}
	}
	accounts, err := g.Store.Peek(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]store.CapState, len(p.Caps))
	for i, c := range p.Caps {
		out[i] = store.StateOf(c, keys[i], accounts[i], now, p.Timezone)
	}
	return out, nil
}

func bodyOf(c store.CapState) capBody {
	show := func(n int64) string {
		if c.Cap.Unit == policy.UnitCalls {
			return strconv.FormatInt(n, 10)
		}
		return money.USD(n).String()
	}
	out := capBody{
		Resource: string(c.Cap.Resource), Per: c.Cap.Per.String(), Unit: c.Cap.Unit.String(),
		Limit: show(c.Cap.Limit), Held: show(c.Held), Settled: show(c.Settled), Left: show(c.Left),
	}
	if !c.ResetsAt.IsZero() {
		at := c.ResetsAt.UTC()
		out.ResetsAt = &at
	}
	return out
}
