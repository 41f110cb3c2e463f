package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// killDurableWait is how long a stop waits for its row before it answers that it holds in memory only. It
// leaves the client, who waits a second, time to hear that.
const killDurableWait = 700 * time.Millisecond

// Target says what an action on brakes is about: exactly one of the four.
type Target struct {
	Keys     []string `json:"keys,omitempty" maxItems:"10000" doc:"ids or exact names of vault keys"`
	Match    string   `json:"match,omitempty" doc:"glob over names of keys that are not revoked"`
	Upstream string   `json:"upstream,omitempty" doc:"id or name"`
	All      bool     `json:"all,omitempty" doc:"everything"`
}

// maxReason is as long as other reasons may be, in characters. No stop is refused for one that is longer.
const maxReason = 500

// KillRequest asks for a stop.
type KillRequest struct {
	Target
	ReadOnly bool   `json:"read_only,omitempty" doc:"let reads pass"`
	Reason   string `json:"reason,omitempty" doc:"of a long one the first 500 characters are kept"`
}

// KeyError is one key for which something could not be done.
type KeyError struct {
	Key   string `json:"key"`
	Error string `json:"error"`
}

// KillAnswer says what was stopped. From before it is given, no later call of the scope passes.
type KillAnswer struct {
	Scope string `json:"scope" doc:"all, upstream or key"`
	// Stopped are the ids of the keys that the stop holds, those of an upstream or all included.
	Stopped     []string   `json:"stopped"`
	Failed      []KeyError `json:"failed"`
	Mode        string     `json:"mode" doc:"stopped or read-only"`
	InFlight    int64      `json:"in_flight" doc:"calls that were on their way to the vendor already"`
	EffectiveMS float64    `json:"effective_ms" doc:"milliseconds until no later call could pass, at any node, and that was durable"`
	// DurableMS is when the node that answers let nothing of it pass any more and that was durable: what its own part took.
	DurableMS float64 `json:"durable_ms,omitempty" doc:"milliseconds until it was durable and in force at the node that answers; absent: it is in memory only"`
	// Nodes are the other nodes of a cluster.
	Nodes []NodeAck `json:"nodes,omitempty" doc:"when the other nodes let nothing of it pass any more"`
	// Warning says that the stop holds in memory and where it was left to be made durable.
	Warning string `json:"warning,omitempty"`
}

// one refuses a target that names nothing, or two things.
func (t Target) one() error {
	given := 0
	for _, is := range []bool{len(t.Keys) > 0, t.Match != "", t.Upstream != "", t.All} {
		if is {
			given++
		}
	}
	if given != 1 {
		return wrong("body", "name one of: vault keys, a glob (--match), an upstream (--upstream), everything (--all)")
	}
	return nil
}

// scopes finds what a target names. Keys that do not exist are failures beside those that do.
func (s *Service) scopes(t Target) (kind string, scopes []string, failed []KeyError, err error) {
	if err := t.one(); err != nil {
		return "", nil, nil, err
	}
	switch {
	case t.All:
		return "all", []string{store.ScopeAll}, nil, nil
	case t.Upstream != "":
		u, ok := s.Ring.FindUpstream(t.Upstream)
		if !ok {
			return "", nil, nil, refuse(NotFound, "there is no upstream %q; `keybrake upstream list` shows them", t.Upstream)
		}
		return "upstream", []string{store.UpstreamScope(u.ID)}, nil, nil
	}
	ids, failed, err := s.keys(t)
	for _, id := range ids {
		scopes = append(scopes, store.KeyScope(id))
	}
	return "key", scopes, failed, err
}

// keys finds the keys of a target by id, name or glob, each once.
func (s *Service) keys(t Target) (ids []policy.KeyID, failed []KeyError, err error) {
	if t.Match != "" {
		matched, err := s.Ring.MatchKeys(t.Match)
		if err != nil {
			return nil, nil, refuse(Invalid, "%v", err)
		}
		for _, k := range matched {
			ids = append(ids, k.ID)
		}
		if len(ids) == 0 {
			failed = append(failed, KeyError{t.Match, "no vault key that is not revoked has such a name"})
		}
		return ids, failed, nil
	}
	for _, name := range t.Keys {
		k, ok := s.Ring.FindKey(name)
		switch {
		case !ok:
			failed = append(failed, KeyError{name, "there is no such vault key; `keybrake key list` shows them"})
		case !slices.Contains(ids, k.ID):
			ids = append(ids, k.ID)
		}
	}
	return ids, failed, nil
}

// Kill pulls brakes. It pulls them in memory first: no call that looks at them later passes. Then it makes
// that durable. If that fails or takes too long the stop holds all the same; it is left in the KILL file,
// and the answer has a warning. A brake that is stricter already stays.
func (s *Service) Kill(ctx context.Context, who Actor, req KillRequest) (KillAnswer, error) {
	start := time.Now()
	kind, scopes, failed, err := s.scopes(req.Target)
	if err != nil {
		return KillAnswer{}, err
	}
	if r := []rune(req.Reason); len(r) > maxReason {
		req.Reason = string(r[:maxReason])
	}
	mode := vault.Stopped
	if req.ReadOnly {
		mode = vault.ReadOnly
	}
	answer := KillAnswer{Scope: kind, Mode: mode.String(), Stopped: []string{}, Failed: append([]KeyError{}, failed...)}
	if len(scopes) == 0 {
		return answer, nil
	}
	s.pullInMemory(scopes, mode)
	for _, scope := range scopes {
		answer.InFlight += s.Ring.InFlight(ringScope(scope))
	}
	durable := s.pullDurably(ctx, who, req, scopes, mode, answer.InFlight)
	select {
	case err = <-durable:
	case <-time.After(killDurableWait):
		err = errors.New("the store did not answer in time")
	}
	if err != nil {
		answer.Warning = s.leaveKillFile(who, scopes, mode, err)
	} else {
		answer.DurableMS = milliseconds(time.Since(start))
		s.heard(ctx, &answer)
	}
	answer.EffectiveMS = milliseconds(time.Since(start))
	answer.Stopped = append(answer.Stopped, s.held(kind, scopes)...)
	return answer, nil
}

// StopAll stops everything at once: what a signal does. how names it in the record.
func (s *Service) StopAll(ctx context.Context, how string) (KillAnswer, error) {
	return s.Kill(ctx, Actor{Name: how, Via: ViaProcess}, KillRequest{Target: Target{All: true}, Reason: "stopped by " + how})
}

// pullInMemory pulls brakes so that the next call meets them, and marks them so that no row loosens them.
func (s *Service) pullInMemory(scopes []string, mode vault.Brake) {
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	s.brakes.epoch++
	for _, scope := range scopes {
		s.brakes.pulls[scope]++
		was, ok := s.brakes.memory[scope]
		if !ok {
			was = vault.Normal
		}
		s.brakes.memory[scope] = min(was, mode)
		s.show(scope)
	}
}

// pullDurably writes the rows and the record, and tells when that has happened or failed. It goes on when
// nobody listens any more: a late success is a success.
func (s *Service) pullDurably(ctx context.Context, who Actor, req KillRequest, scopes []string, mode vault.Brake, inFlight int64) <-chan error {
	done := make(chan error, 1)
	ctx = context.WithoutCancel(ctx)
	s.background.Go(func() {
		var rows []store.BrakeRow
		record, err := s.actOnBrakes(ctx, who, "kill", func(tx store.Tx, rec *audit.Record) error {
			present, err := tx.Brakes()
			if err != nil {
				return fmt.Errorf("read brakes: %w", err)
			}
			rows = rows[:0]
			for _, scope := range scopes {
				row := store.BrakeRow{Scope: scope, Mode: mode, Reason: req.Reason, Actor: who.Name, At: tx.Now()}
				i := slices.IndexFunc(present, func(b store.BrakeRow) bool { return b.Scope == scope })
				if i >= 0 {
					row = tightened(present[i], row)
				}
				if err := tx.PutBrake(row); err != nil {
					return fmt.Errorf("write brake %s: %w", scope, err)
				}
				rows = append(rows, row)
			}
			rec.Reason, rec.InFlight = req.Reason, inFlight
			s.describe(rec, scopes)
			rec.Diff = brakeDiff(rec.Diff, mode.String())
			return nil
		})
		if err == nil {
			s.settlePull(rows, record)
		}
		done <- err
	})
	return done
}

// tightened is a brake after one more pull. The stricter mode stays, and everybody who pulled it is named: what several
// stopped, none of them may resume alone.
func tightened(present, pull store.BrakeRow) store.BrakeRow {
	out := pull
	if present.Mode < pull.Mode { // stopped already; read-only would loosen it
		out = present
	}
	out.Actor = present.Actor
	if !slices.Contains(strings.Split(present.Actor, pullers), pull.Actor) {
		out.Actor += pullers + pull.Actor
	}
	return out
}

// pullers stands between the names in a brake's actor; no name has it.
const pullers = ", "

// settlePull ends what pullInMemory began: a durable stop is a row's, one that failed stays in memory. record is the number of
// the stop's record: what was resumed after that, before this was called, stays resumed.
func (s *Service) settlePull(rows []store.BrakeRow, record int64) {
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	s.brakes.epoch++
	for _, row := range rows {
		if record < s.brakes.lifted[row.Scope] {
			continue
		}
		s.brakes.applied[row.Scope] = row
		if row.Mode <= s.brakes.memory[row.Scope] {
			delete(s.brakes.memory, row.Scope)
		}
		s.show(row.Scope) // a resumption may have come in between
	}
}

// describe writes what an action on brakes was about into its record.
func (s *Service) describe(rec *audit.Record, scopes []string) {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = s.nameOf(scope)
	}
	rec.Subject = names[0]
	if len(scopes) > 1 {
		rec.Subject = fmt.Sprintf("%d vault keys", len(scopes))
		rec.Diff = strings.Join(names, "\n")
		return
	}
	switch sc := ringScope(scopes[0]); {
	case sc.Key != "":
		if k, ok := s.Ring.Key(sc.Key); ok {
			rec.Key, rec.KeyName, rec.Upstream, rec.Mode = k.ID, k.Name, k.Upstream, k.Mode.String()
		}
	case sc.Upstream != "":
		rec.Upstream = sc.Upstream
	}
}

func brakeDiff(names, change string) string {
	if names == "" {
		return change
	}
	return change + ":\n" + names
}

// nameOf writes a scope for people: "all", "upstream stripe-test (up_...)", "vault key agent-x (key_...)".
func (s *Service) nameOf(scope string) string {
	switch sc := ringScope(scope); {
	case sc.Key != "":
		if k, ok := s.Ring.Key(sc.Key); ok {
			return fmt.Sprintf("vault key %s (%s)", k.Name, k.ID)
		}
	case sc.Upstream != "":
		if u, ok := s.Ring.Upstream(sc.Upstream); ok {
			return fmt.Sprintf("upstream %s (%s)", u.Name, u.ID)
		}
	}
	return scope
}

// held lists the keys that are not revoked within scopes.
func (s *Service) held(kind string, scopes []string) []string {
	var out []string
	if kind == "key" {
		for _, scope := range scopes {
			out = append(out, string(ringScope(scope).Key))
		}
		return out
	}
	within := ringScope(scopes[0])
	for _, k := range s.Ring.Keys() {
		if k.Revoked.IsZero() && (within.Upstream == "" || k.Upstream == within.Upstream) {
			out = append(out, string(k.ID))
		}
	}
	return out
}
