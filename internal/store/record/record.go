// Package record keeps the audit record for an engine: the older part in archive files, the newer in the engine's own rows,
// all of it under signed heads. An engine supplies rows; where a record is found, when it moves into a file and which heads
// stay is decided here, once over every engine.
package record

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

const (
	// maxLook is how many archived records one query looks at: some ten milliseconds.
	maxLook = 1000
	// maxQuery is the most records that one query returns, defaultQuery what it returns if nothing is said.
	maxQuery     = 1000
	defaultQuery = 100
)

// Rows is what one transaction of an engine knows of the record. Records up to a number, the border, are in archive files
// and nowhere else, whatever the engine's table still has of them. A transaction sees one border from its beginning to its
// end, and a file is never changed.
type Rows interface {
	// Border is the end of the chain of archived records.
	Border() (audit.Chain, error)
	// Registered lists the archives, oldest first, without looking for them: Path is a file's name, Absent is not set.
	Registered() ([]store.Archive, error)
	// Height is the number of the last record and its hash.
	Height() (int64, [32]byte, error)
	// Stored reads the engine's own records between two numbers, both inclusive, in ascending order.
	Stored(from, to int64, f func(audit.Entry) error) error
	// WrittenAt is when the first of the engine's own records from a number on was written.
	WrittenAt(seq int64) (time.Time, error)
	// LaterOfCall lists the numbers of a call's records that the search index knows up to a number.
	LaterOfCall(call, to int64) ([]int64, error)
	// Search finds the engine's own records from q.From on. Next is set where the page is full.
	Search(q store.RecordQuery) (store.RecordPage, error)
}

// Reader reads the record in one transaction, archives included.
type Reader struct {
	Folder string // of the archive files
	Rows   Rows
	// Elsewhere reports whether Folder is another one than the files are in, where several machines share one: then no file
	// has been let go of because it is not there. Nil: it is the one.
	Elsewhere func() bool
}

// Between is the exclusive bounds of the numbers that a query looks for; to is above every number if nothing bounds it.
func Between(q store.RecordQuery) (from, to int64) {
	const unbounded = 1<<63 - 1
	to = unbounded
	switch {
	case q.Ascending:
		from = max(q.After, 0)
	case q.After > 0:
		to = q.After
	}
	from = max(from, q.From-1)
	if q.To > 0 && q.To < to {
		to = q.To + 1
	}
	return from, to
}

// Each implements store.Records.EachRecord.
func (r Reader) Each(from int64, f func(audit.Entry) error) error {
	border, err := r.Rows.Border()
	if err != nil {
		return err
	}
	if from <= border.Seq {
		archives, err := r.Archives()
		if err != nil {
			return err
		}
		for e, err := range walk(archives, from, border.Seq, true) {
			if err == nil {
				err = f(e)
			}
			if err != nil {
				return err
			}
		}
	}
	return r.Rows.Stored(max(from, border.Seq+1), 1<<63-1, f)
}

// FirstAt implements store.Records. It halves the numbers: the store's clock never goes back, so they are in the order of
// time.
func (r Reader) FirstAt(at time.Time) (int64, error) {
	if n, found, err := r.firstArchivedAt(at); err != nil || found {
		return n, err
	}
	border, err := r.Rows.Border()
	if err != nil {
		return 0, err
	}
	last, _, err := r.Rows.Height()
	if err != nil {
		return 0, err
	}
	low, high := border.Seq+1, last+1
	for low < high {
		middle := low + (high-low)/2
		written, err := r.Rows.WrittenAt(middle)
		if err != nil {
			return 0, fmt.Errorf("read the time of record %d: %w", middle, err)
		}
		if written.Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// Query implements store.Records: the engine's own records behind the archived ones, or the other way round.
func (r Reader) Query(q store.RecordQuery) (store.RecordPage, error) {
	if q.Limit <= 0 {
		q.Limit = defaultQuery
	}
	q.Limit = min(q.Limit, maxQuery)
	at, err := r.Rows.Border()
	if err != nil {
		return store.RecordPage{}, err
	}
	border := at.Seq
	older := r.queryArchives
	switch {
	case q.Call != 0:
		older = r.callInArchives
	case q.Ascending && max(q.After+1, q.From) > border, q.From > border:
		return r.queryStore(q, border)
	}
	first, second := r.queryStore, older
	if q.Ascending {
		first, second = older, r.queryStore
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

// queryStore finds the records behind the archived ones.
func (r Reader) queryStore(q store.RecordQuery, border int64) (store.RecordPage, error) {
	q.From = max(q.From, border+1)
	return r.Rows.Search(q)
}

// queryArchives looks through archived records one by one.
func (r Reader) queryArchives(q store.RecordQuery, border int64) (page store.RecordPage, err error) {
	archives, err := r.Archives()
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
func (r Reader) callInArchives(q store.RecordQuery, border int64) (page store.RecordPage, err error) {
	archives, err := r.Archives()
	if err != nil {
		return page, err
	}
	numbers, err := r.Rows.LaterOfCall(q.Call, border)
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
