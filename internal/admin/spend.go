package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// Spend is how the caps stand. Held is set aside for calls whose fate is open, settled has moved.
type Spend struct {
	AsOf time.Time  `json:"as_of"`
	Keys []SpendKey `json:"keys"`
	Next string     `json:"next,omitempty" doc:"given back as after for the next page"`
}

// SpendKey is one key's part.
type SpendKey struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Brake string `json:"brake"`
	// Shadow: the caps refuse nothing.
	Shadow bool       `json:"shadow,omitempty"`
	Caps   []SpendCap `json:"caps"`
}

// SpendCap is one cap in its present window.
type SpendCap struct {
	Resource string    `json:"resource"`
	Per      string    `json:"per"`
	Unit     string    `json:"unit"`
	Limit    Figure    `json:"limit"`
	Held     Figure    `json:"held"`
	Settled  Figure    `json:"settled"`
	Left     Figure    `json:"left"`
	Over     *Figure   `json:"over,omitempty" doc:"what is used beyond the limit: in shadow, or since it was lowered"`
	ResetsAt time.Time `json:"resets_at,omitzero" doc:"absent: never"`
}

// Figure is an amount in a cap's unit: dollars as a decimal string, calls as a number.
type Figure struct {
	text  string
	calls bool
}

func figure(unit policy.Unit, n int64) Figure {
	if unit == policy.UnitCalls {
		return Figure{strconv.FormatInt(n, 10), true}
	}
	return Figure{money.USD(n).String(), false}
}

// String returns the digits.
func (f Figure) String() string { return f.text }

// MarshalJSON writes dollars as a string, calls as a number.
func (f Figure) MarshalJSON() ([]byte, error) {
	if f.calls {
		return []byte(f.text), nil
	}
	return json.Marshal(f.text)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Figure) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '"' {
		n, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil {
			return fmt.Errorf("read figure %s: %w", b, err)
		}
		*f = Figure{strconv.FormatInt(n, 10), true}
		return nil
	}
	f.calls = false
	return json.Unmarshal(b, &f.text)
}

// Schema describes a Figure in the OpenAPI document.
func (Figure) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeInteger}}}
}

// Spend tells how the caps of keys stand in their present windows.
func (s *Service) Spend(ctx context.Context, f KeyFilter) (Spend, error) {
	now := s.Store.Now()
	out := Spend{AsOf: now.UTC(), Keys: []SpendKey{}}
	keys, next, err := s.selectKeys(f)
	if err != nil {
		return out, err
	}
	out.Next = next
	for _, k := range keys {
		caps, err := s.capsOf(ctx, k, now)
		if err != nil {
			return out, err
		}
		out.Keys = append(out.Keys, SpendKey{ID: string(k.ID), Name: k.Name, Brake: s.Ring.EffectiveBrake(k.ID).String(), Shadow: k.Policy.Enforcement == policy.Shadow, Caps: caps})
	}
	return out, nil
}

func (s *Service) capsOf(ctx context.Context, k *vault.Key, now time.Time) ([]SpendCap, error) {
	p := k.Policy
	var accounts []ledger.AccountKey
	for _, c := range p.Caps {
		accounts = append(accounts, ledger.AccountKey{
			Key: k.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, now, p.Timezone),
		})
	}
	out := []SpendCap{}
	if len(accounts) == 0 {
		return out, nil
	}
	states, err := s.Store.Peek(ctx, accounts)
	if err != nil {
		return nil, understood("read the caps of "+k.Name, err)
	}
	for i, c := range p.Caps {
		out = append(out, spendCap(c, states[i], ledger.ResetsAt(c.Per, now, p.Timezone)))
	}
	return out, nil
}

// spendCap tells how a cap stands.
func spendCap(c policy.Cap, a ledger.Account, resets time.Time) SpendCap {
	out := SpendCap{
		Resource: string(c.Resource), Per: c.Per.String(), Unit: c.Unit.String(), Limit: figure(c.Unit, c.Limit),
		Held: figure(c.Unit, a.Held), Settled: figure(c.Unit, a.Settled), Left: figure(c.Unit, ledger.Left(a, c.Limit)), ResetsAt: utc(resets),
	}
	if beyond := a.Held + a.Settled - c.Limit; beyond > 0 {
		over := figure(c.Unit, beyond)
		out.Over = &over
	}
	return out
}

// utc keeps the zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}
