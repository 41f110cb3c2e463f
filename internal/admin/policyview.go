package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// PolicyView is a policy in parts, for those who show it.
type PolicyView struct {
	Scopes      []Grant   `json:"scopes" doc:"what is not here is none"`
	Caps        []CapView `json:"caps"`
	Customers   string    `json:"customers" doc:"any, or list"`
	List        []string  `json:"list" doc:"the customers, where they are listed"`
	MayCreate   bool      `json:"may_create_customers"`
	Accounts    []string  `json:"accounts"`
	Params      []string  `json:"params" doc:"a rule each, in words"`
	Unmetered   []string  `json:"unmetered"`
	Network     []string  `json:"network" doc:"empty: anywhere"`
	Timezone    string    `json:"timezone"`
	Enforcement string    `json:"enforcement" doc:"enforce or shadow"`
	RotateEvery string    `json:"rotate_every,omitempty"`
	Secrets     bool      `json:"client_secrets"`
	Repeat      bool      `json:"repeat_unknown"`
}

// Grant is a scope of a policy.
type Grant struct {
	Resource string `json:"resource"`
	Access   string `json:"access" doc:"none, read or write"`
}

// CapView is a cap of a policy.
type CapView struct {
	Resource string `json:"resource"`
	Per      string `json:"per"`
	Unit     string `json:"unit"`
	Limit    Figure `json:"limit"`
}

func viewPolicy(p *policy.Policy) PolicyView {
	out := PolicyView{
		Scopes: []Grant{}, Caps: []CapView{}, Customers: "list", List: []string{}, MayCreate: p.MayCreate, Accounts: texts(p.Accounts),
		Params: paramWords(p), Unmetered: texts(p.Unmetered), Network: []string{}, Timezone: p.Timezone.String(), Enforcement: "enforce",
		Secrets: p.ClientSecrets, Repeat: p.RepeatUnknown,
	}
	for r, access := range p.Scopes {
		out.Scopes = append(out.Scopes, Grant{string(r), access.String()})
	}
	slices.SortFunc(out.Scopes, func(a, b Grant) int {
		return cmp.Or(-cmp.Compare(a.Access, b.Access), cmp.Compare(a.Resource, b.Resource)) // write before read before none
	})
	for _, c := range p.Caps {
		out.Caps = append(out.Caps, CapView{string(c.Resource), c.Per.String(), c.Unit.String(), figure(c.Unit, c.Limit)})
	}
	if p.Customers.Any {
		out.Customers = "any"
	} else {
		out.List = texts(p.Customers.List)
	}
	for _, n := range p.Network {
		out.Network = append(out.Network, n.String())
	}
	if p.Enforcement == policy.Shadow {
		out.Enforcement = "shadow"
	}
	out.RotateEvery = span(p.RotateEvery)
	return out
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = string(t)
	}
	return out
}

// paramWords writes each parameter rule as a person says it.
func paramWords(p *policy.Policy) []string {
	out := []string{}
	for op, rules := range p.Params {
		for param, r := range rules {
			var says []string
			add := func(is bool, format string, args ...any) {
				if is {
					says = append(says, fmt.Sprintf(format, args...))
				}
			}
			add(r.Deny, "denied")
			add(r.Required, "required")
			add(len(r.In) > 0, "one of %s", strings.Join(r.In, ", "))
			add(len(r.Not) > 0, "not %s", strings.Join(r.Not, ", "))
			if r.Min != nil {
				add(true, "at least %d", *r.Min)
			}
			if r.Max != nil {
				add(true, "at most %d", *r.Max)
			}
			add(r.Pattern != "", "like %s", r.Pattern)
			out = append(out, fmt.Sprintf("%s: %s %s", op, param, strings.Join(says, ", ")))
		}
	}
	slices.Sort(out)
	return out
}

// PolicyCheck is what a policy would be, before anything is made of it.
type PolicyCheck struct {
	// Problems are why it is refused; none: it would be taken.
	Problems []PolicyProblem `json:"problems"`
	Warnings []string        `json:"warnings"`
	Name     string          `json:"name"`
	Mode     string          `json:"mode,omitempty"`
	Policy   string          `json:"policy,omitempty" doc:"YAML, canonical"`
	View     *PolicyView     `json:"view,omitempty"`
	// Changes are against the key that it is checked for; Widens says that a reason is needed.
	Changes       []Change       `json:"changes"`
	Widens        bool           `json:"widens"`
	RestrictedKey *RestrictedKey `json:"restricted_key,omitempty"`
}

// PolicyProblem is one thing for which a policy is refused.
type PolicyProblem struct {
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty" doc:"in the policy's words: caps[0].usd, scopes.refund"`
	Message string `json:"message"`
}

// PolicyCheckRequest asks what a policy would be, for a key to be made or (Key) for one that exists.
type PolicyCheckRequest struct {
	Key string `json:"key,omitempty" doc:"id or name of the key that would be changed"`
	KeyRequest
}

// CheckPolicy says what CreateKey or UpdateKey would say, and makes nothing.
func (s *Service) CheckPolicy(req PolicyCheckRequest) (PolicyCheck, error) {
	out := PolicyCheck{Problems: []PolicyProblem{}, Warnings: []string{}, Changes: []Change{}}
	var k *vault.Key
	if req.Key != "" {
		var err error
		if k, err = s.key(req.Key); err != nil {
			return out, err
		}
		if req.Policy == "" && req.Preset == "" && req.Like == "" {
			req.Like = req.Key
		}
		req.Name = cmp.Or(req.Name, k.Name)
	}
	var own policy.KeyID
	if k != nil {
		own = k.ID
	}
	p, warnings, u, err := s.proposed(req.KeyRequest, own)
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		out.Problems = problemsOf(refused)
		return out, nil
	case err != nil:
		return out, err
	}
	view := viewPolicy(p)
	out.Warnings = warnings
	out.Name, out.Policy, out.View, out.Mode = p.Name, string(policy.Format(p)), &view, u.Mode.String()
	out.RestrictedKey = s.restrictedKey(p, u.Mode)
	before := &policy.Policy{}
	if k != nil {
		before = k.Policy
	}
	out.Changes, _ = changesOf(policy.Diff(before, bare(p)))
	out.Widens = k != nil && policy.Widens(before, bare(p))
	return out, nil
}

// problemsOf is what a refusal says of a policy and of what is beside it.
func problemsOf(r *Refusal) (out []PolicyProblem) {
	for _, p := range r.policy {
		out = append(out, PolicyProblem(p))
	}
	for _, f := range r.Fields {
		if len(r.policy) > 0 && strings.HasPrefix(f.Location+".", "body.policy.") {
			continue // it is one of those
		}
		out = append(out, PolicyProblem{Field: strings.TrimPrefix(strings.TrimPrefix(f.Location, "body."), "policy."), Message: f.Message})
	}
	if len(out) == 0 {
		out = append(out, PolicyProblem{Message: r.Message})
	}
	return out
}

func (a *api) policies() {
	handle(a, route{http.MethodPost, "policies/check", "check-policy", "Say what a policy would be, and make nothing", vault.ToSee, maxPolicyBody},
		func(_ context.Context, _ Actor, in *body[PolicyCheckRequest]) (PolicyCheck, error) {
			return a.s.CheckPolicy(in.Body)
		})
}

// CheckPolicy calls Service.CheckPolicy.
func (c *Client) CheckPolicy(ctx context.Context, req PolicyCheckRequest) (PolicyCheck, error) {
	return call[PolicyCheck](ctx, c, http.MethodPost, "policies/check", nil, req)
}
