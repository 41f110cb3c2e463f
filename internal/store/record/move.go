package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// PerFile is the most records in one file: some five megabytes. A call's records are looked for in the file of
	// its intent, so a file is what a single answer may cost (a third of a second).
	PerFile = 65_536
	// archiveFew is how many records are worth a file that is not full.
	archiveFew = 1024
	// archiveWait is how long records that do not fill a file wait for others, beyond the age at which they may go.
	archiveWait = 24 * time.Hour
	// archivePage is how many records are read at once for a file, and archiveChunk how many rows one transaction
	// removes (a few milliseconds); archivePause is the rest after either. Together they move some thousand records a
	// second and leave the disk to the calls.
	archivePage  = 256
	archiveChunk = 256
	archivePause = 20 * time.Millisecond
	// archiveName is a file's name: its first and its last record.
	archiveName = "audit-%012d-%012d.jsonl.gz"
)

// errElsewhere: somebody else has made an archive known meanwhile.
var errElsewhere = errors.New("the archives end elsewhere by now")

// Tx is a transaction of an engine whose records can be moved. The writing methods are for Update alone.
type Tx interface {
	store.Tx
	Rows
	// Indexed is up to where the search index covers the engine's records.
	Indexed() (int64, error)
	// Register makes an archive known; Path is the file's name.
	Register(store.Archive) error
	// Oldest is the number of the oldest record in the engine's own table; 0 = it is empty.
	Oldest() (int64, error)
	// Remove removes records between two numbers, both inclusive, with what the search index has of them. It keeps how a
	// record is found of a call that began before a number.
	Remove(from, to, began int64) error
}

// Mover moves records of an engine into files. One move at a time.
type Mover struct {
	DB      store.DB // its transactions are Tx
	Folder  string   // of the files; it is made with the first one
	PerFile int64    // the most records in one
	// Keeps is how many of the newest records never go.
	Keeps  int64
	Signer audit.Signer
	// Unfinished is the name under which a file is written: one that a crash left is written over. No two that write into
	// one folder may have the same.
	Unfinished string
	// Closing is closed when the engine is told to close.
	Closing <-chan struct{}
}

// Move is a stretch of records on its way into a file. Its steps, in this order, are such that a stop after any of them
// leaves either the rows or the whole file, durably: written under another name, read back, named, made known to the
// store; only then are the rows removed.
type Move struct {
	*Mover
	after       audit.Chain // end of the records that are archived already
	last        int64
	hash        [32]byte // of the last one
	from, until time.Time
	path        string
}

// Archive implements store.DB, but for what an engine says to it: whether the books are frozen, whose turn it is.
func (m *Mover) Archive(ctx context.Context, before time.Time) (int64, error) {
	if err := m.removeArchived(ctx); err != nil { // what an earlier run did not come to
		return 0, err
	}
	next, err := m.Next(ctx, before)
	if err != nil || next == nil {
		return 0, err
	}
	for _, step := range next.Steps() {
		if err := step(ctx); err != nil {
			return 0, err
		}
	}
	return next.last - next.after.Seq, nil
}

// Steps are what a move does, one after the other.
func (m *Move) Steps() []func(context.Context) error {
	return []func(context.Context) error{m.write, m.check, m.publish, m.register, m.removeArchived}
}

// Next finds the records that go next; nil for none.
func (m *Mover) Next(ctx context.Context, before time.Time) (*Move, error) {
	next := &Move{Mover: m}
	err := m.DB.View(ctx, func(v store.Tx) error { return next.find(v.(Tx), before) })
	if err != nil {
		return nil, fmt.Errorf("find records to archive: %w", err)
	}
	if next.last <= next.after.Seq {
		return nil, nil
	}
	next.path = filepath.Join(m.Folder, fmt.Sprintf(archiveName, next.after.Seq+1, next.last))
	return next, nil
}

func (m *Move) find(t Tx, before time.Time) (err error) {
	if m.after, err = t.Border(); err != nil {
		return err
	}
	height, _, err := t.Height()
	if err != nil {
		return err
	}
	indexed, err := t.Indexed()
	if err != nil {
		return err
	}
	if m.last, err = t.FirstAt(before); err != nil {
		return err
	}
	m.last = min(m.last-1, height-m.Keeps, indexed, m.after.Seq+m.PerFile)
	begun, err := m.begun()
	if err != nil {
		return err
	}
	if begun > 0 && begun <= min(height-m.Keeps, indexed) {
		m.last = begun
	}
	if m.last <= m.after.Seq {
		return nil
	}
	if err := m.readEnds(t); err != nil {
		return err
	}
	if n := m.last - m.after.Seq; m.last != begun && n < m.PerFile && (n < archiveFew || m.from.After(before.Add(-archiveWait))) {
		m.last = m.after.Seq
	}
	return nil
}

// begun is the last record of a file that goes on where the archives end, though the store does not know it: a stop came
// between its name and its row. 0 for none. It is written and held against the store like any other.
func (m *Move) begun() (int64, error) {
	files, err := os.ReadDir(m.Folder)
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
func (m *Move) readEnds(t Tx) error {
	first, err := stored(t, m.after.Seq+1)
	if err != nil {
		return err
	}
	last, err := stored(t, m.last)
	if err != nil {
		return err
	}
	m.from, m.until, m.hash = first.At, last.At, last.Hash
	return nil
}

// stored reads one of the engine's own records.
func stored(t Rows, seq int64) (found audit.Entry, err error) {
	err = t.Stored(seq, seq, func(e audit.Entry) error {
		found = e
		return nil
	})
	if err == nil && found.Seq != seq {
		err = errors.New("it is missing")
	}
	if err != nil {
		return found, fmt.Errorf("read record %d: %w", seq, err)
	}
	return found, nil
}

func (m *Mover) unfinished() string { return filepath.Join(m.Folder, m.Unfinished) }

// write writes the file under another name and flushes it.
func (m *Move) write(ctx context.Context) error {
	if err := os.MkdirAll(m.Folder, 0o700); err != nil {
		return fmt.Errorf("make the archive folder: %w", err)
	}
	var heads []audit.Head
	err := m.DB.View(ctx, func(v store.Tx) (err error) {
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
	_, err = audit.WriteArchive(f, m.entries(ctx), audit.ExportOptions{After: m.after, Heads: heads, At: m.DB.Now(), Signer: m.Signer})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write an archive: %w", errors.Join(err, os.Remove(m.unfinished())))
	}
	return nil
}

// entries reads the records, page by page.
func (m *Move) entries(ctx context.Context) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for after := m.after.Seq; after < m.last; {
			var page []audit.Entry
			err := m.DB.View(ctx, func(v store.Tx) error {
				return v.(Tx).Stored(after+1, min(after+archivePage, m.last), func(e audit.Entry) error {
					page = append(page, e)
					return nil
				})
			})
			if err == nil {
				err = m.rest(ctx)
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
func (m *Mover) rest(ctx context.Context) error {
	timer := time.NewTimer(archivePause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.Closing:
		return fmt.Errorf("%w: shutting down", store.ErrUnavailable)
	}
}

// check reads the file back.
func (m *Move) check(context.Context) error { return m.verify(m.unfinished()) }

// verify holds a file against what the store has.
func (m *Move) verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read an archive back: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	report, end, err := audit.VerifyFrom(f, m.after, m.Signer.PublicKey())
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
func (m *Move) publish(context.Context) error {
	if _, err := os.Lstat(m.path); err == nil {
		if err := m.verify(m.path); err != nil {
			return fmt.Errorf("there is a file of that name already: %w; move it to another place", err)
		}
	}
	if err := os.Rename(m.unfinished(), m.path); err != nil {
		return fmt.Errorf("name an archive: %w", err)
	}
	for _, folder := range []string{m.Folder, filepath.Dir(m.Folder)} { // the second for the folder's own name
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
func (m *Move) register(ctx context.Context) error {
	name := filepath.Base(m.path)
	err := m.DB.Update(ctx, store.LaneControl, func(u store.Tx) error {
		t := u.(Tx)
		if at, err := t.Border(); err != nil || at != m.after {
			return errors.Join(err, errElsewhere)
		}
		if err := t.Register(store.Archive{Path: name, First: m.after.Seq + 1, Last: m.last, Hash: m.hash, From: m.from, Until: m.until}); err != nil {
			return err
		}
		_, err := t.Append(&audit.Record{
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
func (m *Mover) removeArchived(ctx context.Context) error {
	for more := true; more; {
		err := m.DB.Update(ctx, store.LaneControl, func(u store.Tx) (err error) {
			more, err = RemoveChunk(u.(Tx))
			return err
		})
		if err == nil && more {
			err = m.rest(ctx)
		}
		if err != nil {
			return fmt.Errorf("remove archived records from the store: %w", err)
		}
	}
	return nil
}

// RemoveChunk removes some of the records that are in archives and reports whether there may be more.
func RemoveChunk(t Tx) (more bool, err error) {
	oldest, err := t.Oldest()
	if err != nil || oldest == 0 {
		return false, err
	}
	archives, err := t.Registered()
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(archives, func(a store.Archive) bool { return a.First <= oldest && oldest <= a.Last })
	if i < 0 {
		return false, nil
	}
	return true, t.Remove(oldest, min(oldest+archiveChunk-1, archives[i].Last), archives[i].First)
}
