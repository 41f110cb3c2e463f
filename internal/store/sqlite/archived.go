package sqlite

import (
	"cmp"
	"database/sql"
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

// Records up to a number, the border, are in archive files and nowhere else, whatever the table still has of them. A
// transaction sees one border from its beginning to its end, and a file is never changed.

// maxLook is how many archived records one query looks at: some ten milliseconds.
const maxLook = 1000

// border is the end of the chain of archived records.
func (t *tx) border() (audit.Chain, error) {
	at := audit.NewChain(audit.FirstChain)
	var hash []byte
	err := t.q.QueryRowContext(t.ctx, `SELECT last, hash FROM archives ORDER BY first DESC LIMIT 1`).Scan(&at.Seq, &hash)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return at, nil
	case err != nil:
		return at, fmt.Errorf("read where the archives end: %w", err)
	}
	copy(at.Hash[:], hash)
	return at, nil
}

// Archives implements store.Records.
func (t *tx) Archives() ([]store.Archive, error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT first, last, hash, begun, ended, file FROM archives ORDER BY first`)
	if err != nil {
		return nil, fmt.Errorf("read the archives: %w", err)
	}
	defer rows.Close()
	var out []store.Archive
	absent := true // until there is one
	for rows.Next() {
		var a store.Archive
		var hash []byte
		var begun, ended int64
		var name string
		if err := rows.Scan(&a.First, &a.Last, &hash, &begun, &ended, &name); err != nil {
			return nil, fmt.Errorf("read the archives: %w", err)
		}
		copy(a.Hash[:], hash)
		a.From, a.Until, a.Path = fromMicros(begun), fromMicros(ended), filepath.Join(t.archives, name)
		if absent {
			_, err := os.Stat(a.Path)
			absent = errors.Is(err, fs.ErrNotExist)
		}
		a.Absent = absent
		out = append(out, a)
	}
	return out, rows.Err()
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

// Query implements store.Records: the store's own records behind the archived ones, or the other way round.
func (t *tx) Query(q store.RecordQuery) (store.RecordPage, error) {
	if q.Limit <= 0 {
		q.Limit = defaultQuery
	}
	q.Limit = min(q.Limit, maxQuery)
	at, err := t.border()
	if err != nil {
		return store.RecordPage{}, err
	}
	border := at.Seq
	older := t.queryArchives
	switch {
	case q.Call != 0:
		older = t.callInArchives
	case q.Ascending && max(q.After+1, q.From) > border, q.From > border:
		return t.queryStore(q, border)
	}
	first, second := t.queryStore, older
	if q.Ascending {
		first, second = older, t.queryStore
	}
	page, err := first(q, border)
	if err != nil || page.Next != 0 {
		return page, err
	}
	q.Limit -= len(page.Entries)
	rest, err := second(q, border)
	page.Entries, page.Next = append(page.Entries, rest.Entries...), rest.Next
	return page, err
}

// queryArchives looks through archived records one by one.
func (t *tx) queryArchives(q store.RecordQuery, border int64) (page store.RecordPage, err error) {
	archives, err := t.Archives()
	if err != nil {
		return page, err
	}
	from, to := max(q.From, 1), border
	if q.To > 0 {
		to = min(to, q.To)
	}
	if q.Ascending {
		from = max(from, q.After+1)
	} else if q.After > 0 {
		to = min(to, q.After-1)
	}
	looked := 0
	for e, err := range walk(archives, from, to, q.Ascending) {
		if err != nil {
			return page, err
		}
		if looked++; (q.Key == "" || q.Key == e.Key) && (!q.Deeds || e.Call == 0) {
			page.Entries = append(page.Entries, e)
		}
		if len(page.Entries) == q.Limit || looked == maxLook {
			page.Next = e.Seq
			break
		}
	}
	return page, nil
}

// callInArchives finds a call's archived records: those in the same file as its intent by reading on there, the later
// ones by the search index, which keeps them.
func (t *tx) callInArchives(q store.RecordQuery, border int64) (page store.RecordPage, err error) {
	archives, err := t.Archives()
	if err != nil {
		return page, err
	}
	numbers, err := t.laterOfCall(q.Call, border)
	if err != nil {
		return page, err
	}
	found := make(map[int64]audit.Entry)
	i, _ := slices.BinarySearchFunc(archives, q.Call, func(a store.Archive, call int64) int { return cmp.Compare(a.Last, call) })
	if i < len(archives) && q.Call <= border {
		for e, err := range walk(archives[i:i+1], q.Call, archives[i].Last, true) {
			if err != nil {
				return page, err
			}
			if e.Call == q.Call {
				found[e.Seq] = e
			}
		}
	}
	for _, n := range numbers {
		if _, has := found[n]; has {
			continue
		}
		for e, err := range walk(archives, n, n, true) {
			if err != nil {
				return page, err
			}
			found[n] = e
		}
	}
	for _, e := range found {
		behind := q.After == 0 || q.Ascending && e.Seq > q.After || !q.Ascending && e.Seq < q.After
		if behind && e.Seq >= q.From && (q.To == 0 || e.Seq <= q.To) && (q.Key == "" || q.Key == e.Key) {
			page.Entries = append(page.Entries, e)
		}
	}
	slices.SortFunc(page.Entries, func(a, b audit.Entry) int {
		if q.Ascending {
			return cmp.Compare(a.Seq, b.Seq)
		}
		return cmp.Compare(b.Seq, a.Seq)
	})
	if len(page.Entries) >= q.Limit {
		page.Entries = page.Entries[:q.Limit]
		page.Next = page.Entries[q.Limit-1].Seq
	}
	return page, nil
}

// laterOfCall lists the numbers of a call's records that the search index knows up to a number.
func (t *tx) laterOfCall(call, to int64) (out []int64, err error) {
	rows, err := t.q.QueryContext(t.ctx, `SELECT seq FROM audit_by_call WHERE call = ? AND seq <= ?`, call, to)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// firstArchivedAt is the number of the first record written at a time or later, if that is an archived one.
func (t *tx) firstArchivedAt(at time.Time) (n int64, found bool, err error) {
	archives, err := t.Archives()
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
