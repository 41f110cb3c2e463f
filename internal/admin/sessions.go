package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// SessionIdle is how long a session lives without a request: a night between two shifts.
	SessionIdle = 12 * time.Hour
	// SessionLife is how long it lives at most.
	SessionLife = 7 * 24 * time.Hour
	// maxSessions bounds those of one operator or tool; the oldest makes room.
	maxSessions = 32
	// maxAgent bounds what is kept of a User-Agent.
	maxAgent = 200
)

// Visitor is whoever stands at the door.
type Visitor struct {
	From  string // address
	Agent string // User-Agent, as sent
}

// Entry is a session that was opened: its text goes to the browser, and is stored nowhere.
type Entry struct {
	Session vault.Secret
	Who     Actor
	Expires time.Time
	// IDToken is what an OpenID provider vouched with; empty: it was somebody else.
	IDToken string
}

// Session is an open session as it may be shown.
type Session struct {
	ID       string    `json:"id"`
	Operator string    `json:"operator" doc:"name of the operator, or of the tool whose token opened it"`
	Token    string    `json:"token,omitempty" doc:"name of the token that opened it, and ends it"`
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"seen" doc:"to within a minute"`
	Expires  time.Time `json:"expires" doc:"at the latest; 12 hours after it was used last it ends too"`
	From     string    `json:"from" doc:"address that it was opened from"`
	Agent    string    `json:"agent" doc:"browser, as it calls itself"`
	Current  bool      `json:"current" doc:"the one that asks"`
}

// sessionID names a session in lists: a part of the digest, which tells nothing about the text.
func sessionID(digest vault.Digest) string { return "ses_" + digest.String()[:16] }

// SignIn opens a session for the holder of a token.
func (s *Service) SignIn(ctx context.Context, token string, v Visitor) (Entry, error) {
	return s.knock(v, func() (Entry, error) {
		who, ok := s.present(token)
		if !ok {
			return Entry{}, refuse(Stranger, "this is no valid operator's token: it is mistyped, expired or was ended")
		}
		if !who.Role.May(vault.ToSee) {
			return Entry{}, refuse(Forbidden, "the token %s may only stop, so there is nothing here for it; sign in with an operator's token", who.Name)
		}
		var entry Entry
		err := s.changeRoster(ctx, at(who, v), "session.open", func(tx store.Tx, rec *audit.Record, r *roster) (err error) {
			rec.Subject, rec.Diff = "session of "+who.Name, "with: token "+who.Token
			if who.Via == ViaLocal {
				rec.Diff = "with: the token in server.json"
			}
			entry, err = s.openSession(tx, r, who, v)
			return err
		})
		return entry, err
	})
}

func at(who Actor, v Visitor) Actor {
	who.From = v.From
	return who
}

// openSession writes a session, and sweeps out those that have ended by themselves.
func (s *Service) openSession(tx store.Tx, r *roster, who Actor, v Visitor) (Entry, error) {
	now := tx.Now()
	owner := func(p store.PassRow) bool {
		return p.Kind == store.PassSession && p.Operator == who.Operator && (who.Operator != "" || p.Token == who.Token)
	}
	var own []time.Time
	for digest, p := range r.passes {
		if owner(p) && !s.over(digest, p, now) {
			own = append(own, p.Created)
		}
	}
	slices.SortFunc(own, time.Time.Compare)
	var room time.Time // sessions up to then make room
	if len(own) >= maxSessions {
		room = own[len(own)-maxSessions]
	}
	_, err := endPasses(tx, r, func(p store.PassRow) bool {
		return s.over(vault.Digest(p.Digest), p, now) || owner(p) && !p.Created.After(room)
	})
	if err != nil {
		return Entry{}, err
	}
	secret, digest := s.Ring.Master().MintPass(vault.PassSession)
	expires := now.Add(SessionLife)
	who.Via, who.Session = ViaSession, sessionID(digest)
	return Entry{Session: secret, Who: at(who, v), Expires: expires}, tx.PutPass(store.PassRow{
		Digest: digest[:], Kind: store.PassSession, Operator: who.Operator, Token: who.Token,
		Created: now, Seen: now, Expires: expires, From: v.From, Agent: agent(v.Agent),
	})
}

// agent is what is kept of a User-Agent: whatever it says of itself, cut.
func agent(text string) string {
	text = strings.ToValidUTF8(text, "?")
	for len(text) > maxAgent {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	return text
}

// idle is for how long a session was not used.
func (s *Service) idle(digest vault.Digest, p store.PassRow, now time.Time) time.Duration {
	return now.Sub(s.lately.of(passUse(digest), p.Seen))
}

// over reports whether a session or a link has ended by itself.
func (s *Service) over(digest vault.Digest, p store.PassRow, now time.Time) bool {
	return !now.Before(p.Expires) || p.Kind == store.PassSession && s.idle(digest, p, now) >= SessionIdle
}

// Whose tells whose session it is and what they may do now. A request that somebody made (active) keeps it from ending; one
// that a page made by itself does not.
func (s *Service) Whose(session string, active bool) (Actor, bool) {
	digest, ok := s.Ring.Master().PassDigest(vault.PassSession, session)
	if !ok {
		return Actor{}, false
	}
	now, r := s.Store.Now(), s.roster.Load()
	p, ok := r.passes[digest]
	if !ok || p.Kind != store.PassSession || s.over(digest, p, now) {
		return Actor{}, false
	}
	who, ok := s.owner(r, p, now)
	if !ok || !who.Role.May(vault.ToSee) {
		return Actor{}, false
	}
	who.Via, who.Session = ViaSession, sessionID(digest)
	if active {
		s.notePass(digest, now)
	}
	return who, true
}

// owner finds who a session lets in now: what opened it must still be worth something.
func (s *Service) owner(r *roster, p store.PassRow, now time.Time) (Actor, bool) {
	if who, ok := s.asLocal(p.Token); ok {
		return who, true
	}
	if p.Token != "" {
		return r.asToken(p.Token, now)
	}
	return r.asOperator(p.Operator)
}

// SignOut ends a session.
func (s *Service) SignOut(ctx context.Context, session string, v Visitor) error {
	who, ok := s.Whose(session, false)
	if !ok {
		return nil
	}
	return s.EndSession(ctx, at(who, v), who.Session)
}

// Sessions lists the open sessions, the latest first.
func (s *Service) Sessions(who Actor) []Session {
	r, now, out := s.roster.Load(), s.Store.Now(), []Session{}
	for digest, p := range r.passes {
		owner, ok := s.owner(r, p, now)
		if p.Kind != store.PassSession || !ok || s.over(digest, p, now) {
			continue
		}
		id := sessionID(digest)
		shown := p.Token
		if strings.HasPrefix(shown, "local ") {
			shown = "server.json"
		}
		out = append(out, Session{
			ID: id, Operator: owner.Name, Token: shown, Created: p.Created, Seen: s.lately.of(passUse(digest), p.Seen), Expires: p.Expires,
			From: p.From, Agent: p.Agent, Current: id == who.Session,
		})
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.ID, b.ID)) })
	return out
}

// EndSession ends a session; its next request is refused. Who is no admin may end their own.
func (s *Service) EndSession(ctx context.Context, who Actor, id string) error {
	return s.changeRoster(ctx, who, "session.end", func(tx store.Tx, rec *audit.Record, r *roster) error {
		for digest, p := range r.passes {
			if p.Kind != store.PassSession || sessionID(digest) != id {
				continue
			}
			if id != who.Session && !mayFor(who, p.Operator) {
				return refuse(Forbidden, "only an admin may end somebody else's session")
			}
			rec.Subject, rec.Diff = "session of "+r.ownerName(p), changed("session", id, "")
			return tx.DeletePass(digest[:])
		}
		return refuse(NotFound, "there is no session %q; it may have ended (`keybrake session list`)", id)
	})
}

// EndSessions ends all sessions of an operator. Who is no admin may end their own.
func (s *Service) EndSessions(ctx context.Context, who Actor, operator string) (ended int, err error) {
	err = s.changeRoster(ctx, who, "session.end", func(tx store.Tx, rec *audit.Record, r *roster) error {
		row, err := r.operator(operator)
		if err != nil {
			return err
		}
		if !mayFor(who, row.ID) {
			return refuse(Forbidden, "only an admin may end somebody else's sessions")
		}
		ended, err = endPasses(tx, r, func(p store.PassRow) bool { return p.Kind == store.PassSession && p.Operator == row.ID })
		rec.Subject, rec.Diff = "sessions of "+row.Name, endedDiff(ended)
		return err
	})
	return ended, err
}

// ownerName is whose a session is, for a record.
func (r *roster) ownerName(p store.PassRow) string {
	switch {
	case p.Operator != "":
		return r.operators[p.Operator].Name
	case strings.HasPrefix(p.Token, "local "):
		return "local"
	default:
		return p.Token
	}
}
