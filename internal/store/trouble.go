package store

import (
	"fmt"
	"sync/atomic"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/vault"
)

// Trouble is what stands against taking money calls, as an engine knows it without asking. The zero Trouble is none. Safe for
// concurrent use.
type Trouble struct {
	broken, stuck, mark atomic.Pointer[error]
	books               atomic.Pointer[string]
}

// Break stops money for good: after a failed flush nobody knows what is on the disk, and after a broken invariant nobody knows
// what the books mean. A restart reads them anew. The first reason stays.
func (t *Trouble) Break(err error) { t.broken.CompareAndSwap(nil, &err) }

// Broken is why money is stopped for good; nil: it is not.
func (t *Trouble) Broken() error { return deref(t.broken.Load()) }

// Stuck notes why the last transaction failed, for want of space or of a server, say; nil: one succeeded.
func (t *Trouble) Stuck(err error) { note(&t.stuck, err) }

// IsStuck reports whether the last transaction failed.
func (t *Trouble) IsStuck() bool { return t.stuck.Load() != nil }

// Mark notes why the mark beside the store could not be written; nil: it was.
func (t *Trouble) Mark(err error) { note(&t.mark, err) }

// Books notes why all money is frozen; empty: it is not.
func (t *Trouble) Books(why string) { t.books.Store(&why) }

// Frozen reports whether all money is frozen.
func (t *Trouble) Frozen() bool { return deref(t.books.Load()) != "" }

// Err is what stands against taking money calls; nil: nothing that is known.
func (t *Trouble) Err() error {
	if err := t.Broken(); err != nil {
		return err
	}
	if err := deref(t.stuck.Load()); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if why := deref(t.books.Load()); why != "" {
		return fmt.Errorf("money is frozen: %s; look at it, then `keybrake resume --books --reason ...`", why)
	}
	return deref(t.mark.Load())
}

// Recover, deferred where something decides by the books, turns a broken invariant into its error and the end of all writing.
func (t *Trouble) Recover(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrUnavailable, r)
		t.Break(*err)
	}
}

func note(where *atomic.Pointer[error], err error) {
	if err == nil {
		where.Store(nil)
		return
	}
	where.Store(&err)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// FreezeBooks writes the freeze of all money with its record: nothing moves until an operator has looked.
func FreezeBooks(t Tx, why string) error {
	if err := t.PutBrake(BrakeRow{Scope: ScopeBooks, Mode: vault.ReadOnly, Reason: why, Actor: "keybrake", At: t.Now()}); err != nil {
		return err
	}
	_, err := t.Append(&audit.Record{Kind: audit.KindSystem, Action: "books.freeze", Reason: why})
	return err
}
