package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// tokenLife is how long an operator's token works unless somebody says otherwise, maxTokenLife at most. A tool's may
	// work for ever.
	tokenLife    = 90 * 24 * time.Hour
	maxTokenLife = 366 * 24 * time.Hour
	// maxTokens bounds all tokens, maxOwnTokens those of one operator.
	maxTokens    = 1000
	maxOwnTokens = 20
)

// TokenRequest asks for a token.
type TokenRequest struct {
	Name     string `json:"name" doc:"unique among tokens"`
	Operator string `json:"operator,omitempty" doc:"id or name of the account that it belongs to; empty: a tool's"`
	Role     string `json:"role,omitempty" enum:"admin,responder,auditor,stop,operator" doc:"admin may do everything; responder may see, stop, and lower what keys may do; auditor may see and stop; stop can only stop; operator is the old word for admin. Empty, for an operator's: whatever the operator may"`
	Expires  string `json:"expires,omitempty" doc:"a span like 90d, or a date; empty: 90d for an operator's (366d at most), never for a tool's"`
}

// Token is a token as it may be shown.
type Token struct {
	Name     string    `json:"name"`
	Operator string    `json:"operator,omitempty" doc:"name of its operator; absent for a tool's"`
	Role     string    `json:"role" doc:"what it may do now: no more than its operator"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	Used     time.Time `json:"used,omitzero" doc:"to within ten minutes"`
}

// TokenCreated is the one answer that shows a token.
type TokenCreated struct {
	Name     string    `json:"name"`
	Operator string    `json:"operator,omitempty"`
	Role     string    `json:"role"`
	Token    string    `json:"token,omitempty" doc:"shown this once: absent when the create is replayed"`
	Expires  time.Time `json:"expires,omitzero"`
}

// CreateToken makes a token for an operator or for a tool. Who is no admin may make one for themselves alone, which can do
// no more than they can, and not with a token: what leaked for an hour must not live on for months.
func (s *Service) CreateToken(ctx context.Context, who Actor, req TokenRequest) (TokenCreated, error) {
	var bad faults
	bad.add("body.name", vault.CheckName(req.Name))
	expiry, err := s.expiry(req.Expires)
	bad.add("body.expires", err)
	if _, known := vault.ParseRole(req.Role); !known && req.Role != "" {
		bad.add("", wrong("body.role", "there is no role %q; write admin, responder, auditor or stop", req.Role))
	}
	if err := bad.refusal(); err != nil {
		return TokenCreated{}, err
	}
	var out TokenCreated
	var text string
	err = s.changeRoster(ctx, who, "token.create", func(tx store.Tx, rec *audit.Record, r *roster) error {
		row, role, err := s.newToken(r, who, req, expiry, tx.Now())
		if err != nil {
			return err
		}
		secret, op := s.Ring.Master().MintOperator(row.Name, role, row.Created)
		row.Digest = op.Digest[:]
		out = TokenCreated{Name: row.Name, Role: role.String(), Expires: row.Expires}
		rec.Subject, rec.Diff = "token "+row.Name, "role: (none) -> "+role.String()
		if row.Operator != "" {
			out.Operator = r.operators[row.Operator].Name
			rec.Diff += "\noperator: (none) -> " + out.Operator
		}
		if !row.Expires.IsZero() {
			rec.Diff += "\nexpires: (none) -> " + stamp(row.Expires)
		}
		if err := tx.PutToken(row); err != nil {
			return err
		}
		text = secret.Reveal()
		return remember(ctx, tx, out)
	})
	if err != nil {
		return TokenCreated{}, err
	}
	out.Token = text
	return out, nil
}

// newToken judges a request and makes the row, but for the digest; role is what the token may do now.
func (s *Service) newToken(r *roster, who Actor, req TokenRequest, expiry *policy.Expiry, now time.Time) (row store.TokenRow, role vault.Role, err error) {
	row = store.TokenRow{Name: req.Name, Created: now}
	if expiry != nil && *expiry != (policy.Expiry{}) {
		row.Expires = expiry.Deadline(now)
		if !row.Expires.After(now) {
			return row, 0, wrong("body.expires", "the token would be expired from the start (%s)", stamp(row.Expires))
		}
	}
	if len(r.rows) >= maxTokens {
		return row, 0, refuse(Conflict, "there are %d tokens already; delete some that nobody uses (`keybrake token list`)", len(r.rows))
	}
	role, known := vault.ParseRole(req.Role)
	if known {
		row.Role = role.String()
	}
	if req.Operator == "" {
		switch {
		case !who.Role.May(vault.ToChange):
			return row, 0, refuse(Forbidden, "only an admin may make a tool's token; name yourself as its operator to make one of your own")
		case !known:
			return row, 0, wrong("body.role", "say what the token may do: admin, responder, auditor or stop")
		}
		if name := row.Name; r.named(name) {
			return row, 0, refuse(Conflict, "an operator has the name %s, and records name tools and operators alike; choose another name", name).at("body.name")
		}
		return row, role, nil
	}
	return s.operatorsToken(r, who, req, row, role)
}

func (s *Service) operatorsToken(r *roster, who Actor, req TokenRequest, row store.TokenRow, role vault.Role) (store.TokenRow, vault.Role, error) {
	owner, err := r.operator(req.Operator)
	if err != nil {
		return row, 0, err
	}
	switch {
	case who.Role.May(vault.ToChange):
	case who.Operator != owner.ID:
		return row, 0, refuse(Forbidden, "only an admin may make a token for somebody else")
	case who.Token != "":
		return row, 0, refuse(Forbidden, "you came in with a token, and a token makes no other; sign in at the console by a link or by OpenID, or ask an admin")
	}
	may, ok := r.asOperator(owner.ID)
	if !ok {
		return row, 0, refuse(Conflict, "the operator %s is disabled", owner.Name)
	}
	if role > may.Role {
		return row, 0, refuse(Forbidden, "%s is %s, so a token of theirs cannot be %s", owner.Name, may.Role, role)
	}
	if role == 0 {
		role = may.Role
	}
	row.Operator = owner.ID
	latest := row.Created.Add(maxTokenLife)
	if row.Expires.IsZero() {
		row.Expires = row.Created.Add(tokenLife)
	} else if row.Expires.After(latest) {
		return row, 0, wrong("body.expires", "an operator's token works for 366 days at most; write an expiry up to %s", stamp(latest))
	}
	has := 0
	for _, other := range r.rows {
		if other.Operator == owner.ID {
			has++
		}
	}
	if has >= maxOwnTokens {
		return row, 0, refuse(Conflict, "%s has %d tokens already; delete some first", owner.Name, has)
	}
	return row, role, nil
}

// named reports whether an operator has a name.
func (r *roster) named(name string) bool {
	for _, row := range r.operators {
		if row.Name == name {
			return true
		}
	}
	return false
}

// Tokens lists the stored tokens by name, expired ones too. The local token that serve makes for its user is not among them.
func (s *Service) Tokens() []Token {
	r, out := s.roster.Load(), []Token{}
	for _, op := range r.tokens {
		row := r.rows[op.Name]
		role, _ := vault.ParseRole(row.Role)
		t := Token{Name: row.Name, Created: row.Created, Expires: row.Expires, Used: s.lately.of(tokenUse(row.Name), row.Used)}
		if row.Operator != "" {
			owner, _ := r.asOperator(row.Operator) // disabled: none
			t.Operator = r.operators[row.Operator].Name
			if role == 0 {
				role = owner.Role
			}
			role = min(role, owner.Role)
		}
		t.Role = role.String()
		out = append(out, t)
	}
	return out
}

// DeleteToken ends a token, and the sessions that it opened; its next request is refused. Who is no admin may end their own.
func (s *Service) DeleteToken(ctx context.Context, who Actor, name string) error {
	return s.changeRoster(ctx, who, "token.delete", func(tx store.Tx, rec *audit.Record, r *roster) error {
		row, ok := r.rows[name]
		if !ok {
			return refuse(NotFound, "there is no token %q; `keybrake token list` shows them", name)
		}
		if !mayFor(who, row.Operator) {
			return refuse(Forbidden, "only an admin may end somebody else's token")
		}
		rec.Subject = "token " + name
		ended, err := endPasses(tx, r, func(p store.PassRow) bool { return p.Token == name })
		if err != nil {
			return err
		}
		rec.Diff = endedDiff(ended)
		return tx.DeleteToken(name)
	})
}

// mayFor reports whether somebody may see to what belongs to an account: an admin, and its owner.
func mayFor(who Actor, operator string) bool {
	return who.Role.May(vault.ToChange) || operator != "" && who.Operator == operator
}

// endPasses deletes the sessions and links that are meant.
func endPasses(tx store.Tx, r *roster, meant func(store.PassRow) bool) (ended int, err error) {
	for digest, row := range r.passes {
		if !meant(row) {
			continue
		}
		if err := tx.DeletePass(digest[:]); err != nil {
			return ended, fmt.Errorf("end a session: %w", err)
		}
		if row.Kind == store.PassSession {
			ended++
		}
	}
	return ended, nil
}

func endedDiff(sessions int) string {
	if sessions == 0 {
		return ""
	}
	return fmt.Sprintf("sessions: %d -> 0", sessions)
}

// expiry reads an expiry as flags give it, by the rules of policy files; nil for none.
func (s *Service) expiry(text string) (*policy.Expiry, error) {
	if text == "" {
		return nil, nil
	}
	p, _, err := policy.Parse("--expires", fmt.Appendf(nil, "scopes: {}\nexpires: %q\n", text), s.Vocabulary)
	if err != nil {
		return nil, wrong("body.expires", "%q is no expiry; write a span like 90d or 12h, or a date like 2027-01-31", text)
	}
	return &p.Expires, nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// joined writes lines of a record's difference, without the empty ones.
func joined(lines ...string) string {
	var out []string
	for _, line := range lines {
		if line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
