package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// archiveRecords is the most records in one file: some five megabytes. A call's records are looked for in the file of
	// its intent, so a file is what a single answer may cost (a third of a second).
	archiveRecords = 65_536
	// archiveFew is how many records are worth a file that is not full.
	archiveFew = 1024
	// archiveWait is how long records that do not fill a file wait for others, beyond the age at which they may go.
	archiveWait = 24 * time.Hour
	// archiveKeeps is how many of the newest records never go: a start looks at as many, and the mark knows one of them.
	archiveKeeps = tailCheck + 1
	// archivePage is how many records are read at once for a file, and archiveChunk how many rows one transaction
	// removes (a few milliseconds); archivePause is the rest after either. Together they move some thousand records a
	// second and leave the disk to the calls.
	archivePage  = 256
	archiveChunk = 256
	archivePause = 20 * time.Millisecond
	// unfinished is the name under which a file is written. One that a crash left is written over.
	unfinished = "unfinished.tmp"
	// archiveName is a file's name: its first and its last record.
	archiveName = "audit-%012d-%012d.jsonl.gz"
)

// move is a stretch of records on its way into a file. Its steps, in this order, are such that a stop after any of them
// leaves either the rows or the whole file, durably: written under another name, read back, named, made known to the
// store; only then are the rows removed.
type move struct {
	db          *DB
	after       audit.Chain // end of the records that are archived already
	last        int64
	hash        [32]byte // of the last one
	from, until time.Time
	path        string
}

// Archive implements store.DB.
func (db *DB) Archive(ctx context.Context, before time.Time) (int64, error) {
	db.archiving.Lock()
	defer db.archiving.Unlock()
	if why := db.books.Load(); why != nil && *why != "" {
		return 0, nil // nothing moves until somebody has looked at the books
	}
	if err := db.removeArchived(ctx); err != nil { // what an earlier run did not come to
		return 0, err
	}
	m, err := db.nextMove(ctx, before)
	if err != nil || m == nil {
		return 0, err
	}
	for _, step := range m.steps() {
		if err := step(ctx); err != nil {
			return 0, err
		}
	}
	return m.last - m.after.Seq, nil
}

func (m *move) steps() []func(context.Context) error {
	return []func(context.Context) error{m.write, m.check, m.publish, m.register, m.db.removeArchived}
}

// nextMove finds the records that go next; nil for none.
func (db *DB) nextMove(ctx context.Context, before time.Time) (*move, error) {
	m := &move{db: db}
	err := db.View(ctx, func(v store.Tx) (err error) {
		t := v.(*tx)
		if m.after, err = t.border(); err != nil {
			return err
		}
		height, _, err := t.Height()
		if err != nil {
			return err
		}
		var indexed int64
		if err := t.q.QueryRowContext(ctx, selectIndexed).Scan(&indexed); err != nil {
			return err
		}
		if m.last, err = t.FirstAt(before); err != nil {
			return err
		}
		m.last = min(m.last-1, height-archiveKeeps, indexed, m.after.Seq+db.perArchive)
		begun, err := m.begun()
		if err != nil {
			return err
		}
		if begun > 0 && begun <= min(height-archiveKeeps, indexed) {
			m.last = begun
		}
		if m.last <= m.after.Seq {
			return nil
		}
		if err := m.readEnds(t); err != nil {
			return err
		}
		if n := m.last - m.after.Seq; m.last != begun && n < db.perArchive && (n < archiveFew || m.from.After(before.Add(-archiveWait))) {
			m.last = m.after.Seq
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find records to archive: %w", err)
	}
	if m.last <= m.after.Seq {
		return nil, nil
	}
	m.path = filepath.Join(db.archives, fmt.Sprintf(archiveName, m.after.Seq+1, m.last))
	return m, nil
}

// begun is the last record of a file that goes on where the archives end, though the store does not know it: a stop came
// between its name and its row. 0 for none. It is written and held against the store like any other.
func (m *move) begun() (int64, error) {
	files, err := os.ReadDir(m.db.archives)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, f := range files {
		var first, last int64
		if _, err := fmt.Sscanf(f.Name(), archiveName, &first, &last); err == nil && first == m.after.Seq+1 && last >= first &&
			f.Name() == fmt.Sprintf(archiveName, first, last) {
			return last, nil
		}
	}
	return 0, nil
}

// readEnds reads the first and the last record.
func (m *move) readEnds(t *tx) error {
	var begun, ended int64
	var hash []byte
	if err := t.q.QueryRowContext(t.ctx, `SELECT at FROM audit WHERE seq = ?`, m.after.Seq+1).Scan(&begun); err != nil {
		return fmt.Errorf("read record %d: %w", m.after.Seq+1, err)
	}
	if err := t.q.QueryRowContext(t.ctx, `SELECT at, hash FROM audit WHERE seq = ?`, m.last).Scan(&ended, &hash); err != nil {
		return fmt.Errorf("read record %d: %w", m.last, err)
	}
	copy(m.hash[:], hash)
	m.from, m.until = fromMicros(begun), fromMicros(ended)
	return nil
}

func (m *move) unfinished() string { return filepath.Join(m.db.archives, unfinished) }

// write writes the file under another name and flushes it.
func (m *move) write(ctx context.Context) error {
	if err := os.MkdirAll(m.db.archives, 0o700); err != nil {
		return fmt.Errorf("make the archive folder: %w", err)
	}
	var heads []audit.Head
	err := m.db.View(ctx, func(v store.Tx) (err error) {
		heads, err = v.Heads(m.after.Seq + 1)
		return err
	})
	if err != nil {
		return fmt.Errorf("read signed heads: %w", err)
	}
	f, err := os.OpenFile(m.unfinished(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write an archive: %w", err)
	}
	_, err = audit.WriteArchive(f, m.entries(ctx), audit.ExportOptions{After: m.after, Heads: heads, At: m.db.Now(), Signer: m.db.signer})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write an archive: %w", errors.Join(err, os.Remove(m.unfinished())))
	}
	return nil
}

// entries reads the records, page by page.
func (m *move) entries(ctx context.Context) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for after := m.after.Seq; after < m.last; {
			var page []audit.Entry
			err := m.db.View(ctx, func(v store.Tx) (err error) {
				t := v.(*tx)
				rows, err := t.q.QueryContext(ctx, `SELECT seq, at, key, call, hash, body FROM audit WHERE seq > ? AND seq <= ? ORDER BY seq`,
					after, min(after+archivePage, m.last))
				if err != nil {
					return err
				}
				return eachEntry(rows, func(e audit.Entry) error { page = append(page, e); return nil })
			})
			if err == nil {
				err = m.db.rest(ctx)
			}
			if err == nil && len(page) == 0 {
				err = fmt.Errorf("record %d is missing", after+1)
			}
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
		}
	}
}

// rest leaves the machine to the calls for a moment.
func (db *DB) rest(ctx context.Context) error {
	timer := time.NewTimer(archivePause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-db.writer.quit:
		return fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	}
}

// check reads the file back.
func (m *move) check(context.Context) error { return m.verify(m.unfinished()) }

// verify holds a file against what the store has.
func (m *move) verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read an archive back: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	report, end, err := audit.VerifyFrom(f, m.after, m.db.signer.PublicKey())
	switch {
	case err != nil:
		return fmt.Errorf("read an archive back: %w", err)
	case !report.OK:
		return fmt.Errorf("the archive %s was read back and is not as the record was written, %s; nothing was removed from the store", path, report.Problem)
	case end.Seq != m.last || end.Hash != m.hash:
		return fmt.Errorf("the archive %s was read back and ends with another record than %d; nothing was removed from the store", path, m.last)
	}
	return nil
}

// publish gives the file its name, durably. A file that has it already was left by a stop right after this step, or
// holds another history of a store that was restored since: that one is not written over.
func (m *move) publish(context.Context) error {
	if _, err := os.Lstat(m.path); err == nil {
		if err := m.verify(m.path); err != nil {
			return fmt.Errorf("there is a file of that name already: %w; move it to another place", err)
		}
	}
	if err := os.Rename(m.unfinished(), m.path); err != nil {
		return fmt.Errorf("name an archive: %w", err)
	}
	for _, folder := range []string{m.db.archives, filepath.Dir(m.db.archives)} { // the second for the folder's own name
		if err := flushFolder(folder); err != nil {
			return err
		}
	}
	return nil
}

func flushFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return nil
}

// register makes the file known. From here on its records are there and not in the store.
func (m *move) register(ctx context.Context) error {
	name := filepath.Base(m.path)
	err := m.db.Update(ctx, store.LaneControl, func(u store.Tx) error {
		t := u.(*tx)
		if at, err := t.border(); err != nil || at != m.after {
			return errors.Join(err, errors.New("the archives end elsewhere by now"))
		}
		_, err := t.exec(`INSERT INTO archives (first, last, hash, begun, ended, file) VALUES (?, ?, ?, ?, ?, ?)`,
			m.after.Seq+1, m.last, m.hash[:], micros(m.from), micros(m.until), name)
		if err != nil {
			return err
		}
		_, err = t.Append(&audit.Record{
			Kind: audit.KindSystem, Action: "audit.archive", Subject: name,
			Reason: fmt.Sprintf("the records %d to %d are in this file now; the last one's hash is %x", m.after.Seq+1, m.last, m.hash),
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("make the archive %s known: %w", name, err)
	}
	return nil
}

// removeArchived removes what is in archives from the store, chunk by chunk.
func (db *DB) removeArchived(ctx context.Context) error {
	for more := true; more; {
		err := db.Update(ctx, store.LaneControl, func(u store.Tx) (err error) {
			more, err = u.(*tx).removeArchived()
			return err
		})
		if err == nil && more {
			err = db.rest(ctx)
		}
		if err != nil {
			return fmt.Errorf("remove archived records from the store: %w", err)
		}
	}
	return nil
}

// removeArchived removes a chunk of records with what the search index has of them. It keeps how a later record of a
// call is found from an intent in an earlier file.
func (t *tx) removeArchived() (more bool, err error) {
	var oldest, first, last int64
	err = t.q.QueryRowContext(t.ctx, `SELECT seq FROM audit ORDER BY seq LIMIT 1`).Scan(&oldest)
	if err == nil {
		err = t.q.QueryRowContext(t.ctx, `SELECT first, last FROM archives WHERE first <= ? ORDER BY first DESC LIMIT 1`, oldest).Scan(&first, &last)
	}
	if errors.Is(err, sql.ErrNoRows) || err == nil && last < oldest {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	to := min(oldest+archiveChunk-1, last)
	for _, remove := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM audit_by_key WHERE (key, seq) IN (SELECT key, seq FROM audit WHERE seq >= ? AND seq <= ?)`, []any{oldest, to}},
		{`DELETE FROM audit_by_call WHERE (call, seq) IN (SELECT call, seq FROM audit WHERE seq >= ? AND seq <= ? AND call >= ?)`, []any{oldest, to, first}},
		{`DELETE FROM audit WHERE seq >= ? AND seq <= ?`, []any{oldest, to}},
	} {
		if _, err := t.exec(remove.query, remove.args...); err != nil {
			return false, err
		}
	}
	return true, nil
}
