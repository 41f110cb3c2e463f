package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

func chainVerifies(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for range 8 {
				if _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem, Action: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
			if i%8 == 0 {
				if err := db.SignHead(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	admit(t, db, Admission("key_1", version, nil, USD("refunds", 1)))
	must(t, db.SignHead(t.Context()))
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		heads, err := tx.Heads(1)
		if err != nil {
			return err
		}
		seq, _, err := tx.Height()
		if err != nil {
			return err
		}
		report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), entries(tx), heads, NewSigner("test").PublicKey())
		if err != nil || report.Problem != nil || report.Last != seq || report.LastSigned != seq {
			t.Errorf("%+v %v; the height is %d", report, err, seq)
		}
		return nil
	}))
}

// entries iterates over a store's whole chain.
func entries(tx store.Tx) func(yield func(audit.Entry, error) bool) {
	return func(yield func(audit.Entry, error) bool) {
		stop := errors.New("stop")
		err := tx.EachRecord(1, func(e audit.Entry) error {
			if !yield(e, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(audit.Entry{}, err)
		}
	}
}

func failedUpdate(t *testing.T, open Open) {
	db := opened(t, open)
	broken := errors.New("broken")
	err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		if _, err := tx.PutKey(store.KeyRow{ID: "key_1", Name: "n", Digest: "d", Policy: []byte("p"), Doc: []byte("{}")}); err != nil {
			return err
		}
		if _, err := tx.Append(&audit.Record{Kind: audit.KindOperator, Action: "key.create"}); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Key("key_1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the key is there: %v", err)
		}
		return nil
	}))
	if n := len(records(t, db)); n != 0 {
		t.Errorf("%d records", n)
	}
	if es, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem}); err != nil || es[0].Seq != 1 {
		t.Errorf("the chain goes on at %+v, %v", es, err)
	}
}

// nobodyWaits asks for what its caller has given up already, so often that an engine which leaves it to chance is caught.
func nobodyWaits(t *testing.T, open Open) {
	db := opened(t, open)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for range 5000 {
		for _, lane := range []store.Lane{store.LaneControl, store.LaneBrake} {
			err := db.Update(ctx, lane, func(store.Tx) error { t.Errorf("lane %v: it is done", lane); return nil })
			if !errors.Is(err, store.ErrBusy) || !errors.Is(err, context.Canceled) {
				t.Fatalf("lane %v: %v", lane, err)
			}
		}
		if _, err := db.Log(ctx, &audit.Record{Kind: audit.KindSystem}); !errors.Is(err, store.ErrBusy) {
			t.Fatalf("a record: %v", err)
		}
	}
	if n := len(records(t, db)); n != 0 {
		t.Errorf("%d records", n)
	}
}

func uniqueNames(t *testing.T, open Open) {
	db := opened(t, open)
	put := func(id policy.KeyID, live bool) error {
		return db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
			_, err := tx.PutKey(store.KeyRow{ID: id, Name: "n", Live: live, Digest: "d", Policy: []byte("p"), Doc: []byte("{}")})
			return err
		})
	}
	must(t, put("key_1", true))
	if err := put("key_2", true); !errors.Is(err, store.ErrExists) {
		t.Errorf("%v", err)
	}
	must(t, put("key_1", false))
	must(t, put("key_2", true))
}

func viewReadOnly(t *testing.T, open Open) {
	db := opened(t, open)
	err := db.View(t.Context(), func(tx store.Tx) error { return tx.SetMeta("a", "b") })
	if err == nil {
		t.Error("a view wrote")
	}
}

func search(t *testing.T, open Open) {
	db := opened(t, open)
	versions := map[policy.KeyID]int64{"key_1": Key(t, db, "key_1"), "key_2": Key(t, db, "key_2")}
	var call int64
	for range 20 {
		for id, v := range versions {
			a := admit(t, db, Admission(id, v, nil, USD("refunds", 1)))
			resolve(t, db, Settle(a.Reservation))
			call = a.Entry.Seq
		}
	}
	var want []int64
	for _, r := range records(t, db) {
		if r.Key == "key_1" {
			want = append(want, r.Seq)
		}
	}
	check := func() {
		var got, ofCall []int64
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			for after := int64(0); ; {
				page, err := tx.Query(store.RecordQuery{Key: "key_1", After: after, Limit: 7, Ascending: true})
				if err != nil || len(page.Entries) == 0 {
					return err
				}
				for _, e := range page.Entries {
					got = append(got, e.Seq)
				}
				after = got[len(got)-1]
			}
		}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("by key (-want +got):\n%s", diff)
		}
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			page, err := tx.Query(store.RecordQuery{Call: call})
			for _, e := range page.Entries {
				ofCall = append(ofCall, e.Seq)
			}
			return err
		}))
		if len(ofCall) != 2 || ofCall[1] != call {
			t.Errorf("records of call %d: %v", call, ofCall)
		}
	}
	check() // most is not indexed yet
	must(t, db.(interface{ IndexNow() error }).IndexNow())
	check()
}

func clockBack(t *testing.T, open Open) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	db := open(t, clock)
	if _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-24 * time.Hour)
	if got := db.Now(); got.Day() != 23 {
		t.Errorf("the clock went back to %s", got)
	}
	must(t, db.Close())
	db = open(t, clock)
	if got := db.Now(); got.Day() != 23 {
		t.Errorf("the clock went back to %s after a restart", got)
	}
	must(t, db.Close())
}

func joins(t *testing.T, open Open) {
	db := opened(t, open)
	version := Key(t, db, "key_1")
	a := admit(t, db, Admission("key_1", version, nil, USD("refunds", 1)))
	r := Settle(a.Reservation)
	r.Joins = "cus_new"
	resolve(t, db, r)
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		row, err := tx.Key("key_1")
		if err == nil && (row.Version != version || string(row.Doc) == "{}") {
			t.Errorf("row: %+v", row)
		}
		return err
	}))
	// A longer list refuses nothing that the shorter one let through, and a version of its own would let a join
	// overtake an operator's change in memory.
	if got := admit(t, db, Admission("key_1", version, nil, USD("refunds", 1))); got.Stale || got.Verdict != policy.Allow {
		t.Errorf("a call judged under the shorter list: %+v", got)
	}
}
