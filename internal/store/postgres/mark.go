package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/mark"
)

// backwards says in what the store is not the one that this node knew: a standby that had not got everything was
// promoted, or a backup was restored.
type backwards struct{ why string }

func (e *backwards) Error() string { return e.why }

// checkPosition holds the books, as a transaction finds them, against the last record that this node knew before.
func checkPosition(seen mark.Position, chain *audit.Chain) error {
	switch {
	case chain.Seq < seen.Seq:
		return &backwards{fmt.Sprintf("the books went backwards: the record ends at %d, and %d had been written", chain.Seq, seen.Seq)}
	case chain.Seq == seen.Seq && seen.Seq > 0 && chain.Hash != seen.Hash:
		return anotherRecord(seen.Seq)
	}
	return nil
}

// checkTimeline holds a server's timeline against the last one that this node knew. A lower one is that of a server in whose place a
// standby was promoted, and which lives on: its record can have everything that this node knows, and still not be the store's.
func checkTimeline(seen mark.Position, timeline int64) error {
	if timeline == 0 || timeline >= seen.Timeline {
		return nil
	}
	return &backwards{fmt.Sprintf("the books went backwards: this PostgreSQL is on timeline %d, and another one was promoted in its place, to %d", timeline, seen.Timeline)}
}

// knows is how far the store had come, as this node knows it.
func (db *DB) knows() mark.Position {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.seen
}

func anotherRecord(seq int64) error {
	return &backwards{fmt.Sprintf("the books are not the ones that were written: record %d is another one than this node knows", seq)}
}

// recognize makes sure that the server at the other end of a new connection has the store that this node knew.
func (s *session) recognize(ctx context.Context, system string) error {
	var identity string
	if err := s.conn.QueryRow(ctx, `SELECT value FROM meta WHERE name = 'identity'`).Scan(&identity); err != nil {
		return fmt.Errorf("read the store's name: %w", err)
	}
	// A copy has the identity of what it was copied from. The system's own is another one where it was restored from a dump.
	sum := sha256.Sum256([]byte(identity + "\n" + system))
	s.store = hex.EncodeToString(sum[:16])
	if s.astray {
		return nil
	}
	s.db.mu.Lock()
	if s.db.seen.Store == "" {
		s.db.seen.Store = s.store
	}
	seen := s.db.seen
	s.db.mu.Unlock()
	if seen.Store != s.store {
		return &backwards{"this PostgreSQL is not the one that this node knew: another server, or one restored from a dump"}
	}
	if err := checkTimeline(seen, s.timeline); err != nil {
		return err
	}
	if err := s.find(ctx, seen); err != nil {
		return err
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.db.seen.Store == s.store {
		s.db.seen.Timeline = max(s.db.seen.Timeline, s.timeline)
	}
	return nil
}

// find makes sure that the record has what this node knew.
func (s *session) find(ctx context.Context, seen mark.Position) error {
	if seen.Seq == 0 {
		return nil
	}
	var hash []byte
	var archived int64
	err := s.conn.QueryRow(ctx, `SELECT (SELECT hash FROM audit WHERE seq = $1), (SELECT coalesce(max(last), 0) FROM archives)`, seen.Seq).Scan(&hash, &archived)
	switch {
	case err != nil:
		return fmt.Errorf("read record %d: %w", seen.Seq, err)
	case hash == nil && archived >= seen.Seq:
		return nil // this node was away for long
	case hash == nil:
		return &backwards{fmt.Sprintf("the books went backwards: record %d, which had been written, is not there", seen.Seq)}
	case string(hash) != string(seen.Hash[:]):
		return anotherRecord(seen.Seq)
	}
	return nil
}

// advance notes what has just become durable. A mark that cannot be written takes nothing back: the store is right, and is
// only watched less well until it can.
func (db *DB) advance(after *locked) {
	db.last.Store(max(db.last.Load(), codec.Micros(after.now)))
	db.mu.Lock()
	defer db.mu.Unlock()
	if after.chain.Seq <= db.seen.Seq {
		return
	}
	db.seen.Seq, db.seen.Hash = after.chain.Seq, after.chain.Hash
	db.figures.Height.Store(after.chain.Seq)
	if db.mark == nil {
		return
	}
	if err := db.mark.Write(after.chain.Seq, after.chain.Hash); err != nil {
		db.trouble.Mark(err)
		return
	}
	db.trouble.Mark(nil)
}

// flushMark flushes the mark, beside the calls and not after each of them.
func (db *DB) flushMark() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mark == nil {
		return
	}
	if err := db.mark.Flush(); err != nil {
		db.trouble.Mark(err)
	}
}

// watchBooks holds the store against this node's mark, freezes all money if it is not as it was left, and begins a new
// mark. A node without one has not been here before.
func (db *DB) watchBooks(ctx context.Context, path string) error {
	damage := ""
	if path != "" {
		seen, err := mark.Read(path)
		switch {
		case err == nil:
			db.seen = seen
		case !errors.Is(err, mark.ErrNone):
			damage = fmt.Sprintf("this node's mark %s is of no use (%v), so nobody can say whether the books are complete", path, err)
		}
	}
	err := db.writer.Control(store.LaneControl, func(t store.Tx) error {
		if damage == "" {
			return nil
		}
		return store.FreezeBooks(t, damage)
	})
	if err != nil {
		return err
	}
	if path != "" {
		if db.mark, err = mark.Open(path, db.seen); err != nil {
			return err
		}
	}
	return db.loadBooks(ctx)
}

// freeze stops all writes until an operator has looked, durably and on record. From that record on the store is the one that
// this node knows; until it is there, everything else goes on being held against the one before. Where both sessions notice at
// once, the second finds the store to be the one that the first has frozen.
func (w *writer) freeze(ctx context.Context, s *session) error {
	w.freezing.Lock()
	defer w.freezing.Unlock()
	_, err := s.begin(ctx, nil)
	if err == nil {
		s.rollback()
		return nil
	}
	why, behind := errors.AsType[*backwards](err)
	if !behind {
		return fmt.Errorf("freeze the books: %w", err)
	}
	s.astray = true
	defer func() { s.astray = false }()
	if _, err := w.control(ctx, s, func(t store.Tx) error { return store.FreezeBooks(t, why.why) }); err != nil {
		return fmt.Errorf("freeze the books: %w", err)
	}
	return nil
}

// know takes a store, as a transaction left it, for the one that this node knows, whatever it knew before.
func (db *DB) know(name string, timeline int64, after *locked) {
	db.last.Store(codec.Micros(after.now))
	db.mu.Lock()
	defer db.mu.Unlock()
	db.seen = mark.Position{Store: name, Seq: after.chain.Seq, Hash: after.chain.Hash, Timeline: timeline}
	db.figures.Height.Store(after.chain.Seq)
	if db.mark != nil {
		db.trouble.Mark(db.mark.Restart(db.seen))
	}
}

// loadBooks reads whether the books are frozen, for readiness.
func (db *DB) loadBooks(ctx context.Context) error {
	var why string
	err := looking(ctx, func() error {
		return db.reads.QueryRow(ctx, `SELECT reason FROM brakes WHERE scope = $1`, store.ScopeBooks).Scan(&why)
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read whether the books are frozen: %w", err)
	}
	db.trouble.Books(why)
	return nil
}
