package admin

import (
	"cmp"
	"context"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// maxOperators bounds the accounts.
const maxOperators = 1000

// Operator is an account as it may be shown.
type Operator struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Role     string    `json:"role" doc:"admin, responder or auditor"`
	Email    string    `json:"email,omitempty" doc:"what an OpenID provider must vouch for at the first sign-in there"`
	OpenID   bool      `json:"openid" doc:"has signed in through the OpenID provider; only that person there can"`
	Created  time.Time `json:"created"`
	Disabled time.Time `json:"disabled,omitzero" doc:"since when nobody comes in by it"`
	Tokens   int       `json:"tokens" doc:"that have not expired"`
	Sessions int       `json:"sessions" doc:"that are open"`
	Seen     time.Time `json:"seen,omitzero" doc:"by a session or a token, roughly"`
	Invited  time.Time `json:"invited,omitzero" doc:"until when a link is open that signs in once"`
	ETag     string    `json:"etag" doc:"version of what can be edited"`
}

// OperatorRequest asks for an account.
type OperatorRequest struct {
	Name  string `json:"name" doc:"for ever: records name operators by it"`
	Role  string `json:"role" enum:"admin,responder,auditor"`
	Email string `json:"email,omitempty" doc:"for signing in through an OpenID provider"`
}

// OperatorUpdate asks to change an account. What is absent stays.
type OperatorUpdate struct {
	Role     string  `json:"role,omitempty" enum:"admin,responder,auditor"`
	Email    *string `json:"email,omitempty" doc:"empty takes it away"`
	Disabled *bool   `json:"disabled,omitempty" doc:"true ends every session and keeps tokens from working; false lets them work again"`
	// ForgetOpenID lets the email decide again who this is at the provider.
	ForgetOpenID bool   `json:"forget_openid,omitempty" doc:"who this is at the OpenID provider is decided anew, by the email, at the next sign-in"`
	Reason       string `json:"reason,omitempty" maxLength:"500" doc:"required to give a higher role, or to enable"`
	// IfMatch is the version that the edit was made for; empty: the present one, whichever that is.
	IfMatch string `json:"-"`
}

// reservedNames stand in records for what is no operator.
var reservedNames = []string{killFileActor, "SIGUSR1", "local", "server", "me"}

// CreateOperator makes an account. It lets nobody in yet: that takes a link, a token, or an email that the OpenID provider
// vouches for.
func (s *Service) CreateOperator(ctx context.Context, who Actor, req OperatorRequest) (Operator, error) {
	var row store.OperatorRow
	err := s.changeRoster(ctx, who, "operator.create", func(tx store.Tx, rec *audit.Record, r *roster) error {
		var err error
		if row, err = r.newOperator(req, tx.Now()); err != nil {
			return err
		}
		rec.Subject, rec.Diff = "operator "+row.Name, joined("role: (none) -> "+row.Role, changed("email", "", row.Email))
		// A link for the first admin is for when there is nobody else.
		if _, err := endPasses(tx, r, func(p store.PassRow) bool { return firstLink(p) }); err != nil {
			return err
		}
		if err := tx.PutOperator(row); err != nil {
			return err
		}
		return remember(ctx, tx, s.viewOperator(r, row))
	})
	if err != nil {
		return Operator{}, err
	}
	return s.viewOperator(s.roster.Load(), row), nil
}

// newOperator judges a request for an account and makes its row.
func (r *roster) newOperator(req OperatorRequest, now time.Time) (row store.OperatorRow, err error) {
	role, unknown := accountRole(req.Role)
	email, badEmail := r.email(req.Email, "")
	if err := together(r.operatorName(req.Name), unknown, badEmail); err != nil {
		return row, err
	}
	if len(r.operators) >= maxOperators {
		return row, refuse(Conflict, "there are %d operators already, which is the limit", len(r.operators))
	}
	return store.OperatorRow{ID: vault.NewOperatorID(), Name: req.Name, Role: role.String(), Email: email, Created: now}, nil
}

// operatorName judges the name of a new account.
func (r *roster) operatorName(name string) error {
	if err := vault.CheckName(name); err != nil {
		return wrong("body.name", "%v", err)
	}
	if slices.ContainsFunc(reservedNames, func(n string) bool { return strings.EqualFold(n, name) }) || strings.HasPrefix(name, "opr_") {
		return wrong("body.name", "the name %s stands for something else in records; choose another name", name)
	}
	for _, other := range r.operators {
		if strings.EqualFold(other.Name, name) {
			return refuse(Conflict, "there is an operator %s, and names are for ever because records have them; choose another name", other.Name).at("body.name")
		}
	}
	if t, taken := r.rows[name]; taken && t.Operator == "" {
		return refuse(Conflict, "a tool's token has the name %s, and records name tools and operators alike; choose another name", name).at("body.name")
	}
	return nil
}

// accountRole reads the role of an account: of somebody who can at least see.
func accountRole(text string) (vault.Role, error) {
	role, ok := vault.ParseRole(text)
	if !ok || !role.May(vault.ToSee) {
		return 0, wrong("body.role", "an operator is admin, responder or auditor, not %q", text)
	}
	return role, nil
}

// email checks an address, which one account may have.
func (r *roster) email(text, id string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return "", nil
	}
	if a, err := mail.ParseAddress(text); err != nil || a.Address != text {
		return "", wrong("body.email", "%q is no email address; write it like ines@example.com", text)
	}
	for _, other := range r.operators {
		if other.Email == text && other.ID != id {
			return "", refuse(Conflict, "the operator %s has the email %s; one account can have it", other.Name, text).at("body.email")
		}
	}
	return text, nil
}

// UpdateOperator changes an account. It counts at the next request of the operator's tokens and sessions. The last admin
// stays one.
func (s *Service) UpdateOperator(ctx context.Context, who Actor, idOrName string, req OperatorUpdate) (Operator, error) {
	var row store.OperatorRow
	err := s.changeRoster(ctx, who, "operator.update", func(tx store.Tx, rec *audit.Record, r *roster) error {
		before, err := r.operator(idOrName)
		if err != nil {
			return err
		}
		if err := unchanged("the operator "+before.Name, req.IfMatch, operatorTag(before)); err != nil {
			return err
		}
		if row, err = r.updated(before, req, tx.Now()); err != nil {
			return err
		}
		rec.Subject, rec.Reason = "operator "+row.Name, req.Reason
		ended := 0
		if !row.Disabled.IsZero() {
			if ended, err = endPasses(tx, r, func(p store.PassRow) bool { return p.Operator == row.ID }); err != nil {
				return err
			}
		}
		rec.Diff = joined(changed("role", before.Role, row.Role), changed("email", before.Email, row.Email),
			changed("openid subject", before.Subject, row.Subject), changed("disabled", stamp(before.Disabled), stamp(row.Disabled)), endedDiff(ended))
		if rec.Diff == "" {
			return refuse(Invalid, "nothing would change; give a role, an email, or say that the account is disabled or enabled")
		}
		return tx.PutOperator(row)
	})
	if err != nil {
		return Operator{}, err
	}
	return s.viewOperator(s.roster.Load(), row), nil
}

// updated judges a change of an account.
func (r *roster) updated(row store.OperatorRow, req OperatorUpdate, now time.Time) (store.OperatorRow, error) {
	before := row
	var bad faults
	if req.Role != "" {
		role, err := accountRole(req.Role)
		if bad.add("body.role", err); err == nil {
			row.Role = role.String()
		}
	}
	if req.Email != nil {
		email, err := r.email(*req.Email, row.ID)
		bad.add("body.email", err)
		row.Email = email
	}
	if req.ForgetOpenID {
		row.Issuer, row.Subject = "", ""
	}
	if req.Disabled != nil {
		switch {
		case !*req.Disabled:
			row.Disabled = time.Time{}
		case row.Disabled.IsZero():
			row.Disabled = now
		}
	}
	was, _ := vault.ParseRole(before.Role)
	is, _ := vault.ParseRole(row.Role)
	enabled := !before.Disabled.IsZero() && row.Disabled.IsZero()
	if (is > was || enabled) && strings.TrimSpace(req.Reason) == "" {
		bad.add("", wrong("body.reason", "%s could do more than before, which needs a reason (--reason)", row.Name))
	}
	if err := bad.refusal(); err != nil {
		return row, err
	}
	if admins := r.admins(); len(admins) == 1 && admins[0] == row.ID && (is < vault.RoleAdmin || !row.Disabled.IsZero()) {
		return row, refuse(Conflict, "%s is the last admin; make somebody else admin first (`keybrake operator edit NAME --role admin`)", row.Name)
	}
	return row, nil
}

// admins are the accounts that let an admin in.
func (r *roster) admins() (ids []string) {
	for id, row := range r.operators {
		if row.Role == vault.RoleAdmin.String() && row.Disabled.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids
}

// changed writes one line of a record's difference; empty: it did not.
func changed(field, before, after string) string {
	if before == after {
		return ""
	}
	return field + ": " + orNone(before) + " -> " + orNone(after)
}

// operatorTag is the version of what can be edited of an account.
func operatorTag(row store.OperatorRow) string {
	return entityTag(row.ID, row.Role, row.Email, row.Subject, row.Disabled)
}

// Operators lists the accounts by name, disabled ones too.
func (s *Service) Operators() []Operator {
	r, out := s.roster.Load(), []Operator{}
	for _, row := range r.operators {
		out = append(out, s.viewOperator(r, row))
	}
	slices.SortFunc(out, func(a, b Operator) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Operator shows one account.
func (s *Service) Operator(idOrName string) (Operator, error) {
	r := s.roster.Load()
	row, err := r.operator(idOrName)
	if err != nil {
		return Operator{}, err
	}
	return s.viewOperator(r, row), nil
}

func (s *Service) viewOperator(r *roster, row store.OperatorRow) Operator {
	now := s.Store.Now()
	out := Operator{
		ID: row.ID, Name: row.Name, Role: row.Role, Email: row.Email, OpenID: row.Subject != "", Created: row.Created, Disabled: row.Disabled, ETag: operatorTag(row),
	}
	seen := func(t time.Time) {
		if t.After(out.Seen) {
			out.Seen = t
		}
	}
	for _, t := range r.rows {
		if t.Operator != row.ID {
			continue
		}
		seen(s.lately.of(tokenUse(t.Name), t.Used))
		if t.Expires.IsZero() || now.Before(t.Expires) {
			out.Tokens++
		}
	}
	for digest, p := range r.passes {
		switch {
		case p.Operator != row.ID || !now.Before(p.Expires):
		case p.Kind == store.PassInvite:
			out.Invited = p.Expires
		case s.idle(digest, p, now) < SessionIdle:
			out.Sessions++
			seen(s.lately.of(passUse(digest), p.Seen))
		}
	}
	return out
}
