package storetest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/record"
)

// ArchiveRecords is how many records an archive of the stores under test may have.
const ArchiveRecords = 1100

// Old fills a store with records of two days, of which the first is a hundred days before the second, and moves the first
// day's into archives. clock is the store's.
func Old(t testing.TB, db store.DB, clock *time.Time, archive bool) {
	t.Helper()
	begin := *clock
	write := func(n int, gap time.Duration, records func(i int) *audit.Record) {
		for i := 0; i < n; i += 50 {
			var batch []*audit.Record
			for j := i; j < min(i+50, n); j++ {
				batch = append(batch, records(j))
			}
			_, err := db.Log(t.Context(), batch...)
			must(t, err)
			*clock = clock.Add(gap)
		}
	}
	write(3*ArchiveRecords, time.Minute, func(i int) *audit.Record {
		switch {
		case i == 4 || i == 3*ArchiveRecords-4:
			return &audit.Record{Kind: audit.KindDenied, Key: "key_rare", Verdict: "deny"}
		case i%4 == 0:
			return &audit.Record{Kind: audit.KindIntent, Key: policy.KeyID(fmt.Sprintf("key_%d", i%5)), Verdict: "allow"}
		case i%100 == 50: // learned much later
			return &audit.Record{Kind: audit.KindReconciled, Key: "key_3", Ref: 1}
		}
		return &audit.Record{Kind: audit.KindOutcome, Key: policy.KeyID(fmt.Sprintf("key_%d", i%5)), Ref: int64(i - i%4 + 1)}
	})
	must(t, db.SignHead(t.Context()))
	*clock = begin.AddDate(0, 0, 100)
	write(1500, time.Second, func(i int) *audit.Record {
		return &audit.Record{Kind: audit.KindOutcome, Key: policy.KeyID(fmt.Sprintf("key_%d", i%5)), Ref: int64(i%7)*400 + 1}
	})
	must(t, db.(interface{ IndexNow() error }).IndexNow())
	if !archive {
		return
	}
	for i := range 3 {
		n, err := db.Archive(t.Context(), begin.AddDate(0, 0, 10))
		if must(t, err); n != ArchiveRecords {
			t.Fatalf("archive %d took %d records", i, n)
		}
	}
}

// view is everything that can be read of a record, by every way.
func view(t testing.TB, db store.DB, begin time.Time) map[string]any {
	t.Helper()
	out := make(map[string]any)
	for _, ascending := range []bool{true, false} {
		for name, q := range map[string]store.RecordQuery{
			"all":                           {Limit: 900},
			"a key":                         {Key: "key_2"},
			"a key with few":                {Key: "key_rare"},
			"a call":                        {Call: 1},
			"a call in the first file":      {Call: 401},
			"a call in the second file":     {Call: 2001},
			"a call page by page":           {Call: 1, Limit: 7},
			"a call and a key":              {Call: 1, Key: "key_3"},
			"a call within bounds":          {Call: 1, From: 900, To: 3500},
			"over a file's end":             {From: ArchiveRecords - 3, To: ArchiveRecords + 3},
			"over the last file's end":      {From: 3*ArchiveRecords - 3, To: 3*ArchiveRecords + 3, Limit: 4},
			"one that is archived":          {From: 77, To: 77},
			"one that is not":               {From: 4000, To: 4000},
			"one that there is not":         {From: 9000, To: 9000},
			"a key within bounds, archived": {Key: "key_1", From: 200, To: 1500, Limit: 50},
		} {
			q.Ascending = ascending
			out[fmt.Sprint(name, ", ascending ", ascending)] = everyPage(t, db, q)
		}
	}
	for _, ago := range []time.Duration{-time.Hour, 0, time.Second, 21 * time.Minute, 22 * time.Minute, 23 * time.Minute, 50 * time.Minute,
		65 * time.Minute, 66 * time.Minute, 240 * time.Hour, 2400 * time.Hour, 2400*time.Hour + 5*time.Second, 3000 * time.Hour} {
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			n, err := tx.FirstAt(begin.Add(ago))
			out[fmt.Sprint("first at ", ago)] = n
			return err
		}))
	}
	bytes := make(map[int64]string)
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			if e.Seq <= 3*ArchiveRecords+1500 {
				bytes[e.Seq] = fmt.Sprint(e.At, e.Key, e.Call, e.Hash, string(e.Bytes))
			}
			return nil
		})
	}))
	out["bytes"] = bytes
	return out
}

// everyPage reads all pages of a query.
func everyPage(t testing.TB, db store.DB, q store.RecordQuery) (seqs []int64) {
	t.Helper()
	for more := true; more; more = q.After != 0 {
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			page, err := tx.Query(q)
			for _, e := range page.Entries {
				if seqs = append(seqs, e.Seq); q.Key != "" && e.Key != q.Key {
					t.Errorf("%+v: record %d is of %s", q, e.Seq, e.Key)
				}
			}
			q.After = page.Next
			return err
		}))
	}
	order := slices.Clone(seqs)
	if slices.Sort(order); !q.Ascending {
		slices.Reverse(order)
	}
	if !slices.Equal(order, seqs) {
		t.Errorf("%+v: not in order", q)
	}
	return seqs
}

// ours takes from a view what the store itself wrote on the way: a record for each archive.
func ours(v map[string]any) map[string]any {
	for name, is := range v {
		if seqs, ok := is.([]int64); ok {
			v[name] = slices.DeleteFunc(seqs, func(n int64) bool { return n > 3*ArchiveRecords+1500 })
		}
		if n, ok := is.(int64); ok {
			v[name] = min(n, 3*ArchiveRecords+1501)
		}
	}
	return v
}

func archived(t *testing.T, open Open) {
	begin := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	now := begin
	clock := func() time.Time { return now }
	db := open(t, clock)
	Old(t, db, &now, false)
	want := ours(view(t, db, begin))
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, ours(view(t, db, begin))); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", when, diff[:min(len(diff), 3000)])
		}
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			heads, err := tx.Heads(1)
			if err != nil {
				return err
			}
			report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), entries(tx), heads, NewSigner("test").PublicKey())
			if err != nil || !report.OK {
				t.Errorf("%s: %+v, %v", when, report.Problem, err)
			}
			return err
		}))
	}
	for i := range 3 {
		n, err := db.Archive(t.Context(), begin.AddDate(0, 0, 10))
		if must(t, err); n != ArchiveRecords {
			t.Fatalf("archive %d took %d records", i, n)
		}
		same(fmt.Sprintf("after archive %d", i+1))
	}
	if n, err := db.Archive(t.Context(), begin.AddDate(0, 0, 10)); n != 0 || err != nil {
		t.Errorf("with nothing old left it took %d, %v", n, err)
	}
	if n, err := db.Archive(t.Context(), begin.AddDate(1, 0, 0)); n != 0 || err != nil {
		t.Errorf("of the newest records it took %d, %v", n, err)
	}
	must(t, db.Close())
	db = open(t, clock)
	defer func() { must(t, db.Close()) }()
	same("after a restart")
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		archives, err := tx.Archives()
		for i, a := range archives {
			if first := int64(i)*ArchiveRecords + 1; a.First != first || a.Last != first+ArchiveRecords-1 || a.Absent || a.Until.Before(a.From) {
				t.Errorf("archive %d: %+v", i, a)
			}
		}
		if len(archives) != 3 {
			t.Errorf("%d archives", len(archives))
		}
		return err
	}))
}

func archivesGone(t *testing.T, open Open) {
	now := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	db := open(t, func() time.Time { return now })
	defer func() { must(t, db.Close()) }()
	Old(t, db, &now, true)
	list := func() (out []store.Archive) {
		must(t, db.View(t.Context(), func(tx store.Tx) (err error) {
			out, err = tx.Archives()
			return err
		}))
		return out
	}
	query := func(q store.RecordQuery) (page store.RecordPage, err error) {
		err = db.View(t.Context(), func(tx store.Tx) (err error) {
			page, err = tx.Query(q)
			return err
		})
		return page, err
	}
	at := list()
	must(t, os.Rename(at[1].Path, at[1].Path+".away"))
	var gap *store.ArchiveError
	for name, q := range map[string]store.RecordQuery{
		"upwards":   {After: ArchiveRecords, Ascending: true},
		"downwards": {After: 2*ArchiveRecords + 1},
		"by number": {From: ArchiveRecords + 7, To: ArchiveRecords + 7},
	} {
		if _, err := query(q); !errors.As(err, &gap) || gap.Path != at[1].Path || gap.First != ArchiveRecords+1 {
			t.Errorf("read %s over a missing file: %v", name, err)
		}
	}
	if page, err := query(store.RecordQuery{Limit: 1000}); err != nil || len(page.Entries) != 1000 {
		t.Errorf("what is not in it cannot be read: %v", err)
	}

	// With the older one gone too they are both let go.
	must(t, os.Remove(at[0].Path))
	after := list()
	if !after[0].Absent || !after[1].Absent || after[2].Absent {
		t.Errorf("%+v", after)
	}
	if before := store.Before(after); before.Seq != 2*ArchiveRecords || before.Hash != at[1].Hash {
		t.Errorf("the record begins after %d", before.Seq)
	}
	page, err := query(store.RecordQuery{Ascending: true, Limit: 3})
	if err != nil || len(page.Entries) != 3 || page.Entries[0].Seq != 2*ArchiveRecords+1 {
		t.Errorf("%+v, %v", page, err)
	}
	if page, err := query(store.RecordQuery{From: 5, To: 5}); err != nil || len(page.Entries) != 0 {
		t.Errorf("%+v, %v", page, err)
	}

	// Another file under its name.
	must(t, os.Rename(at[1].Path+".away", at[2].Path))
	if _, err := query(store.RecordQuery{From: 3 * ArchiveRecords, To: 3 * ArchiveRecords}); !errors.As(err, &gap) || gap.Path != at[2].Path {
		t.Errorf("the file before it under its name: %v", err)
	}
}

// ArchiveUpTo does so many of the steps of a move, as a process does that is killed after them; beyond the last step but
// one also so many chunks of the removal. It returns how many steps there are.
func ArchiveUpTo(t testing.TB, db store.DB, m *record.Mover, before time.Time, steps, chunks int) int {
	t.Helper()
	move, err := m.Next(t.Context(), before)
	if err != nil || move == nil {
		t.Fatalf("nothing to archive: %v", err)
	}
	all := move.Steps()
	for _, step := range all[:min(steps, len(all)-1)] {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range chunks {
		err := db.Update(t.Context(), store.LaneControl, func(u store.Tx) error {
			_, err := record.RemoveChunk(u.(record.Tx))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return len(all)
}
