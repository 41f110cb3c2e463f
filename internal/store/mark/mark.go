// Package mark keeps a small file beside a store that remembers how far its record had come: which store it is, the number
// and the hash of the last record. It is what tells a restored backup, or a store whose end was cut off together with its
// signatures, from the one that was served last.
package mark

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// It has two places that are written in turn, each with a checksum: a crash in the middle of a write spoils one of them.
// It is written after a transaction is durable, so it is never ahead of the store, and flushed once a second at most:
// after a power cut it may be a second behind. A store that lost no more than its mark did is not noticed then.
const (
	format = "keybrake-mark-1 %s %020d %x"
	place  = 4096 // the places lie a page apart: what tears one write does not reach the other
	length = len("keybrake-mark-1 ") + 32 + 1 + 20 + 1 + 64 + 1 + 8 + 1
)

// Position is how far a store had come.
type Position struct {
	Store string // its identity, 32 hex digits
	Seq   int64
	Hash  [32]byte
	// Timeline is PostgreSQL's number for the history that the server wrote, one more after each promotion; 0: not known. It
	// is only in memory.
	Timeline int64
}

func (p *Position) encode() []byte {
	text := fmt.Sprintf(format, p.Store, p.Seq, p.Hash)
	return fmt.Appendf(nil, "%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

func decode(b []byte) (Position, bool) {
	if len(b) != length {
		return Position{}, false
	}
	text, sum := string(b[:length-10]), string(b[length-10:])
	if sum != fmt.Sprintf(" %08x\n", crc32.ChecksumIEEE([]byte(text))) {
		return Position{}, false
	}
	var p Position
	var hash []byte
	if _, err := fmt.Sscanf(text, format, &p.Store, &p.Seq, &hash); err != nil || len(hash) != len(p.Hash) {
		return Position{}, false
	}
	copy(p.Hash[:], hash)
	return p, true
}

// Mark is the file of a store that is served. Not safe for concurrent use.
type Mark struct {
	file    *os.File
	store   string
	turn    int64 // which place is next
	dirty   bool  // written since the last flush
	written int64 // number of the last record that it knows
}

// ErrNone: there is no mark.
var ErrNone = errors.New("there is none")

// Read reads a mark: the later of its two places.
func Read(path string) (Position, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Position{}, ErrNone
	}
	if err != nil {
		return Position{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var last Position
	found := false
	for turn := range int64(2) {
		b := make([]byte, length)
		if _, err := f.ReadAt(b, turn*place); err != nil && !errors.Is(err, io.EOF) {
			return Position{}, err
		}
		if p, ok := decode(b); ok && (!found || p.Seq >= last.Seq) {
			last, found = p, true
		}
	}
	if !found {
		return Position{}, errors.New("it cannot be read")
	}
	return last, nil
}

// Open begins to write a store's mark, at the record at which the store stands.
func Open(path string, at Position) (*Mark, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the mark beside the store: %w", err)
	}
	m := &Mark{file: f}
	if err := m.Restart(at); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// Restart begins anew, at a record of another store, or of the same one after it went backwards.
func (m *Mark) Restart(at Position) error {
	m.store = at.Store
	for range 2 { // both places, or what the other one says would be the later
		if err := m.Write(at.Seq, at.Hash); err != nil {
			return err
		}
	}
	return m.Flush()
}

// Write notes the last record.
func (m *Mark) Write(seq int64, hash [32]byte) error {
	p := Position{Store: m.store, Seq: seq, Hash: hash}
	if _, err := m.file.WriteAt(p.encode(), m.turn*place); err != nil {
		return fmt.Errorf("write the mark: %w", err)
	}
	m.turn, m.dirty, m.written = 1-m.turn, true, seq
	return nil
}

// Flush makes what was written survive a power cut.
func (m *Mark) Flush() error {
	if !m.dirty {
		return nil
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("flush the mark: %w", err)
	}
	m.dirty = false
	return nil
}

// Close flushes and ends the writing.
func (m *Mark) Close() error { return errors.Join(m.Flush(), m.file.Close()) }

// Written is the number of the last record that it knows.
func (m *Mark) Written() int64 { return m.written }
