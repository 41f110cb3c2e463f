package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// brakes is how the rows of the store and the brakes in memory are kept the same. Rows change here, on other
// nodes and inside the store (a freeze); memory changes first when something is stopped here.
type brakes struct {
	mu sync.Mutex
	// epoch grows whenever this process begins or ends to change a brake. Rows that were read across such a
	// change say nothing about it.
	epoch uint64
	// applied are the rows that the ring shows.
	applied map[string]store.BrakeRow
	// memory are stops that are not durable (yet): no row may loosen them.
	memory map[string]vault.Brake
	// pulls counts the stops of each scope that began here.
	pulls map[string]uint64
	// lifted is the number of the record of each scope's last resumption here: rows that were read from books which end before
	// it do not know of it.
	lifted map[string]int64
}

// of is the brake that a scope must have: the stricter of row and memory.
func (b *brakes) of(scope string) vault.Brake {
	mode := vault.Normal
	if row, ok := b.applied[scope]; ok {
		mode = row.Mode
	}
	if m, ok := b.memory[scope]; ok {
		mode = min(mode, m)
	}
	return mode
}

// syncBrakes reads the rows and makes the ring follow. It is called every killPoll.
func (s *Service) syncBrakes(ctx context.Context) error {
	obey := s.Obeying()
	height, rows, err := s.readBrakes(ctx)
	if err != nil {
		return err
	}
	obey(height, rows)
	return nil
}

// readBrakes reads the rows of brakes, and the number of the last record beside them.
func (s *Service) readBrakes(ctx context.Context) (height int64, rows []store.BrakeRow, err error) {
	err = s.Store.View(ctx, func(tx store.Tx) (err error) {
		if height, _, err = tx.Height(); err != nil {
			return err
		}
		rows, err = tx.Brakes()
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read brakes: %w", err)
	}
	return height, rows, nil
}

// actOnBrakes is act for what changes brakes: it waits behind no call. It returns the number of the action's record.
func (s *Service) actOnBrakes(ctx context.Context, who Actor, action string, f func(store.Tx, *audit.Record) error) (record int64, err error) {
	var kept *audit.Record
	err = s.act(ctx, store.LaneBrake, who, action, func(tx store.Tx, rec *audit.Record) error {
		kept = rec
		return f(tx, rec)
	})
	if err != nil {
		return 0, err
	}
	return kept.Seq, nil
}

// apply makes the ring show the rows. It expects brakes.mu.
func (s *Service) apply(rows []store.BrakeRow) {
	now := make(map[string]store.BrakeRow, len(rows))
	for _, r := range rows {
		now[r.Scope] = r
	}
	before := s.brakes.applied
	s.brakes.applied = now
	for scope, row := range now {
		if old, ok := before[scope]; !ok || old.Mode != row.Mode || old.Reason != row.Reason {
			s.show(scope)
		}
	}
	for scope := range maps.Keys(before) {
		if _, still := now[scope]; !still {
			s.show(scope)
		}
	}
}

// show brings one scope of the ring to what it must be. It expects brakes.mu.
func (s *Service) show(scope string) {
	if id, ok := strings.CutPrefix(scope, "freeze:"); ok {
		row, frozen := s.brakes.applied[scope]
		_, err := s.Ring.ChangeKey(policy.KeyID(id), func(k vault.Key) vault.Key {
			k.Frozen = nil
			if frozen {
				k.Frozen = map[policy.Resource]string{policy.AllResources: row.Reason}
			}
			return k
		})
		s.unlessGone(scope, err)
		return
	}
	s.unlessGone(scope, s.setBrake(scope, s.brakes.of(scope)))
}

// unlessGone logs what keeps a brake from being shown. A row of a key or upstream that is not there stops
// nothing and needs nothing.
func (s *Service) unlessGone(scope string, err error) {
	if err != nil && !errors.Is(err, vault.ErrUnknownKey) && !errors.Is(err, vault.ErrUnknownUpstream) {
		s.Log.Error("a brake could not be applied", "scope", scope, "error", err)
	}
}

// setBrake sets one brake of the ring by the store's name of its scope.
func (s *Service) setBrake(scope string, b vault.Brake) error {
	_, err := s.Ring.SetBrake(ringScope(scope), b)
	return err
}

// ringScope reads the store's name of a scope. What it does not know is everything: too much is stopped
// rather than too little.
func ringScope(scope string) vault.Scope {
	kind, id, _ := strings.Cut(scope, ":")
	switch kind {
	case "key":
		return vault.Scope{Key: policy.KeyID(id)}
	case "upstream":
		return vault.Scope{Upstream: policy.UpstreamID(id)}
	default:
		return vault.All
	}
}

// frozen returns why a key's money is frozen, as a ring's key holds it; nil if it is not.
func (s *Service) frozen(id policy.KeyID) map[policy.Resource]string {
	s.brakes.mu.Lock()
	defer s.brakes.mu.Unlock()
	if row, ok := s.brakes.applied[store.FreezeScope(id)]; ok {
		return map[policy.Resource]string{policy.AllResources: row.Reason}
	}
	return nil
}
