package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// logged writes n records by turns under two keys; every third belongs to call 1.
func logged(t *testing.T, db store.DB, n int) {
	t.Helper()
	for i := range n {
		r := &audit.Record{Kind: audit.KindOutcome, Key: []policy.KeyID{"key_1", "key_2"}[i%2]}
		if i%3 == 0 && i > 0 {
			r.Ref = 1
		}
		_, err := db.Log(t.Context(), r)
		must(t, err)
	}
}

func numbers(t *testing.T, db store.DB, q store.RecordQuery) (out []int64) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		page, err := tx.Query(q)
		for _, e := range page.Entries {
			out = append(out, e.Seq)
		}
		return err
	}))
	return out
}

func searchBounds(t *testing.T, open Open) {
	db := opened(t, open)
	logged(t, db, 12)
	for range 2 {
		for name, test := range map[string]struct {
			q    store.RecordQuery
			want []int64
		}{
			"from the end down to a number": {store.RecordQuery{From: 10}, []int64{12, 11, 10}},
			"between two, newest first":     {store.RecordQuery{From: 4, To: 6}, []int64{6, 5, 4}},
			"between two, oldest first":     {store.RecordQuery{From: 4, To: 6, Ascending: true}, []int64{4, 5, 6}},
			"the next page of it":           {store.RecordQuery{From: 4, To: 9, After: 6, Ascending: true, Limit: 2}, []int64{7, 8}},
			"the next page downwards":       {store.RecordQuery{From: 4, To: 9, After: 6}, []int64{5, 4}},
			"a key's":                       {store.RecordQuery{Key: "key_1", From: 4, To: 9}, []int64{9, 7, 5}},
			"a call's":                      {store.RecordQuery{Call: 1, From: 4, To: 9}, []int64{7, 4}},
			"what belongs to no call":       {store.RecordQuery{Deeds: true}, []int64{12, 11, 9, 8, 6, 5, 3, 2, 1}},
			"of a key":                      {store.RecordQuery{Deeds: true, Key: "key_2", Limit: 2}, []int64{12, 8}},
			"nothing":                       {store.RecordQuery{From: 9, To: 4}, nil},
		} {
			if diff := cmp.Diff(test.want, numbers(t, db, test.q)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		must(t, db.(interface{ IndexNow() error }).IndexNow())
	}
}

func firstAt(t *testing.T, open Open) {
	now := noon
	db := open(t, func() time.Time { return now })
	defer func() { must(t, db.Close()) }()
	first := func(at time.Time) (n int64) {
		must(t, db.View(t.Context(), func(tx store.Tx) (err error) {
			n, err = tx.FirstAt(at)
			return err
		}))
		return n
	}
	if n := first(noon); n != 1 {
		t.Errorf("of an empty store: %d", n)
	}
	for _, minute := range []time.Duration{0, 1, 1, 1, 3, 4, 4, 10} {
		now = noon.Add(minute * time.Minute)
		_, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem})
		must(t, err)
	}
	for at, want := range map[time.Duration]int64{-time.Hour: 1, 0: 1, time.Second: 2, time.Minute: 2, 2 * time.Minute: 5, 4 * time.Minute: 6, 5 * time.Minute: 8, 10 * time.Minute: 8, time.Hour: 9} {
		if got := first(noon.Add(at)); got != want {
			t.Errorf("at noon and %s: %d, want %d", at, got, want)
		}
	}
}
