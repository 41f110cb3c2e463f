package admin

import (
	"context"
	"net/url"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// inviteLife is how long a link works unless somebody says otherwise, maxInviteLife at most.
	inviteLife    = 24 * time.Hour
	maxInviteLife = 7 * 24 * time.Hour
)

// WelcomePath is the console's page that a link leads to; the link's secret is its query's "link".
const WelcomePath = "/welcome"

// InviteRequest asks for a link.
type InviteRequest struct {
	Expires string `json:"expires,omitempty" doc:"how long it works, like 24h (the default); 7d at most"`
}

// Invite is the one answer that shows a link.
type Invite struct {
	Operator string    `json:"operator,omitempty" doc:"whom it signs in; absent: whoever becomes the first admin"`
	Path     string    `json:"path,omitempty" doc:"the link, from the console's address on: shown this once, works once"`
	Link     string    `json:"link,omitempty" doc:"the whole link, where the server was told the console's address"`
	Expires  time.Time `json:"expires"`
}

// firstLink reports whether a pass is a link for the first admin.
func firstLink(p store.PassRow) bool { return p.Kind == store.PassInvite && p.Operator == "" }

// mintInvite writes a link in place of those that an operator has ("" for the first admin's).
func (s *Service) mintInvite(tx store.Tx, r *roster, operator string, life time.Duration, from string) (Invite, error) {
	now := tx.Now()
	_, err := endPasses(tx, r, func(p store.PassRow) bool {
		return p.Kind == store.PassInvite && (p.Operator == operator || !now.Before(p.Expires))
	})
	if err != nil {
		return Invite{}, err
	}
	secret, digest := s.Ring.Master().MintPass(vault.PassInvite)
	invite := Invite{
		Operator: r.operators[operator].Name, Path: WelcomePath + "?" + url.Values{"link": {secret.Reveal()}}.Encode(), Expires: now.Add(life),
	}
	if s.ConsoleURL != "" {
		invite.Link = s.ConsoleURL + invite.Path
	}
	return invite, tx.PutPass(store.PassRow{
		Digest: digest[:], Kind: store.PassInvite, Operator: operator, Created: now, Seen: now, Expires: invite.Expires, From: from,
	})
}

// Invite makes a link with which an operator signs in once. One that was there before stops working.
func (s *Service) Invite(ctx context.Context, who Actor, operator string, req InviteRequest) (Invite, error) {
	life := inviteLife
	if req.Expires != "" {
		expiry, err := s.expiry(req.Expires)
		if err != nil {
			return Invite{}, err
		}
		now := s.Store.Now()
		if life = expiry.Deadline(now).Sub(now); life <= 0 || life > maxInviteLife {
			return Invite{}, wrong("body.expires", "a link works for 7d at most, and longer than no time; write a span like 24h")
		}
	}
	var out Invite
	err := s.changeRoster(ctx, who, "operator.invite", func(tx store.Tx, rec *audit.Record, r *roster) error {
		row, err := r.operator(operator)
		if err != nil {
			return err
		}
		if !row.Disabled.IsZero() {
			return refuse(Conflict, "the operator %s is disabled; enable the account first", row.Name)
		}
		if out, err = s.mintInvite(tx, r, row.ID, life, who.From); err != nil {
			return err
		}
		rec.Subject, rec.Diff = "operator "+row.Name, changed("link", "", "until "+stamp(out.Expires))
		return remember(ctx, tx, Invite{Operator: out.Operator, Expires: out.Expires})
	})
	return out, err
}

// Uninvite ends an operator's link.
func (s *Service) Uninvite(ctx context.Context, who Actor, operator string) error {
	return s.changeRoster(ctx, who, "operator.uninvite", func(tx store.Tx, rec *audit.Record, r *roster) error {
		row, err := r.operator(operator)
		if err != nil {
			return err
		}
		for digest, p := range r.passes {
			if p.Kind == store.PassInvite && p.Operator == row.ID {
				rec.Subject, rec.Diff = "operator "+row.Name, changed("link", "until "+stamp(p.Expires), "")
				return tx.DeletePass(digest[:])
			}
		}
		return refuse(NotFound, "%s has no link that works", row.Name)
	})
}

// FirstAdmin makes a link with which somebody makes the first account, an admin's, as long as there is neither an account
// nor a token; false if there is. A link of an earlier start stops working.
func (s *Service) FirstAdmin(ctx context.Context) (Invite, bool, error) {
	if r := s.roster.Load(); len(r.operators) > 0 || len(r.rows) > 0 {
		return Invite{}, false, nil
	}
	var out Invite
	err := s.changeRoster(ctx, Actor{Name: "server", Via: ViaProcess}, "operator.invite", func(tx store.Tx, rec *audit.Record, r *roster) (err error) {
		out, err = s.mintInvite(tx, r, "", inviteLife, "")
		rec.Subject, rec.Diff = "the first admin", changed("link", "", "until "+stamp(out.Expires))
		return err
	})
	return out, err == nil, err
}

// Link tells whom a link would sign in ("" for the first admin, who says their name); false if it does not work (any more).
// Asking does not use it up: programs that look at links before people do are everywhere.
func (s *Service) Link(link string) (operator string, ok bool) {
	digest, ok := s.Ring.Master().PassDigest(vault.PassInvite, link)
	if !ok {
		return "", false
	}
	r := s.roster.Load()
	p, err := s.usable(r, digest, s.Store.Now())
	return r.operators[p.Operator].Name, err == nil
}

// usable finds a link that works.
func (s *Service) usable(r *roster, digest vault.Digest, now time.Time) (store.PassRow, error) {
	p, ok := r.passes[digest]
	_, enabled := r.asOperator(p.Operator)
	switch {
	case !ok, p.Kind != store.PassInvite, s.over(digest, p, now), p.Operator != "" && !enabled:
		return p, refuse(Stranger, "this link does not work: it was used, has expired, or another one took its place; `keybrake operator invite NAME` on the server makes one")
	case p.Operator == "" && len(r.operators) > 0:
		return p, refuse(Stranger, "there is an admin already, who can make a link for you (`keybrake operator invite NAME`)")
	}
	return p, nil
}

// Welcome signs in by a link, and uses it up. name is the first admin's, who gets an account; other links know whose they are.
func (s *Service) Welcome(ctx context.Context, link, name string, v Visitor) (Entry, error) {
	return s.knock(v, func() (Entry, error) {
		digest, ok := s.Ring.Master().PassDigest(vault.PassInvite, link)
		if !ok {
			return Entry{}, refuse(Stranger, "this is not the whole link; copy it again")
		}
		who := Actor{Name: "a link", From: v.From}
		if p, ok := s.roster.Load().passes[digest]; ok && p.Operator != "" {
			who, _ = s.roster.Load().asOperator(p.Operator)
		} else if ok {
			who.Name = name // checked before anything is written
		}
		var entry Entry
		err := s.changeRoster(ctx, at(who, v), "session.open", func(tx store.Tx, rec *audit.Record, r *roster) error {
			p, err := s.usable(r, digest, tx.Now())
			if err != nil {
				return err
			}
			who, _ := r.asOperator(p.Operator)
			rec.Subject, rec.Diff = "session of "+who.Name, "with: a link"
			if p.Operator == "" {
				row, err := r.newOperator(OperatorRequest{Name: name, Role: vault.RoleAdmin.String()}, tx.Now())
				if err != nil {
					return err
				}
				if err := tx.PutOperator(row); err != nil {
					return err
				}
				who = Actor{Name: row.Name, Role: vault.RoleAdmin, Operator: row.ID}
				rec.Action, rec.Subject, rec.Diff = "operator.create", "operator "+row.Name, "role: (none) -> admin\nwith: the link for the first admin"
			}
			if err := tx.DeletePass(digest[:]); err != nil {
				return err
			}
			entry, err = s.openSession(tx, r, who, v)
			return err
		})
		return entry, err
	})
}
