package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// old is a store with records of two days, a hundred days apart.
type old struct {
	path  string
	begin time.Time
	now   time.Time
	db    *sqlite.DB
}

func newOld(t *testing.T, archived bool) *old {
	t.Helper()
	// No file's name is a pattern to the store.
	o := &old{path: filepath.Join(t.TempDir(), "keybrake [a]*?.db"), begin: time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)}
	o.now = o.begin
	o.open(t)
	storetest.Old(t, o.db, &o.now, archived)
	return o
}

func (o *old) open(t *testing.T) {
	t.Helper()
	o.db = open(t, sqlite.Options{Path: o.path, Clock: func() time.Time { return o.now }, ArchiveRecords: storetest.ArchiveRecords})
}

// crash gives the store up without any of what a stop does; what was committed is there.
func (o *old) crash(t *testing.T) {
	t.Helper()
	if err := o.db.Close(); err != nil {
		t.Fatal(err)
	}
	o.open(t)
}

func (o *old) before() time.Time { return o.begin.AddDate(0, 0, 10) }

func (o *old) folder() string { return o.path + ".archive" }

// archiveAll moves what there is and returns how many records that were.
func (o *old) archiveAll(t *testing.T) (n int64) {
	t.Helper()
	for {
		moved, err := o.db.Archive(t.Context(), o.before())
		if err != nil {
			t.Fatal(err)
		}
		if n += moved; moved == 0 {
			return n
		}
	}
}

// whole reads the record from its first to its last entry, each once, and verifies it.
func (o *old) whole(t *testing.T) {
	t.Helper()
	err := o.db.View(t.Context(), func(tx store.Tx) error {
		heads, err := tx.Heads(1)
		if err != nil {
			return err
		}
		height, _, err := tx.Height()
		if err != nil {
			return err
		}
		report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), func(yield func(audit.Entry, error) bool) {
			if err := tx.EachRecord(1, func(e audit.Entry) error {
				if !yield(e, nil) {
					return errors.New("stopped")
				}
				return nil
			}); err != nil {
				yield(audit.Entry{}, err)
			}
		}, heads, storetest.NewSigner("test").PublicKey())
		if err == nil && (!report.OK || report.Records != height || report.First != 1) {
			t.Errorf("%+v, %v, of %d records", report, report.Problem, height)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := o.db.ReadAll(); err != nil {
		t.Errorf("read again: %v", err)
	}
}

func TestAStopAtAnyStepOfAnArchiveLosesAndDoublesNothing(t *testing.T) {
	for name, stop := range map[string]struct{ steps, chunks int }{
		"before it":                              {0, 0},
		"after it was written":                   {1, 0},
		"after it was read back":                 {2, 0},
		"after it was named":                     {3, 0},
		"after it was made known":                {4, 0},
		"after some of the rows were removed":    {4, 2},
		"after all of the file's rows were gone": {4, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, false)
			if n := o.db.ArchiveUpTo(t, o.before(), stop.steps, stop.chunks); n != 5 {
				t.Fatalf("an archive takes %d steps: this test knows 5", n)
			}
			o.whole(t)
			o.crash(t)
			o.whole(t)
			left := int64(3 * storetest.ArchiveRecords)
			if stop.steps == 4 {
				left -= storetest.ArchiveRecords
			}
			o.now = o.now.Add(time.Hour) // by the next run more records may be old enough
			if n := o.archiveAll(t); n != left {
				t.Errorf("the next runs moved %d records, want %d", n, left)
			}
			o.whole(t)
			if rows, archives := o.db.Count(t, "audit"), o.db.Count(t, "archives"); rows != 1500+3 || archives != 3 {
				t.Errorf("%d rows and %d archives are left", rows, archives)
			}
			files, err := os.ReadDir(o.folder())
			if err != nil || len(files) != 3 {
				t.Errorf("the folder has %v, %v", files, err)
			}
		})
	}
}

func TestAFileThatWasNamedIsTakenUpThoughMoreIsOldByThen(t *testing.T) {
	o := newOld(t, false)
	few := sqlite.Options{Path: o.path, Clock: func() time.Time { return o.now }, ArchiveRecords: 600}
	if err := o.db.Close(); err != nil {
		t.Fatal(err)
	}
	o.db = open(t, few)
	o.db.ArchiveUpTo(t, o.before(), 3, 0) // a file of 600
	o.crash(t)                            // from here on they have 1100
	if n, err := o.db.Archive(t.Context(), o.before()); err != nil || n != 600 {
		t.Errorf("%d, %v", n, err)
	}
	o.archiveAll(t)
	o.whole(t)
}

func TestHalfAFileIsWrittenAnew(t *testing.T) {
	o := newOld(t, false)
	o.db.ArchiveUpTo(t, o.before(), 1, 0)
	half := filepath.Join(o.folder(), sqlite.Unfinished)
	file, err := os.ReadFile(half)
	if err != nil {
		t.Fatal(err)
	}
	write(t, half, string(file[:len(file)/2]))
	o.crash(t)
	o.archiveAll(t)
	o.whole(t)
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestNothingIsRemovedForAFileThatIsNotAsTheRecordWasWritten(t *testing.T) {
	t.Run("because of the disk", func(t *testing.T) {
		o := newOld(t, false)
		o.db.ArchiveUpTo(t, o.before(), 3, 0)
		name := only(t, o.folder())
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file[len(file)/2] ^= 4
		write(t, name, string(file))
		o.refuses(t, "move it to another place")
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(file, after) {
			t.Errorf("it was written over: %v", err)
		}
	})
	t.Run("because of the store", func(t *testing.T) {
		o := newOld(t, false)
		if err := o.db.Behind(`UPDATE audit SET body = replace(body, '"kind":"intent"', '"kind":"denied"') WHERE seq = 5 OR seq = 9`); err != nil {
			t.Fatal(err)
		}
		o.refuses(t, "not as the record was written, aud_1_9")
	})
	t.Run("because a record is missing", func(t *testing.T) {
		o := newOld(t, false)
		if err := o.db.Behind(`DELETE FROM audit WHERE seq = 700`); err != nil {
			t.Fatal(err)
		}
		o.refuses(t, "aud_1_700")
	})
	t.Run("because the store was restored and went on otherwise", func(t *testing.T) {
		o := newOld(t, false)
		o.db.ArchiveUpTo(t, o.before(), 3, 0)
		other := newOld(t, false)
		if err := os.Rename(o.folder(), other.folder()); err != nil {
			t.Fatal(err)
		}
		_, err := other.db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem}) // nothing of the past: that is equal
		if err != nil {
			t.Fatal(err)
		}
		other.archiveAll(t)
		other.whole(t) // it was the same history
		third := newOld(t, false)
		if err := os.Rename(other.folder(), third.folder()); err != nil {
			t.Fatal(err)
		}
		if err := third.db.Behind(`UPDATE audit SET hash = zeroblob(32) WHERE seq = 1100`); err != nil {
			t.Fatal(err)
		}
		third.refuses(t, "")
	})
}

// refuses archives and expects an error that leaves every row.
func (o *old) refuses(t *testing.T, want string) {
	t.Helper()
	rows := o.db.Count(t, "audit")
	n, err := o.db.Archive(t.Context(), o.before())
	if err == nil || n != 0 || !strings.Contains(err.Error(), want) {
		t.Errorf("%d, %v\nwant it to say %q", n, err, want)
	}
	if after := o.db.Count(t, "audit"); after != rows || o.db.Count(t, "archives") != 0 {
		t.Errorf("%d rows are left of %d", after, rows)
	}
}

// only is the only file of a folder.
func only(t *testing.T, folder string) string {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	return filepath.Join(folder, files[0].Name())
}

func TestArchivedRecordsLeaveTheSearchIndexButForLaterOnesOfTheirCalls(t *testing.T) {
	o := newOld(t, true)
	if n := o.db.Count(t, "audit_by_key WHERE seq <= 3300"); n != 0 {
		t.Errorf("%d rows by key", n)
	}
	if n := o.db.Count(t, "audit_by_call WHERE seq <= 3300 AND call > (seq - 1) / 1100 * 1100"); n != 0 {
		t.Errorf("%d rows by call, of calls in the same file", n)
	}
	if n := o.db.Count(t, "audit_by_call WHERE seq <= 3300"); n == 0 || n > 30 {
		t.Errorf("%d rows by call, of calls in earlier files", n)
	}
}

func TestNothingMovesWhileTheBooksAreFrozenOrTheRecordIsYoung(t *testing.T) {
	o := newOld(t, false)
	if n, err := o.db.Archive(t.Context(), o.begin); err != nil || n != 0 {
		t.Errorf("of what is as old as the bound: %d, %v", n, err)
	}
	if n, err := o.db.Archive(t.Context(), o.begin.Add(10*time.Minute)); err != nil || n != 0 {
		t.Errorf("of half a file's worth: %d, %v", n, err)
	}
	if err := o.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(o.path + ".mark"); err != nil {
		t.Fatal(err)
	}
	o.open(t)
	if n, err := o.db.Archive(t.Context(), o.before()); err != nil || n != 0 {
		t.Errorf("under frozen books: %d, %v", n, err)
	}
}

func TestSpaceOfArchivedRecordsIsUsedAgain(t *testing.T) {
	o := newOld(t, true)
	size := func() int64 {
		if err := o.db.Close(); err != nil { // the log is copied
			t.Fatal(err)
		}
		info, err := os.Stat(o.path)
		if err != nil {
			t.Fatal(err)
		}
		o.open(t)
		return info.Size()
	}
	before := size()
	for range 2 * storetest.ArchiveRecords / 50 {
		batch := make([]*audit.Record, 50)
		for i := range batch {
			batch[i] = &audit.Record{Kind: audit.KindOutcome, Key: "key_2", Ref: 5000}
		}
		if _, err := o.db.Log(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	if after := size(); after > before {
		t.Errorf("2200 records more: it grew from %d to %d", before, after)
	}
}

func TestCallsAndReadersGoOnWhileRecordsMove(t *testing.T) {
	o := newOld(t, false)
	moved, failed := make(chan struct{}), make(chan error, 2)
	go func() { // calls
		for {
			select {
			case <-moved:
				failed <- nil
				return
			default:
			}
			if _, err := o.db.Log(context.Background(), &audit.Record{Kind: audit.KindOutcome, Key: "key_2", Ref: 1}); err != nil {
				failed <- err
				return
			}
		}
	}()
	go func() { // a reader who must see every record once, whatever moves
		for {
			select {
			case <-moved:
				failed <- nil
				return
			default:
			}
			next := int64(1)
			err := o.db.View(context.Background(), func(tx store.Tx) error {
				return tx.EachRecord(1, func(e audit.Entry) error {
					if e.Seq != next {
						return fmt.Errorf("after record %d comes %d", next-1, e.Seq)
					}
					next++
					return nil
				})
			})
			if err == nil && next <= 4*storetest.ArchiveRecords {
				err = fmt.Errorf("it ends with record %d", next-1)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	n := o.archiveAll(t)
	close(moved)
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if n != 3*storetest.ArchiveRecords {
		t.Errorf("%d records moved", n)
	}
	o.whole(t)
}
