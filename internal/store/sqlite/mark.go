package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// The mark is a small file beside the store that remembers how far its record had come: which store it is, the number
// and the hash of the last record. It is what tells a restored backup, or a store whose end was cut off together with its
// signatures, from the one that was served last.
//
// It has two places that are written in turn, each with a checksum: a crash in the middle of a write spoils one of them.
// It is written after a transaction is durable, so it is never ahead of the store, and flushed once a second at most:
// after a power cut it may be a second behind. A store that lost no more than its mark did is not noticed then.
const (
	markFormat = "keybrake-mark-1 %s %020d %x"
	markPlace  = 4096 // the places lie a page apart: what tears one write does not reach the other
	markLength = len("keybrake-mark-1 ") + 32 + 1 + 20 + 1 + 64 + 1 + 8 + 1
)

// markSuffix is what the mark's name has behind the store's.
const markSuffix = ".mark"

// position is how far a store had come.
type position struct {
	store string // its identity, 32 hex digits
	seq   int64
	hash  [32]byte
}

func (p *position) encode() []byte {
	text := fmt.Sprintf(markFormat, p.store, p.seq, p.hash)
	return fmt.Appendf(nil, "%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

func decodePosition(b []byte) (position, bool) {
	if len(b) != markLength {
		return position{}, false
	}
	text, sum := string(b[:markLength-10]), string(b[markLength-10:])
	if sum != fmt.Sprintf(" %08x\n", crc32.ChecksumIEEE([]byte(text))) {
		return position{}, false
	}
	var p position
	var hash []byte
	if _, err := fmt.Sscanf(text, markFormat, &p.store, &p.seq, &hash); err != nil || len(hash) != len(p.hash) {
		return position{}, false
	}
	copy(p.hash[:], hash)
	return p, true
}

// mark is the file of a store that is served. It belongs to the writer's goroutine.
type mark struct {
	file    *os.File
	store   string
	turn    int64 // which place is next
	dirty   bool  // written since the last flush
	written int64 // number of the last record that it knows
}

var errNoMark = errors.New("there is none")

// readMark reads a store's mark: the later of its two places.
func readMark(path string) (position, error) {
	f, err := os.Open(path + markSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return position{}, errNoMark
	}
	if err != nil {
		return position{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var last position
	found := false
	for place := range int64(2) {
		b := make([]byte, markLength)
		if _, err := f.ReadAt(b, place*markPlace); err != nil && !errors.Is(err, io.EOF) {
			return position{}, err
		}
		if p, ok := decodePosition(b); ok && (!found || p.seq >= last.seq) {
			last, found = p, true
		}
	}
	if !found {
		return position{}, errors.New("it cannot be read")
	}
	return last, nil
}

// openMark begins to write a store's mark, at the record at which the store stands.
func openMark(path string, at position) (*mark, error) {
	f, err := os.OpenFile(path+markSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the mark beside the store: %w", err)
	}
	m := &mark{file: f, store: at.store}
	// Both places, or one of another store, or of before it went backwards, would be the later.
	for range 2 {
		if err := m.write(at.seq, at.hash); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := m.flush(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// write notes the last record.
func (m *mark) write(seq int64, hash [32]byte) error {
	p := position{m.store, seq, hash}
	if _, err := m.file.WriteAt(p.encode(), m.turn*markPlace); err != nil {
		return fmt.Errorf("write the mark: %w", err)
	}
	m.turn, m.dirty, m.written = 1-m.turn, true, seq
	return nil
}

func (m *mark) flush() error {
	if !m.dirty {
		return nil
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("flush the mark: %w", err)
	}
	m.dirty = false
	return nil
}

func (m *mark) close() error { return errors.Join(m.flush(), m.file.Close()) }

// remember notes what has just become durable. A mark that cannot be written takes nothing back: the store is right, and
// is only watched less well until it can.
func (w *writer) remember() {
	if w.mark == nil || w.chain.Seq == w.mark.written {
		return
	}
	if err := w.mark.write(w.chain.Seq, w.chain.Hash); err != nil {
		w.db.markTrouble.Store(&err)
		return
	}
	w.db.markTrouble.Store(nil)
}

// flushMark flushes the mark, beside the calls and not after each of them.
func (w *writer) flushMark() {
	if w.mark == nil {
		return
	}
	if err := w.mark.flush(); err != nil {
		w.db.markTrouble.Store(&err)
	}
}

// watchBooks holds the store against its mark and its record against itself, freezes all money if something is not as it
// was left, and begins a new mark. damage is what else was found.
func (w *writer) watchBooks(ctx context.Context, path, damage string) error {
	at := position{seq: w.chain.Seq, hash: w.chain.Hash}
	err := w.conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'identity'").Scan(&at.store)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		raw := make([]byte, 16)
		_, _ = rand.Read(raw) // never fails: the runtime ends the process instead
		at.store = hex.EncodeToString(raw)
		// The mark first: a start that is cut short in between begins anew, and no identity is without its mark.
		if w.mark, err = openMark(path, at); err != nil {
			return err
		}
		if _, err = w.stmts.setMeta.ExecContext(ctx, "identity", at.store); err != nil {
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
		at.seq, at.hash = w.chain.Seq, w.chain.Hash
		if w.mark, err = openMark(path, at); err != nil {
			return err
		}
	}
	return w.loadBooks(ctx)
}

// behind says in what the store is not the one that its mark knows; empty if it is.
func (w *writer) behind(ctx context.Context, path string, at position) (string, error) {
	marked, err := readMark(path)
	switch {
	case errors.Is(err, errNoMark):
		return "there is no mark beside the store: it is a copy, or a restored backup, and what happened since is not in it", nil
	case err != nil:
		return fmt.Sprintf("the mark beside the store is of no use (%v), so nobody can say whether the books are complete", err), nil
	case marked.store != at.store:
		return "the mark beside the store belongs to another store", nil
	case marked.seq > at.seq:
		return fmt.Sprintf("the books went backwards: the record ends at %d, and %d had been written", at.seq, marked.seq), nil
	case marked.seq == 0:
		return "", nil
	}
	var hash []byte
	err = w.conn.QueryRowContext(ctx, "SELECT hash FROM audit WHERE seq = ?", marked.seq).Scan(&hash)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read record %d: %w", marked.seq, err)
	}
	if string(hash) != string(marked.hash[:]) {
		return fmt.Sprintf("the books are not the ones that were written: record %d is another one than the mark knows", marked.seq), nil
	}
	return "", nil
}

// freezeBooks stops all writes until an operator has looked: durably, and on record.
func (w *writer) freezeBooks(why string) error {
	err := w.Control(store.LaneControl, func(t store.Tx) error { return freezeBooks(t, why) })
	if err != nil {
		return fmt.Errorf("freeze the books: %w", err)
	}
	return nil
}

// freezeBooks writes the freeze of all money with its record.
func freezeBooks(t store.Tx, why string) error {
	if err := t.PutBrake(store.BrakeRow{Scope: store.ScopeBooks, Mode: vault.ReadOnly, Reason: why, Actor: "keybrake", At: t.Now()}); err != nil {
		return err
	}
	_, err := t.Append(&audit.Record{Kind: audit.KindSystem, Action: "books.freeze", Reason: why})
	return err
}

// loadBooks reads whether the books are frozen, for readiness.
func (w *writer) loadBooks(ctx context.Context) error {
	var why string
	err := w.conn.QueryRowContext(ctx, "SELECT reason FROM brakes WHERE scope = ?", store.ScopeBooks).Scan(&why)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read whether the books are frozen: %w", err)
	}
	w.db.books.Store(&why)
	return nil
}
