package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// resumeWait is how long a resumption waits for its turn. One that the store has not begun by then is withdrawn: it must
// not come when nobody expects it any more.
const resumeWait = 5 * time.Second

// ResumeRequest asks to lift one brake, or those of some keys. A reason is required.
type ResumeRequest struct {
	Target
	// Books lifts the freeze of all writes after the books were found to be other than they were left.
	Books  bool   `json:"books,omitempty" doc:"the freeze of all writes, instead of a brake"`
	Reason string `json:"reason" maxLength:"500" doc:"why it is safe again; goes into the audit"`
}

func (req ResumeRequest) check() error {
	var bad faults
	if strings.TrimSpace(req.Reason) == "" {
		bad.add("", wrong("body.reason", "a reason is required to resume; give it with --reason"))
	}
	if !req.Books {
		bad.add("", req.Target.one())
	}
	return bad.refusal()
}

// ResumeAnswer says what was lifted and what still stops calls of the same scope.
type ResumeAnswer struct {
	Scope   string     `json:"scope" doc:"all, upstream, key or books"`
	Resumed []string   `json:"resumed" doc:"ids of what was released; all for everything"`
	Failed  []KeyError `json:"failed"`
	Still   []Brake    `json:"still" doc:"brakes and freezes that stop calls of this scope all the same"`
}

// Brake is one brake that is pulled, or the freeze of a key's writes.
type Brake struct {
	Scope    string `json:"scope" doc:"all, upstream, key, freeze, or books: all writes"`
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Mode     string `json:"mode"`
	Reason   string `json:"reason,omitempty"`
	Actor    string `json:"actor,omitempty"`
	At       string `json:"at,omitempty"`
	InFlight int64  `json:"in_flight"`
}

// Resume lifts brakes: of everything, of one upstream, or of keys together with their freezes. It lifts
// nothing else. The row goes first; only then calls pass. Who is no admin may resume only what they alone stopped.
func (s *Service) Resume(ctx context.Context, who Actor, req ResumeRequest) (ResumeAnswer, error) {
	if err := req.check(); err != nil {
		return ResumeAnswer{}, err
	}
	if !who.Role.May(vault.ToLower) || req.Books && !who.Role.May(vault.ToChange) {
		return ResumeAnswer{}, refuse(Forbidden, "only an admin may resume that")
	}
	if req.Books {
		return s.resumeBooks(ctx, who, req)
	}
	kind, scopes, failed, err := s.scopes(req.Target)
	if err != nil {
		return ResumeAnswer{}, err
	}
	answer := ResumeAnswer{Scope: kind, Resumed: []string{}, Failed: append([]KeyError{}, failed...), Still: []Brake{}}
	if len(scopes) == 0 {
		return answer, nil
	}
	lift := scopes
	if kind == "key" {
		lift = nil
		for _, scope := range scopes {
			lift = append(lift, scope, store.FreezeScope(ringScope(scope).Key))
		}
	}
	s.brakes.mu.Lock()
	s.brakes.epoch++
	pulls := make(map[string]uint64, len(lift))
	for _, scope := range lift {
		pulls[scope] = s.brakes.pulls[scope]
		if _, undurable := s.brakes.memory[scope]; undurable && !who.Role.May(vault.ToChange) {
			s.brakes.mu.Unlock()
			return ResumeAnswer{}, refuse(Forbidden, "a stop of %s is not written down yet, so nobody knows whose it is; an admin can resume it", s.nameOf(scope))
		}
	}
	s.brakes.mu.Unlock()
	waiting, cancel := context.WithTimeout(ctx, resumeWait)
	defer cancel()
	record, err := s.actOnBrakes(waiting, who, "resume", func(tx store.Tx, rec *audit.Record) error {
		var lifted []string
		if err := s.mayLift(tx, who, lift); err != nil {
			return err
		}
		for _, scope := range lift {
			was, err := tx.LiftBrake(scope)
			if err != nil {
				return fmt.Errorf("lift brake %s: %w", scope, err)
			}
			if was && strings.HasPrefix(scope, "freeze:") {
				lifted = append(lifted, scope)
			}
		}
		rec.Reason = req.Reason
		s.describe(rec, scopes)
		rec.Diff = brakeDiff(rec.Diff, strings.Join(append([]string{"normal"}, lifted...), " "))
		return nil
	})
	if err != nil {
		return ResumeAnswer{}, err
	}
	s.release(pulls, record)
	for _, scope := range scopes {
		answer.Resumed = append(answer.Resumed, ringScope(scope).String())
	}
	answer.Still = append(answer.Still, s.still(kind, scopes)...)
	return answer, nil
}

// mayLift refuses whoever is no admin what somebody else stopped too.
func (s *Service) mayLift(tx store.Tx, who Actor, scopes []string) error {
	if who.Role.May(vault.ToChange) {
		return nil
	}
	rows, err := tx.Brakes()
	if err != nil {
		return fmt.Errorf("read brakes: %w", err)
	}
	for _, row := range rows {
		if row.Actor != who.Name && slices.Contains(scopes, row.Scope) {
			return refuse(Forbidden, "%s was stopped by %s; only an admin may resume what somebody else stopped", s.nameOf(row.Scope), row.Actor)
		}
	}
	return nil
}

// resumeBooks lets writes pass again after an operator has looked at the books.
func (s *Service) resumeBooks(ctx context.Context, who Actor, req ResumeRequest) (ResumeAnswer, error) {
	if len(req.Keys) > 0 || req.Match != "" || req.Upstream != "" || req.All {
		return ResumeAnswer{}, refuse(Invalid, "the books are resumed by themselves: say --books alone")
	}
	answer := ResumeAnswer{Scope: "books", Resumed: []string{}, Failed: []KeyError{}, Still: []Brake{}}
	record, err := s.actOnBrakes(ctx, who, "resume", func(tx store.Tx, rec *audit.Record) error {
		rows, err := tx.Brakes()
		if err != nil {
			return fmt.Errorf("read brakes: %w", err)
		}
		for _, row := range rows {
			if row.Scope == store.ScopeBooks {
				rec.Subject, rec.Reason, rec.Diff = "books", req.Reason, "frozen because: "+row.Reason
			}
		}
		was, err := tx.LiftBrake(store.ScopeBooks)
		if err == nil && !was {
			return refuse(Conflict, "the books are not frozen")
		}
		return err
	})
	if err != nil {
		return ResumeAnswer{}, err
	}
	s.release(map[string]uint64{store.ScopeBooks: 0}, record) // nobody pulls it here
	answer.Resumed = append(answer.Resumed, "books")
	answer.Still = append(answer.Still, s.Brakes()...)
	return answer, nil
}

// release lets calls pass in memory. A scope that was stopped since the resumption began stays as it is:
// which of the two came last is in the rows, and that stop, or the next round of syncBrakes, shows it.
func (s *Service) release(pulls map[string]uint64, record int64) {
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	s.brakes.epoch++
	for scope, n := range pulls {
		if s.brakes.pulls[scope] != n {
			continue
		}
		s.brakes.lifted[scope] = record
		delete(s.brakes.applied, scope)
		delete(s.brakes.memory, scope)
		s.show(scope)
	}
}

// still lists what stops calls of a scope that was released: for keys what is above them, for everything
// and for upstreams also what is below.
func (s *Service) still(kind string, scopes []string) []Brake {
	upstreams, keys := map[policy.UpstreamID]bool{}, map[policy.KeyID]bool{}
	for _, scope := range scopes {
		sc := ringScope(scope)
		if k, ok := s.Ring.Key(sc.Key); ok {
			keys[k.ID], upstreams[k.Upstream] = true, true
		}
		upstreams[sc.Upstream] = true
	}
	var out []Brake
	for _, b := range s.Brakes() {
		var concerns bool
		switch b.Scope {
		case "all", "books":
			concerns = true
		case "upstream":
			concerns = kind == "all" || upstreams[policy.UpstreamID(b.ID)]
		default:
			k, ok := s.Ring.Key(policy.KeyID(b.ID))
			concerns = ok && (kind == "all" || keys[k.ID] || kind == "upstream" && upstreams[k.Upstream])
		}
		if concerns {
			out = append(out, b)
		}
	}
	return out
}

// Brakes lists the brakes and freezes that are not normal: everything's first, then upstreams', keys' and
// freezes, each by name.
func (s *Service) Brakes() []Brake {
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	var out []Brake
	add := func(b Brake, scope string, in vault.Scope) {
		if row, ok := s.brakes.applied[scope]; ok {
			b.Reason, b.Actor, b.At = row.Reason, row.Actor, stamp(row.At)
		}
		b.InFlight = s.Ring.InFlight(in)
		out = append(out, b)
	}
	if _, frozen := s.brakes.applied[store.ScopeBooks]; frozen {
		add(Brake{Scope: "books", Mode: vault.ReadOnly.String()}, store.ScopeBooks, vault.All)
	}
	for _, b := range s.Ring.Brakes() {
		switch {
		case b.Scope.Key != "":
			add(Brake{Scope: "key", ID: string(b.Scope.Key), Name: b.Name, Mode: b.Brake.String()}, store.KeyScope(b.Scope.Key), b.Scope)
		case b.Scope.Upstream != "":
			add(Brake{Scope: "upstream", ID: string(b.Scope.Upstream), Name: b.Name, Mode: b.Brake.String()},
				store.UpstreamScope(b.Scope.Upstream), b.Scope)
		default:
			add(Brake{Scope: "all", Mode: b.Brake.String()}, store.ScopeAll, b.Scope)
		}
	}
	var frozen []*vault.Key
	for scope := range s.brakes.applied {
		id, is := strings.CutPrefix(scope, store.FreezeScope(""))
		if k, ok := s.Ring.Key(policy.KeyID(id)); is && ok && len(k.Frozen) > 0 && k.Revoked.IsZero() {
			frozen = append(frozen, k)
		}
	}
	slices.SortFunc(frozen, func(a, b *vault.Key) int { return strings.Compare(a.Name, b.Name) })
	for _, k := range frozen {
		add(Brake{Scope: "freeze", ID: string(k.ID), Name: k.Name, Mode: vault.ReadOnly.String()}, store.FreezeScope(k.ID), vault.Scope{Key: k.ID})
	}
	return out
}
