package record

import (
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

// Archives implements store.Records.
func (r Reader) Archives() ([]store.Archive, error) {
	archives, err := r.Rows.Registered()
	if err != nil {
		return nil, fmt.Errorf("read the archives: %w", err)
	}
	absent := true // until there is one
	for i := range archives {
		a := &archives[i]
		a.Path = filepath.Join(r.Folder, a.Path)
		if absent {
			_, err := os.Stat(a.Path)
			absent = errors.Is(err, fs.ErrNotExist) && (i > 0 || r.Elsewhere == nil || !r.Elsewhere())
		}
		a.Absent = absent
	}
	return archives, nil
}

// readArchive reads a file's records from a number on, in either direction, until f returns false. All its errors are
// *store.ArchiveError.
func readArchive(a store.Archive, from int64, ascending bool, f func(audit.Entry) bool) error {
	wrong := func(what string) error {
		return &store.ArchiveError{Path: a.Path, First: a.First, Last: a.Last, What: what}
	}
	file, in, err := openArchive(a)
	if err != nil {
		return wrong(err.Error())
	}
	defer file.Close() //nolint:errcheck // it was only read
	for e, err := range in.Entries(from, ascending) {
		if err != nil {
			return wrong(err.Error())
		}
		if !f(e) {
			return nil
		}
	}
	return nil
}

// openArchive opens a file that must have the records that it is known for. Close the file in the end.
func openArchive(a store.Archive) (*os.File, *audit.Archive, error) {
	file, err := os.Open(a.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.New("it is missing")
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	in, err := audit.OpenArchive(file, info.Size())
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	if first, last := in.Range(); first != a.First || last != a.Last {
		return nil, nil, errors.Join(fmt.Errorf("it holds the records %d to %d", first, last), file.Close())
	}
	return file, in, nil
}

// walk reads archived records between two numbers, both inclusive. What is in absent archives is passed over.
func walk(archives []store.Archive, from, to int64, ascending bool) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		start := from
		if !ascending {
			archives, start = slices.Clone(archives), to
			slices.Reverse(archives)
		}
		for _, a := range archives {
			if a.Absent || a.Last < from || a.First > to {
				continue
			}
			on := true
			err := readArchive(a, start, ascending, func(e audit.Entry) bool {
				on = e.Seq >= from && e.Seq <= to && yield(e, nil)
				return on
			})
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			if !on {
				return
			}
		}
	}
}

// firstArchivedAt is the number of the first record written at a time or later, if that is an archived one.
func (r Reader) firstArchivedAt(at time.Time) (n int64, found bool, err error) {
	archives, err := r.Archives()
	if err != nil {
		return 0, false, err
	}
	i, _ := slices.BinarySearchFunc(archives, at, func(a store.Archive, at time.Time) int { return a.Until.Compare(at) })
	switch {
	case i == len(archives):
		return 0, false, nil
	case archives[i].Absent:
		return archives[i].Last + 1, true, nil
	case !archives[i].From.Before(at):
		return archives[i].First, true, nil
	}
	a := archives[i]
	file, in, err := openArchive(a)
	if err == nil {
		n, err = in.FirstAt(at)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return 0, false, &store.ArchiveError{Path: a.Path, First: a.First, Last: a.Last, What: err.Error()}
	}
	return n, true, nil
}
