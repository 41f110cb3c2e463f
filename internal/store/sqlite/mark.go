package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/mark"
)

// markSuffix is what the mark's name has behind the store's.
const markSuffix = ".mark"

// remember notes what has just become durable. A mark that cannot be written takes nothing back: the store is right, and
// is only watched less well until it can.
func (w *writer) remember() {
	if w.mark == nil || w.chain.Seq == w.mark.Written() {
		return
	}
	if err := w.mark.Write(w.chain.Seq, w.chain.Hash); err != nil {
		w.db.trouble.Mark(err)
		return
	}
	w.db.trouble.Mark(nil)
}

// flushMark flushes the mark, beside the calls and not after each of them.
func (w *writer) flushMark() {
	if w.mark == nil {
		return
	}
	if err := w.mark.Flush(); err != nil {
		w.db.trouble.Mark(err)
	}
}

// watchBooks holds the store against its mark and its record against itself, freezes all money if something is not as it
// was left, and begins a new mark. damage is what else was found.
func (w *writer) watchBooks(ctx context.Context, path, damage string) error {
	at := mark.Position{Seq: w.chain.Seq, Hash: w.chain.Hash}
	err := w.conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'identity'").Scan(&at.Store)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		raw := make([]byte, 16)
		_, _ = rand.Read(raw) // never fails: the runtime ends the process instead
		at.Store = hex.EncodeToString(raw)
		// The mark first: a start that is cut short in between begins anew, and no identity is without its mark.
		if w.mark, err = mark.Open(path+markSuffix, at); err != nil {
			return err
		}
		if _, err = w.stmts.setMeta.ExecContext(ctx, "identity", at.Store); err != nil {
			return fmt.Errorf("name the store: %w", err)
		}
	case err != nil:
		return fmt.Errorf("read the store's name: %w", err)
	default:
		why, err := w.behind(ctx, path, at)
		if err != nil {
			return err
		}
		if damage == "" {
			damage = why
		}
	}
	if damage != "" {
		if err := w.freezeBooks(damage); err != nil {
			return err
		}
	}
	if err := w.beginSums(ctx); err != nil {
		return err
	}
	if w.mark == nil {
		at.Seq, at.Hash = w.chain.Seq, w.chain.Hash
		if w.mark, err = mark.Open(path+markSuffix, at); err != nil {
			return err
		}
	}
	return w.loadBooks(ctx)
}

// behind says in what the store is not the one that its mark knows; empty if it is.
func (w *writer) behind(ctx context.Context, path string, at mark.Position) (string, error) {
	marked, err := mark.Read(path + markSuffix)
	switch {
	case errors.Is(err, mark.ErrNone):
		return "there is no mark beside the store: it is a copy, or a restored backup, and what happened since is not in it", nil
	case err != nil:
		return fmt.Sprintf("the mark beside the store is of no use (%v), so nobody can say whether the books are complete", err), nil
	case marked.Store != at.Store:
		return "the mark beside the store belongs to another store", nil
	case marked.Seq > at.Seq:
		return fmt.Sprintf("the books went backwards: the record ends at %d, and %d had been written", at.Seq, marked.Seq), nil
	case marked.Seq == 0:
		return "", nil
	}
	var hash []byte
	err = w.conn.QueryRowContext(ctx, "SELECT hash FROM audit WHERE seq = ?", marked.Seq).Scan(&hash)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read record %d: %w", marked.Seq, err)
	}
	if string(hash) != string(marked.Hash[:]) {
		return fmt.Sprintf("the books are not the ones that were written: record %d is another one than the mark knows", marked.Seq), nil
	}
	return "", nil
}

// freezeBooks stops all writes until an operator has looked: durably, and on record.
func (w *writer) freezeBooks(why string) error {
	err := w.Control(store.LaneControl, func(t store.Tx) error { return store.FreezeBooks(t, why) })
	if err != nil {
		return fmt.Errorf("freeze the books: %w", err)
	}
	return nil
}

// loadBooks reads whether the books are frozen, for readiness.
func (w *writer) loadBooks(ctx context.Context) error {
	var why string
	err := w.conn.QueryRowContext(ctx, "SELECT reason FROM brakes WHERE scope = ?", store.ScopeBooks).Scan(&why)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read whether the books are frozen: %w", err)
	}
	w.db.trouble.Books(why)
	return nil
}
