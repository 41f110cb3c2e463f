package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Obeying begins a look at the store's brakes. What it returns makes the ring obey those that were read since, from books whose
// last record had the number height; when that has returned, no call that departs later passes one of them that has not been
// lifted. Neither waits for anybody. One look ends before the next begins.
func (s *Service) Obeying() (obey func(height int64, rows []store.BrakeRow)) {
	s.looked.Store(s.deeds.Load())
	s.brakes.mu.Lock()
	epoch := s.brakes.epoch
	s.brakes.mu.Unlock()
	return func(height int64, rows []store.BrakeRow) {
		s.brakes.mu.Lock()
		defer s.brakes.mu.Unlock()
		if s.brakes.epoch == epoch {
			s.apply(rows)
			return
		}
		// A brake was changed here meanwhile, so the rows may be older than that. What they stop is stopped all the same, too much
		// perhaps until the next look, but for what was lifted here after they were read: that calls pass again has been told.
		for _, row := range rows {
			if height < s.brakes.lifted[row.Scope] {
				continue
			}
			if was, ok := s.brakes.applied[row.Scope]; !ok || row.Mode < was.Mode {
				s.brakes.applied[row.Scope] = row
				s.show(row.Scope)
			}
		}
	}
}

// Follow acts on what operators changed at other nodes: keys, upstreams, rates, and who may come in. It returns false if an
// operator's change is just being made here; then nothing was done, and the caller tells it again.
func (s *Service) Follow(_ context.Context, c store.Changed) (bool, error) {
	admitted, err := s.followRoster(c)
	if err != nil || !admitted {
		return false, err
	}
	if !s.changes.TryLock() {
		return false, nil
	}
	defer s.changes.Unlock()
	if s.deeds.Load() != s.looked.Load() { // what was read may be older than what was done here since
		return false, nil
	}
	s.rates.Store(money.NewTable(c.Rates))
	there := make(map[policy.UpstreamID]bool, len(c.Upstreams))
	for _, row := range c.Upstreams {
		there[row.ID] = true
	}
	for _, u := range s.Ring.Upstreams() {
		if !there[u.ID] {
			_ = s.Ring.RemoveUpstream(u.ID) // its name may be another's now; one that still has keys is told below
		}
	}
	for _, row := range c.Upstreams {
		if err := s.takeUpstream(row); err != nil {
			return false, err
		}
	}
	policies := make(map[string]*policy.Policy)
	for _, row := range c.Keys {
		if err := s.takeKey(row, policies); err != nil {
			return false, err
		}
	}
	for _, u := range s.Ring.Upstreams() {
		if !there[u.ID] {
			if err := s.Ring.RemoveUpstream(u.ID); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// followRoster lets in who may come in now, also while an operator's change of something else goes on here.
func (s *Service) followRoster(c store.Changed) (bool, error) {
	if !s.rosterMu.TryLock() {
		return false, nil
	}
	defer s.rosterMu.Unlock()
	if s.deeds.Load() != s.looked.Load() {
		return false, nil
	}
	next, err := newRoster(c.Operators, c.Tokens, c.Passes)
	if err != nil {
		return false, err
	}
	s.roster.Store(next)
	return true, nil
}

// takeUpstream puts an upstream into the ring, under the brake that it has.
func (s *Service) takeUpstream(row store.UpstreamRow) error {
	u, err := decodeUpstream(row)
	if err != nil {
		return err
	}
	u.Brake = s.brakeOf(store.UpstreamScope(u.ID))
	if _, err = s.Ring.PutUpstream(u); err != nil {
		return err
	}
	// A stop may have come since its brake was read, and then the ring did not have the upstream yet.
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	s.show(store.UpstreamScope(u.ID))
	return nil
}

// takeKey puts a key into the ring, under the brake and the freeze that it has. A policy that this program does not understand
// becomes one that permits nothing, which is logged.
func (s *Service) takeKey(row store.KeyRow, policies map[string]*policy.Policy) error {
	p, known := policies[row.Digest]
	if !known {
		var err error
		if p, err = s.storedPolicy(row); err != nil {
			s.Log.Error("loaded with a problem", "problem", notUnderstood(row, err))
			p = nothing()
		}
		policies[row.Digest] = p
	}
	k, err := store.DecodeKey(row, p)
	if err != nil {
		return err
	}
	k.Brake, k.Frozen = s.brakeOf(store.KeyScope(k.ID)), s.frozen(k.ID)
	if _, err := s.Ring.PutKey(*k); err != nil {
		return err
	}
	// A stop may have come since its brake was read, and then the ring did not have the key yet.
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	s.show(store.KeyScope(k.ID))
	return nil
}

func (s *Service) brakeOf(scope string) vault.Brake {
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	return s.brakes.of(scope)
}

// nothing is a policy that permits nothing.
func nothing() *policy.Policy { return &policy.Policy{Timezone: time.UTC} }

func notUnderstood(row store.KeyRow, err error) string {
	return fmt.Sprintf("vault key %s denies everything: its policy is not understood (%v)", row.Name, err)
}
