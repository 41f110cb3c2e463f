package admin

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// newest returns the last four characters of a key's newest text.
func (w *world) newest(t *testing.T, key string) string {
	t.Helper()
	k, err := w.client.Key(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return k.Last4
}

func TestARotatedKeyOverlaps(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	second, err := w.client.RotateKey(t.Context(), k.ID, Rotation{Overlap: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	if !w.passes(t, k.Key, true) || !w.passes(t, second.Key, true) {
		t.Error("both texts must work during the overlap")
	}
	third, err := w.client.RotateKey(t.Context(), k.ID, Rotation{Overlap: "0s"})
	if err != nil {
		t.Fatal(err)
	}
	if w.passes(t, k.Key, false) || w.passes(t, second.Key, false) || !w.passes(t, third.Key, true) {
		t.Error("without an overlap only the new text works")
	}
	for _, old := range []string{k.Key, second.Key} {
		if _, _, refused := w.Ring.Authenticate(vault.Attempt{Presented: old, Now: w.db.Now()}); refused == nil || refused.Code != policy.CodeKeyExpired {
			t.Errorf("whoever still has an old text is told %+v", refused)
		}
	}
	if _, err := w.client.RevokeKey(t.Context(), k.ID, ""); err != nil {
		t.Fatal(err)
	}
	if w.passes(t, third.Key, false) {
		t.Error("a revoked key passes")
	}
	w.key(t, "agent-support-refunds-one") // the name is free again
}

func TestTheOverlapOfARotationCanEndEarly(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	if _, err := w.client.EndOverlap(t.Context(), k.ID, Overlap{}); !said(err, 409, "no overlap to end") {
		t.Error(err)
	}
	second := w.rotate(t, k.ID, Rotation{Overlap: "7d"})
	third := w.rotate(t, k.ID, Rotation{Overlap: "60d"})
	view := w.view(t, k.ID)
	if view.Texts != 3 || !view.OverlapUntil.Equal(third.OldUntil) || view.Last4 != last4(third.Key) {
		t.Errorf("%+v", view)
	}
	texts, err := w.client.EndOverlap(t.Context(), k.ID, Overlap{Overlap: "30d"})
	if err != nil || len(texts.Texts) != 3 || !texts.OldUntil.Equal(texts.Texts[1].Expires) {
		t.Fatalf("%+v, %v", texts, err)
	}
	if first, later := texts.Texts[0].Expires, texts.Texts[1].Expires; !first.Equal(second.OldUntil) || !later.After(first) || !later.Before(third.OldUntil) {
		t.Errorf("the first text ends on %s, the second on %s", first, later)
	}
	if texts, err = w.client.EndOverlap(t.Context(), k.ID, Overlap{}); err != nil || len(texts.Texts) != 1 || texts.Texts[0].Last4 != last4(third.Key) || texts.OldUntil.IsZero() {
		t.Fatalf("%+v, %v", texts, err)
	}
	if w.passes(t, k.Key, false) || w.passes(t, second.Key, false) || !w.passes(t, third.Key, true) {
		t.Error("only the newest text works after the overlap was ended")
	}
	w.restart(t)
	if w.passes(t, second.Key, false) || !w.passes(t, third.Key, true) {
		t.Error("what works is another text after a restart")
	}
}

func TestARotationIsTakenBackWhole(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	for _, how := range []Rotation{{Open: true}, {Overlap: "1h"}} {
		second := w.rotate(t, k.ID, how)
		if _, err := w.client.UndoRotation(t.Context(), k.ID, last4(k.Key)); !said(err, 409, "was rotated again") {
			t.Error(err)
		}
		texts, err := w.client.UndoRotation(t.Context(), k.ID, last4(second.Key))
		if err != nil || len(texts.Texts) != 1 || texts.Texts[0].Last4 != last4(k.Key) || !texts.Texts[0].Expires.IsZero() {
			t.Fatalf("%+v, %v", texts, err)
		}
		if w.passes(t, second.Key, false) || !w.passes(t, k.Key, true) {
			t.Error("after it was taken back only the text before works")
		}
	}
	second := w.rotate(t, k.ID, Rotation{Overlap: "0s"})
	if _, err := w.client.UndoRotation(t.Context(), k.ID, last4(second.Key)); !said(err, 409, "cannot be taken back") {
		t.Error(err)
	}
	if !w.passes(t, second.Key, true) {
		t.Error("what could not be taken back does not work")
	}
}

func TestAnOpenRotationEndsNothing(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	second := w.rotate(t, k.ID, Rotation{Open: true, Overlap: "0s"})
	view := w.view(t, k.ID)
	if !second.OldUntil.IsZero() || view.Texts != 2 || !view.OverlapUntil.IsZero() || !w.passes(t, k.Key, true) || !w.passes(t, second.Key, true) {
		t.Errorf("%+v", view)
	}
}

func TestTheTextsOfAKeyDoNotGrowWithoutBound(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	for range maxTexts - 1 {
		w.rotate(t, k.ID, Rotation{})
	}
	if _, err := w.client.RotateKey(t.Context(), k.ID, Rotation{}); !said(err, 409, "--end-overlap") {
		t.Fatal(err)
	}
	if _, err := w.client.EndOverlap(t.Context(), k.ID, Overlap{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.rotate(t, k.ID, Rotation{Overlap: "0s"})
	}
	if d, err := w.client.Key(t.Context(), k.ID); err != nil || len(d.Credentials) != 2 || d.Texts != 1 {
		t.Errorf("%+v, %v", d.Credentials, err)
	}
}

func TestARotationIsDueAfterTheIntervalOfThePolicy(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	change := func(every string) {
		t.Helper()
		if _, err := w.client.UpdateKey(t.Context(), k.ID, KeyUpdate{PolicyEdit: PolicyEdit{RotateEvery: every}}); err != nil {
			t.Fatal(err)
		}
	}
	change("30d")
	if v := w.view(t, k.ID); !v.RotateBy.Equal(k.Created.Add(30*24*time.Hour)) || v.Overdue {
		t.Errorf("%+v", v)
	}
	change("1m")
	key, _ := w.Ring.Key(policy.KeyID(k.ID))
	for at, overdue := range map[time.Time]bool{k.Created.Add(time.Minute - 1): false, k.Created.Add(time.Minute): true} {
		if v := w.keyView(key, at); v.Overdue != overdue {
			t.Errorf("at %s: %+v", at, v)
		}
	}
	second := w.rotate(t, k.ID, Rotation{})
	if v := w.view(t, k.ID); !v.RotateBy.After(k.Created.Add(time.Minute)) || !v.RotateBy.Equal(second.RotateBy) {
		t.Errorf("after a rotation it is due on %s, before on %s", v.RotateBy, k.Created.Add(time.Minute))
	}
	if _, err := w.client.UpdateKey(t.Context(), k.ID, KeyUpdate{PolicyEdit: PolicyEdit{RotateEvery: "soon"}}); !said(err, 400, "rotate_every") {
		t.Error(err)
	}
	if _, err := w.client.RevokeKey(t.Context(), k.ID, ""); err != nil {
		t.Fatal(err)
	}
	if v := w.view(t, k.ID); !v.RotateBy.IsZero() {
		t.Errorf("a revoked key is due on %s", v.RotateBy)
	}
}

func (w *world) rotate(t *testing.T, key string, how Rotation) KeyRotated {
	t.Helper()
	k, err := w.client.RotateKey(t.Context(), key, how)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) view(t *testing.T, key string) KeyView {
	t.Helper()
	k, err := w.client.Key(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return k.KeyView
}

func last4(text string) string { return text[len(text)-4:] }

// said reports whether an error is the server's, with the status and some words.
func said(err error, status int, words string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status && strings.Contains(p.Detail, words)
}
