package sim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// text is what an agent presents as its vault key. A key that is rotated has several, each with an end of its own.
type text struct {
	secret string
	until  time.Time // by the store's clock; zero: it has no end
}

func (t *text) last4() string { return t.secret[len(t.secret)-4:] }

// textBook is what the auditor knows of a key's texts, from what operators were told.
type textBook struct {
	until map[string]time.Time // of texts that end, by their last four characters
	// vague are texts that may end sooner than anybody was told: by a rotation that is going on, or ended without an answer.
	vague map[string]bool
}

// rotate gives a key a new text; the old ones work on for a while, or not at all.
func (o *operator) rotate(ctx context.Context, p *process, i int) {
	k, book := &o.w.keys[i], o.w.auditor.textsOf(o.w.keys[i].id)
	overlap := []time.Duration{0, 5 * time.Minute, 20 * time.Hour}[o.rng.IntN(3)]
	working := append(slices.Clone(k.older), text{secret: k.secret})
	sure := maps.Clone(book.vague)
	for _, t := range working {
		book.vague[t.last4()] = true // until it is told
	}
	out, err := p.service.RotateKey(ctx, admin.Actor{Name: o.name, Role: vault.RoleAdmin}, string(k.id), overlap, false)
	o.w.b.notef("rotate", o.name, "%s with %s: error %v", k.name, overlap, err)
	var refused *admin.Refusal
	switch told := err == nil || errors.As(err, &refused); {
	case p.dead: // nobody hears what it says
	case told && !(refused != nil && strings.Contains(refused.Message, "whether it was changed")):
		book.vague = sure
	}
	if err != nil || p.dead {
		return
	}
	k.older = working
	for i := range k.older {
		if t := &k.older[i]; t.until.IsZero() || t.until.After(out.OldUntil) {
			t.until = out.OldUntil
			book.until[t.last4()] = t.until
		}
	}
	k.secret = out.Key
	o.w.auditor.rotated++
}

func (a *auditor) textsOf(id policy.KeyID) *textBook {
	if a.texts[id] == nil {
		a.texts[id] = &textBook{until: make(map[string]time.Time), vague: make(map[string]bool)}
	}
	return a.texts[id]
}

// presented checks that a call on record came with a text that had not ended.
func (a *auditor) presented(rec *audit.Record) {
	if until, ends := a.textsOf(rec.Key).until[rec.Credential]; ends && !rec.At.Before(until) {
		a.fail("I-17", "intent %d of %s came with a text that ended at %s", rec.Seq, rec.RunID, until)
	}
}

// hadEnded reports whether a refusal for the text that was presented is a right one.
func (a *auditor) hadEnded(rec *audit.Record) bool {
	book := a.textsOf(rec.Key)
	until, ends := book.until[rec.Credential]
	a.ended++
	return book.vague[rec.Credential] || ends && !rec.At.Before(until)
}
