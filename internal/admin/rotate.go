package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Limits of rotations.
const (
	// defaultOverlap is how long both texts of a rotated key work: a deployment's time.
	defaultOverlap = 24 * time.Hour
	// maxOverlap keeps an old text from living on for good.
	maxOverlap = 90 * 24 * time.Hour
	// maxTexts is how many texts of a key may work at once: a loop that rotates must not fill the key's row.
	maxTexts = 10
)

// Rotation asks for a key's new text.
type Rotation struct {
	Overlap string `json:"overlap,omitempty" doc:"how long the present text works on, like 24h (the default), 7d or 0s"`
	// Open is for who must put the new text somewhere first: nothing ends before they say so with an Overlap.
	Open bool `json:"open,omitempty" doc:"the present text gets no end yet; end it with /overlap once the new one is in its place"`
}

// Overlap asks for the end of a key's older texts.
type Overlap struct {
	Overlap string `json:"overlap,omitempty" doc:"how long they work on, like 24h or 0s (the default): no text works longer than it would have"`
}

// Undoing takes back a rotation.
type Undoing struct {
	Last4 string `json:"last4" doc:"of the newest text, so that nobody takes back another rotation than they mean"`
}

// KeyRotated is the one answer that shows a rotated key's new text.
type KeyRotated struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Key   string `json:"key,omitempty" doc:"shown this once"`
	Last4 string `json:"last4" doc:"of the new text"`
	// OldUntil is when the text before stops working.
	OldUntil time.Time `json:"old_until,omitzero"`
	RotateBy time.Time `json:"rotate_by,omitzero" doc:"when the next rotation is due"`
}

// KeyTexts says which texts of a key work after a change of them.
type KeyTexts struct {
	ID    string           `json:"id"`
	Name  string           `json:"name"`
	Texts []CredentialView `json:"texts" doc:"those that work, the newest last"`
	// OldUntil is when the last of the older texts stops working, after an end was given to them.
	OldUntil time.Time `json:"old_until,omitzero"`
}

// RotateKey gives a key a new text, which works at once. Both are the same key: one policy, one set of caps, one brake.
// The present text works until overlap has passed (zero: not at all any more); one that was older still ends no later
// than that. With open no text gets an end before EndOverlap gives it one.
func (s *Service) RotateKey(ctx context.Context, who Actor, idOrName string, overlap time.Duration, open bool) (KeyRotated, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := checkOverlap(overlap); err != nil {
		return KeyRotated{}, err
	}
	var out KeyRotated
	err := s.changeKey(ctx, who, "key.rotate", idOrName, func(k *vault.Key, tx store.Tx, rec *audit.Record) error {
		now := tx.Now()
		until := now.Add(overlap)
		if open {
			until = time.Time{}
		}
		working := k.WorkingTexts(now)
		if len(working) >= maxTexts {
			return refuse(Conflict, "%d texts of the vault key %s work already; end the older ones with `keybrake key rotate --end-overlap %s`", len(working), k.Name, k.Name)
		}
		secret, digest, last4 := s.Ring.Master().Mint(k.Mode)
		k.Credentials = append(ending(working, until), vault.Credential{Digest: digest, Last4: last4, Created: now})
		rec.Diff = fmt.Sprintf("credential: …%s, the one before until %s", last4, orNone(stamp(until)))
		out = KeyRotated{ID: string(k.ID), Name: k.Name, Last4: string(last4[:]), OldUntil: until, RotateBy: k.RotateBy()}
		if err := remember(ctx, tx, out); err != nil {
			return err
		}
		out.Key = secret.Reveal()
		return nil
	})
	if err != nil {
		return KeyRotated{}, err
	}
	return out, nil
}

// EndOverlap gives all texts of a key but the newest an end; none works longer for it than it would have.
func (s *Service) EndOverlap(ctx context.Context, who Actor, idOrName string, overlap time.Duration) (KeyTexts, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	if err := checkOverlap(overlap); err != nil {
		return KeyTexts{}, err
	}
	var last time.Time
	out, err := s.changeTexts(ctx, who, "key.overlap", idOrName, func(k *vault.Key, now time.Time, rec *audit.Record) error {
		working := k.WorkingTexts(now)
		if len(working) < 2 {
			return refuse(Conflict, "one text of the vault key %s works, so there is no overlap to end", k.Name)
		}
		newest := len(working) - 1
		until := now.Add(overlap)
		older := ending(working[:newest], until)
		last = slices.MaxFunc(older, func(a, b vault.Credential) int { return a.Expires.Compare(b.Expires) }).Expires
		k.Credentials = append(older, working[newest])
		rec.Diff = fmt.Sprintf("credentials before …%s: until %s", working[newest].Last4, stamp(until))
		return nil
	})
	out.OldUntil = last
	return out, err
}

// UndoRotation takes a key's newest text away, and the end from the one before it. It is refused if the one before has
// ended, or if the newest is not the one with these last four characters.
func (s *Service) UndoRotation(ctx context.Context, who Actor, idOrName, last string) (KeyTexts, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	return s.changeTexts(ctx, who, "key.rotate.undo", idOrName, func(k *vault.Key, now time.Time, rec *audit.Record) error {
		working := k.WorkingTexts(now)
		newest := len(working) - 1
		switch {
		case newest < 1:
			return refuse(Conflict, "no older text of the vault key %s works, so its rotation cannot be taken back; rotate it again", k.Name)
		case string(working[newest].Last4[:]) != last:
			return refuse(Conflict, "the newest text of the vault key %s is …%s and not …%s: it was rotated again", k.Name, working[newest].Last4, last)
		}
		rec.Diff = fmt.Sprintf("credential: …%s again, …%s taken away", working[newest-1].Last4, working[newest].Last4)
		k.Credentials = working[:newest]
		k.Credentials[newest-1].Expires = time.Time{}
		return nil
	})
}

func (s *Service) changeTexts(ctx context.Context, who Actor, action, idOrName string, f func(*vault.Key, time.Time, *audit.Record) error) (KeyTexts, error) {
	var out KeyTexts
	err := s.changeKey(ctx, who, action, idOrName, func(k *vault.Key, tx store.Tx, rec *audit.Record) error {
		if err := f(k, tx.Now(), rec); err != nil {
			return err
		}
		out = KeyTexts{ID: string(k.ID), Name: k.Name, Texts: viewTexts(k.WorkingTexts(tx.Now()))}
		return nil
	})
	return out, err
}

func checkOverlap(overlap time.Duration) error {
	if overlap < 0 || overlap > maxOverlap {
		return wrong("body.overlap", "the overlap must be between 0 and %d days", int(maxOverlap.Hours()/24))
	}
	return nil
}

// ending gives texts an end, where they have no earlier one. One that ends now stays too, for a while: whoever sends it
// is told that it was rotated.
func ending(texts []vault.Credential, until time.Time) []vault.Credential {
	var out []vault.Credential
	for _, c := range texts {
		if !until.IsZero() && (c.Expires.IsZero() || c.Expires.After(until)) {
			c.Expires = until
		}
		out = append(out, c)
	}
	return out
}

func viewTexts(texts []vault.Credential) []CredentialView {
	out := []CredentialView{}
	for _, c := range texts {
		out = append(out, CredentialView{string(c.Last4[:]), c.Created.UTC(), c.Expires})
	}
	return out
}

// rotation fills in how the key's texts stand.
func (v *KeyView) rotation(k *vault.Key, now time.Time) {
	v.RotateBy = k.RotateBy()
	v.Overdue = !v.RotateBy.IsZero() && !now.Before(v.RotateBy)
	working := k.WorkingTexts(now)
	v.Texts = len(working)
	for _, c := range working[:max(0, len(working)-1)] {
		if c.Expires.After(v.OverlapUntil) {
			v.OverlapUntil = c.Expires
		}
	}
}

// parseOverlap reads a span: as Go writes it (24h, 1h30m, 0s), or in days.
func parseOverlap(text string, unsaid time.Duration) (time.Duration, error) {
	if text == "" {
		return unsaid, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	d, err := policy.ParseSpan(text)
	if err != nil {
		return 0, wrong("body.overlap", "the overlap %q is no duration; write 24h, 7d or 0s", text)
	}
	return d, nil
}

// rotation registers what gives vault keys other texts.
func (a *api) rotation() {
	handleOnce(a, route{http.MethodPost, "keys/{key}/rotate", "rotate-key", "Give a vault key a new text", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Key string `path:"key" doc:"id or name"`
			Repeatable
			Body Rotation
		}) (KeyRotated, error) {
			overlap, err := parseOverlap(in.Body.Overlap, defaultOverlap)
			if err != nil {
				return KeyRotated{}, err
			}
			return a.s.RotateKey(ctx, who, in.Key, overlap, in.Body.Open)
		})
	handle(a, route{http.MethodPost, "keys/{key}/overlap", "end-overlap", "End the older texts of a vault key", vault.ToLower, 0},
		func(ctx context.Context, who Actor, in *struct {
			Key  string `path:"key" doc:"id or name"`
			Body Overlap
		}) (KeyTexts, error) {
			overlap, err := parseOverlap(in.Body.Overlap, 0)
			if err != nil {
				return KeyTexts{}, err
			}
			return a.s.EndOverlap(ctx, who, in.Key, overlap)
		})
	handle(a, route{http.MethodPost, "keys/{key}/rotate/undo", "undo-rotation", "Take back a vault key's newest text", vault.ToChange, 0},
		func(ctx context.Context, who Actor, in *struct {
			Key  string `path:"key" doc:"id or name"`
			Body Undoing
		}) (KeyTexts, error) {
			return a.s.UndoRotation(ctx, who, in.Key, in.Body.Last4)
		})
}

// EndOverlap calls Service.EndOverlap.
func (c *Client) EndOverlap(ctx context.Context, idOrName string, req Overlap) (KeyTexts, error) {
	return call[KeyTexts](ctx, c, http.MethodPost, "keys/"+seg(idOrName)+"/overlap", nil, req)
}

// UndoRotation calls Service.UndoRotation.
func (c *Client) UndoRotation(ctx context.Context, idOrName, last4 string) (KeyTexts, error) {
	return call[KeyTexts](ctx, c, http.MethodPost, "keys/"+seg(idOrName)+"/rotate/undo", nil, Undoing{last4})
}
