package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// TokenRequest asks for an operator's token.
type TokenRequest struct {
	Name    string `json:"name"`
	Role    string `json:"role" enum:"admin,responder,auditor,stop,operator" doc:"admin may do everything; responder may see, stop, and lower what keys may do; auditor may see and stop; stop can only stop; operator is the old word for admin"`
	Expires string `json:"expires,omitempty" doc:"a span like 90d, or a date; empty: never"`
}

// Token is an operator's token as it may be shown.
type Token struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// TokenCreated is the one answer that shows a token.
type TokenCreated struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Token   string    `json:"token" doc:"shown this once"`
	Expires time.Time `json:"expires,omitzero"`
}

// CreateToken makes a token for an operator or for a tool that may only stop.
func (s *Service) CreateToken(ctx context.Context, who Actor, req TokenRequest) (TokenCreated, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	role, ok := vault.ParseRole(req.Role)
	if !ok {
		return TokenCreated{}, refuse(Invalid, "there is no role %q; write admin, responder, auditor or stop", req.Role)
	}
	if err := vault.CheckName(req.Name); err != nil {
		return TokenCreated{}, refuse(Invalid, "%v", err)
	}
	expiry, err := s.expiry(req.Expires)
	if err != nil {
		return TokenCreated{}, err
	}
	secret, op := s.Ring.Master().MintOperator(req.Name, role, s.Store.Now())
	row := store.TokenRow{Digest: op.Digest[:], Name: op.Name, Role: role.String(), Created: op.Created}
	if expiry != nil && *expiry != (policy.Expiry{}) {
		row.Expires = expiry.Deadline(op.Created)
		if !row.Expires.After(op.Created) {
			return TokenCreated{}, refuse(Invalid, "the token would be expired from the start (%s)", stamp(row.Expires))
		}
	}
	err = s.act(ctx, store.LaneControl, who, "token.create", func(tx store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Diff = "token "+req.Name, "role: "+role.String()
		return tx.PutToken(row)
	})
	if err != nil {
		return TokenCreated{}, err
	}
	if err := s.reloadOperators(ctx); err != nil {
		return TokenCreated{}, err
	}
	return TokenCreated{Name: req.Name, Role: role.String(), Token: secret.Reveal(), Expires: row.Expires}, nil
}

// Tokens lists the stored tokens by name. The local token that serve makes for its user is not among them.
func (s *Service) Tokens() []Token {
	out := []Token{}
	for _, op := range *s.operators.Load() {
		out = append(out, Token{Name: op.Name, Role: op.Role.String(), Created: op.Created, Expires: op.Expires})
	}
	return out
}

// DeleteToken ends a token; its next request is refused.
func (s *Service) DeleteToken(ctx context.Context, who Actor, name string) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	if !slices.ContainsFunc(*s.operators.Load(), func(op vault.Operator) bool { return op.Name == name }) {
		return refuse(NotFound, "there is no token %q; `keybrake token list` shows them", name)
	}
	err := s.act(ctx, store.LaneControl, who, "token.delete", func(tx store.Tx, rec *audit.Record) error {
		rec.Subject = "token " + name
		return tx.DeleteToken(name)
	})
	if err != nil {
		return err
	}
	return s.reloadOperators(ctx)
}

// MintLocal makes a token that lives as long as the process and is stored nowhere: the one that serve leaves
// for its own user.
func (s *Service) MintLocal(name string, role vault.Role) vault.Secret {
	secret, op := s.Ring.Master().MintOperator(name, role, s.Store.Now())
	s.localMu.Lock()
	defer s.localMu.Unlock()
	s.local = append(s.local, op)
	return secret
}

// present finds who has presented a token; false for nobody.
func (s *Service) present(token string) (Actor, bool) {
	master, now := s.Ring.Master(), s.Store.Now()
	s.localMu.Lock()
	local := slices.Clone(s.local)
	s.localMu.Unlock()
	if op, ok := master.AuthenticateOperator(token, local, now); ok {
		return Actor{Name: op.Name, Role: op.Role, Via: ViaLocal}, true
	}
	op, ok := master.AuthenticateOperator(token, *s.operators.Load(), now)
	return Actor{Name: op.Name, Role: op.Role, Via: ViaToken}, ok
}

func (s *Service) reloadOperators(ctx context.Context) error {
	return s.Store.View(ctx, s.loadOperators)
}

func (s *Service) loadOperators(tx store.Tx) error {
	rows, err := tx.Tokens()
	if err != nil {
		return fmt.Errorf("read tokens: %w", err)
	}
	ops := make([]vault.Operator, 0, len(rows))
	for _, row := range rows {
		role, ok := vault.ParseRole(row.Role)
		op := vault.Operator{Name: row.Name, Role: role, Created: row.Created, Expires: row.Expires}
		if !ok || len(row.Digest) != len(op.Digest) {
			return fmt.Errorf("read token %s: the row is damaged", row.Name)
		}
		copy(op.Digest[:], row.Digest)
		ops = append(ops, op)
	}
	s.operators.Store(&ops)
	return nil
}

// expiry reads an expiry as flags give it, by the rules of policy files; nil for none.
func (s *Service) expiry(text string) (*policy.Expiry, error) {
	if text == "" {
		return nil, nil
	}
	p, _, err := policy.Parse("--expires", fmt.Appendf(nil, "scopes: {}\nexpires: %q\n", text), s.Vocabulary)
	if err != nil {
		return nil, refuse(Invalid, "%q is no expiry; write a span like 90d or 12h, or a date like 2027-01-31", text)
	}
	return &p.Expires, nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Whose tells whose token it is; false if nobody's, or a tool's that may only stop.
func (s *Service) Whose(token string) (Actor, bool) {
	who, ok := s.present(token)
	if !ok || !who.Role.May(vault.ToSee) {
		return Actor{}, false
	}
	who.Via = ViaSession
	return who, true
}
