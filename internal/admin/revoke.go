package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Revocation names vault keys that end for good: some, or all whose names match.
type Revocation struct {
	Keys   []string `json:"keys,omitempty" maxItems:"10000" doc:"ids or exact names of vault keys"`
	Match  string   `json:"match,omitempty" doc:"glob over names of keys that are not revoked"`
	Reason string   `json:"reason,omitempty" maxLength:"500"`
}

// Revoked says which keys were ended, and for which that could not be done.
type Revoked struct {
	Items  []KeyChanged `json:"items"`
	Failed []KeyError   `json:"failed"`
	Next   string       `json:"next" doc:"always empty: all are there"`
}

// RevokeKey ends a key for good. Its name is free again; its records and books stay.
func (s *Service) RevokeKey(ctx context.Context, who Actor, idOrName, reason string) (KeyChanged, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	var out KeyChanged
	err := s.changeKey(ctx, who, "key.revoke", idOrName, func(k *vault.Key, tx store.Tx, rec *audit.Record) error {
		k.Revoked, rec.Reason, rec.Diff = tx.Now(), reason, revokedDiff
		out = revoked(k)
		return nil
	})
	return out, err
}

const revokedDiff = "state: live -> revoked"

func revoked(k *vault.Key) KeyChanged {
	return KeyChanged{ID: string(k.ID), Name: k.Name, Changes: []Change{{"state", "live", "revoked"}}, Warnings: []string{}}
}

// RevokeKeys ends several keys for good, all in one transaction with one record. Keys that do not exist, or were revoked
// before, are failures beside the others.
func (s *Service) RevokeKeys(ctx context.Context, who Actor, req Revocation) (Revoked, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	out := Revoked{Items: []KeyChanged{}, Failed: []KeyError{}}
	if (len(req.Keys) == 0) == (req.Match == "") {
		return out, refuse(Invalid, "name vault keys, or give a glob (--match)")
	}
	ids, failed, err := s.keys(Target{Keys: req.Keys, Match: req.Match})
	if err != nil {
		return out, err
	}
	out.Failed = append(out.Failed, failed...)
	var keys []*vault.Key
	for _, id := range ids {
		k, err := s.key(string(id))
		if err != nil {
			return out, err
		}
		if !k.Revoked.IsZero() {
			out.Failed = append(out.Failed, KeyError{string(id), alreadyRevoked(k).Message})
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return out, nil
	}
	ended, err := s.revokeAll(ctx, who, keys, req.Reason)
	if err != nil {
		return Revoked{}, err
	}
	for _, k := range ended {
		if err := s.showKey(k); err != nil {
			return Revoked{}, err
		}
		out.Items = append(out.Items, revoked(k))
	}
	return out, nil
}

func (s *Service) revokeAll(ctx context.Context, who Actor, keys []*vault.Key, reason string) (ended []*vault.Key, err error) {
	err = s.act(ctx, store.LaneControl, who, "key.revoke", func(tx store.Tx, rec *audit.Record) error {
		ended = ended[:0]
		var names []string
		for _, present := range keys {
			k, err := s.storedKey(tx, present)
			if err != nil {
				return err
			}
			k.Revoked = tx.Now()
			if err := putKey(tx, k); err != nil {
				return err
			}
			ended = append(ended, k)
			names = append(names, fmt.Sprintf("vault key %s (%s)", k.Name, k.ID))
		}
		rec.Reason, rec.Diff = reason, revokedDiff
		if len(ended) == 1 {
			keyRecord(rec, ended[0])
			return nil
		}
		rec.Subject = fmt.Sprintf("%d vault keys", len(ended))
		rec.Diff += ":\n" + strings.Join(names, "\n")
		return nil
	})
	return ended, err
}

// storedKey reads a key as it is stored, which may be newer than the ring's value and have another policy. One that this program
// does not understand is left as the ring has it.
func (s *Service) storedKey(tx store.Tx, present *vault.Key) (*vault.Key, error) {
	row, err := tx.Key(present.ID)
	if err != nil {
		return nil, fmt.Errorf("read vault key %s: %w", present.ID, err)
	}
	p := present.Policy
	if row.Digest != present.PolicyDigest {
		if other, err := s.storedPolicy(row); err == nil {
			p = other
		}
	}
	return store.DecodeKey(row, p)
}

func alreadyRevoked(k *vault.Key) *Refusal {
	return refuse(Conflict, "the vault key %s was revoked on %s and stays so; create another one", k.Name, stamp(k.Revoked))
}

// revocation registers what ends keys.
func (a *api) revocation() {
	handle(a, route{http.MethodPost, "keys/{key}/revoke", "revoke-key", "End a vault key for good", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Key  string `path:"key" doc:"id or name"`
			Body Reason
		}) (KeyChanged, error) {
			return a.s.RevokeKey(ctx, who, in.Key, in.Body.Reason)
		})
	handle(a, route{http.MethodPost, "keys/revoke", "revoke-keys", "End several vault keys for good, in one transaction", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *body[Revocation]) (Revoked, error) {
			return a.s.RevokeKeys(ctx, who, in.Body)
		})
}

// RevokeKey calls Service.RevokeKey.
func (c *Client) RevokeKey(ctx context.Context, idOrName, reason string) (KeyChanged, error) {
	return call[KeyChanged](ctx, c, http.MethodPost, "keys/"+seg(idOrName)+"/revoke", nil, Reason{reason})
}

// RevokeKeys calls Service.RevokeKeys.
func (c *Client) RevokeKeys(ctx context.Context, req Revocation) (Revoked, error) {
	return call[Revoked](ctx, c, http.MethodPost, "keys/revoke", nil, req)
}
