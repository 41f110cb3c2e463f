package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// KeyView is a vault key as it may be shown.
type KeyView struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Upstream string    `json:"upstream" doc:"name"`
	Mode     string    `json:"mode"`
	State    string    `json:"state" doc:"live, expired or revoked"`
	Brake    string    `json:"brake" doc:"strictest of the key's, its upstream's and everything's"`
	Frozen   string    `json:"frozen,omitempty" doc:"why the key's writes are frozen"`
	Last4    string    `json:"last4"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	Revoked  time.Time `json:"revoked,omitzero"`
	// RotateBy is when the key's next text is due, by rotate_every of its policy.
	RotateBy time.Time `json:"rotate_by,omitzero"`
	Overdue  bool      `json:"overdue,omitempty" doc:"rotate_by is over"`
	// OverlapUntil is until when an older text works beside the newest one; Texts is how many work.
	OverlapUntil time.Time `json:"overlap_until,omitzero"`
	Texts        int       `json:"texts"`
	Probe        bool      `json:"probe,omitempty"`
	InFlight     int64     `json:"in_flight"`
}

// KeyDetail is a vault key with everything that decides about its calls.
type KeyDetail struct {
	KeyView
	Policy       string           `json:"policy" doc:"YAML, as policy files are written"`
	PolicyDigest string           `json:"policy_digest"`
	View         PolicyView       `json:"view" doc:"the policy in parts"`
	Version      int64            `json:"version" doc:"grows with each change of the key"`
	ETag         string           `json:"etag" doc:"version of what can be edited: the name and the policy"`
	Credentials  []CredentialView `json:"credentials"`
	// Joined are customers that the key created itself and that count as listed.
	Joined []policy.CustomerID `json:"joined,omitempty"`
	Caps   []SpendCap          `json:"caps"`
	// RestrictedKey is what the upstream's own credential needs for this policy; absent if nobody can tell.
	RestrictedKey *RestrictedKey `json:"restricted_key,omitempty"`
}

// CredentialView is one text that opens a key, or did until its last rotation.
type CredentialView struct {
	Last4   string    `json:"last4"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// KeyFilter selects vault keys.
type KeyFilter struct {
	Match    string // glob over names
	Upstream string // id or name
	Revoked  bool   // with those that were revoked
	After    string // id of the last key of the page before
	Limit    int    // 0 = maxPage
}

// Keys lists vault keys by name.
func (s *Service) Keys(f KeyFilter) (List[KeyView], error) {
	out := List[KeyView]{Items: []KeyView{}}
	keys, next, err := s.selectKeys(f)
	if err != nil {
		return out, err
	}
	now := s.Store.Now()
	for _, k := range keys {
		out.Items = append(out.Items, s.keyView(k, now))
	}
	out.Next = next
	return out, nil
}

// filtered are the keys that a filter selects, by name; its page aside.
func (s *Service) filtered(f KeyFilter) (keys []*vault.Key, err error) {
	keys = s.Ring.Keys()
	if f.Match != "" {
		if keys, err = s.Ring.MatchKeys(f.Match); err != nil {
			return nil, wrong("query.match", "%v", err)
		}
	}
	if f.Upstream != "" {
		u, err := s.upstream(f.Upstream)
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(keys, func(k *vault.Key) bool { return k.Upstream != u.ID })
	}
	if !f.Revoked {
		keys = slices.DeleteFunc(keys, func(k *vault.Key) bool { return !k.Revoked.IsZero() })
	}
	return keys, nil
}

func (s *Service) selectKeys(f KeyFilter) (page []*vault.Key, next string, err error) {
	keys, err := s.filtered(f)
	if err != nil {
		return nil, "", err
	}
	out, err := cut(keys, Paging{f.After, f.Limit}, func(k *vault.Key) string { return string(k.ID) })
	return out.Items, out.Next, err
}

// Key shows one key by id or name.
func (s *Service) Key(ctx context.Context, idOrName string) (KeyDetail, error) {
	k, err := s.key(idOrName)
	if err != nil {
		return KeyDetail{}, err
	}
	now := s.Store.Now()
	whole := s.whole(k)
	d := KeyDetail{
		KeyView: s.keyView(k, now), Policy: string(policy.Format(whole)), PolicyDigest: k.PolicyDigest, View: viewPolicy(k.Policy), Version: k.Version, ETag: keyTag(k),
		Joined: k.Joined, Credentials: viewTexts(k.Credentials), RestrictedKey: s.restrictedKey(whole, k.Mode),
	}
	if d.Caps, err = s.capsOf(ctx, k, now); err != nil {
		return KeyDetail{}, err
	}
	return d, nil
}

// keyTag is the version of what can be edited of a key. That its text was rotated, or that it was stopped, is no edit.
func keyTag(k *vault.Key) string { return entityTag(k.ID, k.Name, k.PolicyDigest) }

// keyTagNow is that of a key in the ring.
func (s *Service) keyTagNow(id policy.KeyID) string {
	k, ok := s.Ring.Key(id)
	if !ok {
		return ""
	}
	return keyTag(k)
}

func (s *Service) key(idOrName string) (*vault.Key, error) {
	k, ok := s.Ring.FindKey(idOrName)
	if !ok {
		return nil, refuse(NotFound, "there is no vault key %q; `keybrake key list` shows them", idOrName)
	}
	return k, nil
}

func (s *Service) keyView(k *vault.Key, now time.Time) KeyView {
	v := KeyView{
		ID: string(k.ID), Name: k.Name, Upstream: string(k.Upstream), Mode: k.Mode.String(), State: "live",
		Brake: s.Ring.EffectiveBrake(k.ID).String(), Created: k.Created.UTC(), Expires: k.Expires, Revoked: k.Revoked,
		Probe: k.Probe, InFlight: s.Ring.InFlight(vault.Scope{Key: k.ID}),
	}
	if u, ok := s.Ring.Upstream(k.Upstream); ok {
		v.Upstream = u.Name
	}
	if n := len(k.Credentials); n > 0 {
		v.Last4 = string(k.Credentials[n-1].Last4[:])
	}
	for _, r := range slices.Sorted(maps.Keys(k.Frozen)) {
		v.Frozen = k.Frozen[r]
	}
	switch {
	case !k.Revoked.IsZero():
		v.State = "revoked"
	case !k.Live(now):
		v.State = "expired"
	}
	v.rotation(k, now)
	return v
}

// whole returns the key's policy with the name and upstream that belong to the key: stored policies have
// none, so that keys made alike share one.
func (s *Service) whole(k *vault.Key) *policy.Policy {
	p := *k.Policy
	p.Name = k.Name
	if u, ok := s.Ring.Upstream(k.Upstream); ok {
		p.Upstream = u.Name
	}
	return &p
}

// bare is the reverse of whole.
func bare(p *policy.Policy) *policy.Policy {
	out := *p
	out.Name, out.Upstream = "", ""
	return &out
}

// KeyChanged says what a change of a key did.
type KeyChanged struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings"`
	ETag     string   `json:"etag,omitempty" doc:"version of what can be edited of the key; in answers to edits"`
}

// Change is one difference, in the policy's words.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// changeKey runs one action on a key that is not revoked: it reads the stored row (which may be newer than
// the ring's value), lets f change it, writes it with the record, and brings the ring after it.
func (s *Service) changeKey(ctx context.Context, who Actor, action, idOrName string, f func(*vault.Key, store.Tx, *audit.Record) error) error {
	present, err := s.key(idOrName)
	if err != nil {
		return err
	}
	if !present.Revoked.IsZero() {
		return alreadyRevoked(present)
	}
	var next *vault.Key
	err = s.act(ctx, store.LaneControl, who, action, func(tx store.Tx, rec *audit.Record) error {
		var err error
		if next, err = s.storedKey(tx, present); err != nil {
			return err
		}
		if next.Version != present.Version {
			// What is edited is what this node remembers of it.
			return refuse(Conflict, "the vault key %s was just changed at another node; look at it and try again", present.Name)
		}
		if err := f(next, tx, rec); err != nil {
			return err
		}
		keyRecord(rec, next)
		return putKey(tx, next)
	})
	if err != nil {
		return err
	}
	return s.showKey(next)
}

func keyRecord(rec *audit.Record, k *vault.Key) {
	rec.Key, rec.KeyName, rec.Upstream, rec.Mode, rec.Policy = k.ID, k.Name, k.Upstream, k.Mode.String(), k.PolicyDigest
	rec.Subject = "vault key " + k.Name
}

// putKey writes a key and takes over the version of its row.
func putKey(tx store.Tx, k *vault.Key) error {
	row, err := store.EncodeKey(k, policy.Format(k.Policy), k.PolicyDigest)
	if err != nil {
		return err
	}
	if k.Version, err = tx.PutKey(row); err != nil {
		return fmt.Errorf("write vault key %s: %w", k.Name, err)
	}
	return nil
}

// showKey puts a stored key into the ring, with the freeze that it has there.
func (s *Service) showKey(k *vault.Key) error {
	k.Brake, k.Frozen = vault.Normal, s.frozen(k.ID)
	if _, err := s.Ring.PutKey(*k); err != nil {
		return fmt.Errorf("show vault key %s: %w", k.Name, err)
	}
	return nil
}

// ReloadKey brings the ring's value of a key up to its stored row: after something else than an operator
// changed it.
func (s *Service) ReloadKey(ctx context.Context, id policy.KeyID) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	var k *vault.Key
	err := s.Store.View(ctx, func(tx store.Tx) error {
		row, err := tx.Key(id)
		if err != nil {
			return fmt.Errorf("read vault key %s: %w", id, err)
		}
		p, err := s.storedPolicy(row)
		if err != nil {
			return err
		}
		k, err = store.DecodeKey(row, p)
		return err
	})
	if err != nil {
		return err
	}
	return s.showKey(k)
}

func changesOf(changes []policy.Change) (shown []Change, diff string) {
	shown = []Change{}
	var lines []string
	for _, c := range changes {
		shown = append(shown, Change{c.Field, c.Old, c.New})
		lines = append(lines, fmt.Sprintf("%s: %s -> %s", c.Field, orNone(c.Old), orNone(c.New)))
	}
	return shown, strings.Join(lines, "\n")
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
