package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// statement runs one past the engine.
func statement(t testing.TB, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // the statement was answered
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestChangesTellWhatNodesKeepInMemory: each change of that is told once, and nothing else raises the number.
func TestChangesTellWhatNodesKeepInMemory(t *testing.T) {
	db := moved(t, postgrestest.Database(t), "")
	at := db.Now()
	version := storetest.Key(t, db, "key_1")
	storetest.Key(t, db, "key_2")
	changes := func(since int64) store.Changed {
		t.Helper()
		c, err := db.Changes(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if all := changes(0); len(all.Keys) != 2 || all.Keys[0].ID != "key_1" {
		t.Fatalf("%+v", all)
	}
	update := func(f func(tx store.Tx) error) func() error {
		return func() error { return db.Update(t.Context(), store.LaneControl, f) }
	}
	admit := func(cents int64) *ledger.Reservation {
		a := storetest.Admission("key_1", version, []policy.Cap{storetest.DayCap("refunds", 1000)}, storetest.USD("refunds", cents))
		a.AllowRepeat = true
		got, err := db.Admit(t.Context(), a)
		if err != nil || got.Verdict != policy.Allow {
			t.Fatalf("%+v, %v", got, err)
		}
		return got.Reservation
	}
	if err := update(func(tx store.Tx) error {
		return tx.PutToken(store.TokenRow{Name: "used", Digest: []byte{9}, Created: at})
	})(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		do   func() error
		told func(c store.Changed) bool // nil: it is no change
	}{
		{"an upstream", update(func(tx store.Tx) error {
			return tx.PutUpstream(store.UpstreamRow{ID: "up_1", Name: "s", Doc: []byte("{}")})
		}),
			func(c store.Changed) bool { return len(c.Upstreams) == 1 && len(c.Keys) == 0 }},
		{"an upstream that is gone", update(func(tx store.Tx) error { return tx.DeleteUpstream("up_1") }),
			func(c store.Changed) bool { return len(c.Upstreams) == 0 }},
		{"a key", func() error { version = storetest.Key(t, db, "key_1"); return nil },
			func(c store.Changed) bool {
				return len(c.Keys) == 1 && c.Keys[0].ID == "key_1" && c.Keys[0].Version == version
			}},
		{"a stop", update(func(tx store.Tx) error {
			return tx.PutBrake(store.BrakeRow{Scope: store.UpstreamScope("up_9"), Mode: vault.Stopped, At: at})
		}), func(c store.Changed) bool { return len(c.Brakes) == 1 && len(c.Keys) == 0 }},
		{"a lifted stop", update(func(tx store.Tx) error { _, err := tx.LiftBrake(store.UpstreamScope("up_9")); return err }),
			func(c store.Changed) bool { return len(c.Brakes) == 0 }},
		{"an operator", update(func(tx store.Tx) error {
			return tx.PutOperator(store.OperatorRow{ID: "opr_1", Name: "ada", Created: at})
		}),
			func(c store.Changed) bool { return len(c.Operators) == 1 && len(c.Tokens) == 1 }},
		{"a session", update(func(tx store.Tx) error {
			return tx.PutPass(store.PassRow{Digest: []byte{1}, Kind: store.PassSession, Created: at})
		}),
			func(c store.Changed) bool { return len(c.Passes) == 1 }},
		{"a call", func() error { admit(100); return nil }, nil},
		{"a record", func() error { _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem}); return err }, nil},
		{"a signed head", func() error { return db.SignHead(t.Context()) }, nil},
		{"a token that was used", update(func(tx store.Tx) error { return tx.UseToken("used", at) }), nil},
		{"an alert", update(func(tx store.Tx) error { return tx.PutAlert(store.AlertRow{ID: "alr_1", First: at}) }), nil},
		{"what failed", func() error {
			failed := errors.New("failed")
			err := update(func(tx store.Tx) error { return errors.Join(tx.PutRate(rate(at)), failed) })()
			if !errors.Is(err, failed) {
				return fmt.Errorf("%w", err)
			}
			return nil
		}, nil},
		{"a rate", update(func(tx store.Tx) error { return tx.PutRate(rate(at)) }), func(c store.Changed) bool { return len(c.Rates) == 1 }},
		{"a customer that a call created", func() error {
			r := storetest.Settle(admit(200))
			r.Joins = "cus_1"
			_, err := db.Resolve(t.Context(), r)
			return err
		}, func(c store.Changed) bool {
			return len(c.Keys) == 1 && strings.Contains(string(c.Keys[0].Doc), "cus_1") && c.Keys[0].Version == version
		}},
		{"money that freezes because of a call", func() error {
			r := storetest.Settle(admit(300))
			r.Freeze = "it ran twice"
			_, err := db.Resolve(t.Context(), r)
			return err
		}, func(c store.Changed) bool {
			return len(c.Brakes) == 1 && c.Brakes[0].Scope == store.FreezeScope("key_1")
		}},
	} {
		before := changes(0).Control
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := changes(before)
		switch {
		case c.told == nil && (got.Control != before || len(got.Keys)+len(got.Operators)+len(got.Upstreams) > 0):
			t.Errorf("%s is told: %+v", c.name, got)
		case c.told != nil && (got.Control <= before || !c.told(got)):
			t.Errorf("%s is not told: %+v", c.name, got)
		}
		if again := changes(got.Control); len(again.Keys)+len(again.Upstreams)+len(again.Rates)+len(again.Operators)+len(again.Tokens)+len(again.Passes) > 0 {
			t.Errorf("%s is told twice: %+v", c.name, again)
		}
	}
}

// TestAnActionWhoseConnectionIsCutLeavesNothing: at any place inside it, and between its end and the commit.
func TestAnActionWhoseConnectionIsCutLeavesNothing(t *testing.T) {
	url := postgrestest.Database(t)
	db := moved(t, url, "")
	storetest.Key(t, db, "key_1")
	before, err := db.Changes(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	const parts = 4
	cut := func() {
		statement(t, url, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE application_name = 'keybrake' AND state = 'idle in transaction' AND datname = current_database()`)
	}
	for _, lane := range []store.Lane{store.LaneControl, store.LaneBrake} {
		for at := range parts + 1 {
			err := db.Update(t.Context(), lane, func(tx store.Tx) error {
				for i, part := range []func() error{
					func() error { _, err := tx.Append(&audit.Record{Kind: audit.KindOperator, Action: "kill"}); return err },
					func() error {
						return tx.PutBrake(store.BrakeRow{Scope: store.ScopeAll, Mode: vault.Stopped, At: tx.Now()})
					},
					func() error {
						_, err := tx.PutKey(store.KeyRow{ID: "key_1", Name: "changed", Digest: "d2", Policy: []byte("p"), Doc: []byte("{}")})
						return err
					},
					func() error { return tx.SetMeta("half", "written") },
				} {
					if i == at {
						cut()
					}
					if err := part(); err != nil {
						return err
					}
				}
				if at == parts {
					cut()
				}
				return nil
			})
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("lane %d, cut before part %d: %v", lane, at, err)
			}
		}
	}
	if got := records(t, db); len(got) != 0 {
		t.Errorf("%d records", len(got))
	}
	after, err := db.Changes(t.Context(), 0)
	if err != nil || after.Control != before.Control || len(after.Brakes) != 0 || after.Keys[0].Name != before.Keys[0].Name {
		t.Errorf("%+v, %v", after, err)
	}
	err = db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		if v, err := tx.Meta("half"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q, %v", v, err)
		}
		return tx.SetMeta("half", "whole")
	})
	if err != nil {
		t.Errorf("the next action: %v", err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func records(t *testing.T, db store.DB) (out []audit.Entry) {
	t.Helper()
	err := db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error { out = append(out, e); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNoSearchWalksTheWholeAudit reads PostgreSQL's own plans.
func TestNoSearchWalksTheWholeAudit(t *testing.T) {
	db := moved(t, postgrestest.Database(t), "")
	const n = 60_000
	db.FillRecords(t, n)
	for name, q := range map[string]store.RecordQuery{
		"a key, newest first":     {Key: "key_1", Limit: 10},
		"a key, the next page":    {Key: "key_1", After: 50_000, Limit: 10},
		"a key, oldest first":     {Key: "key_1", After: 500, Ascending: true, Limit: 10},
		"a key that there is not": {Key: "key_x", Limit: 10},
		"a call":                  {Call: 7, Limit: 10},
		"a call of a key":         {Call: 7, Key: "key_7", Limit: 10},
		"everything, next page":   {After: 50_000, Limit: 10},
		"a span of numbers":       {From: 100, To: 200, Limit: 10},
		"deeds":                   {Deeds: true, After: 50_000, Limit: 10},
		"deeds about a key":       {Deeds: true, Key: "key_500", Limit: 10},
	} {
		q.Limit = 10
		for _, step := range db.Plan(t, q, n-100) {
			if strings.Contains(step, "Seq Scan") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}

// TestListsAreInTheOrderOfBytesInAnyDatabase: also in one that was made for a language.
func TestListsAreInTheOrderOfBytesInAnyDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	server.Exec(t, `CREATE DATABASE english TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'`)
	db := moved(t, server.URL("english"), "")
	names := []string{"Zebra", "a", "a-b", "ab", "z", "é"}
	err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		for _, name := range names {
			if err := tx.PutUpstream(store.UpstreamRow{ID: policy.UpstreamID("up_" + name), Name: name, Doc: []byte("{}")}); err != nil {
				return err
			}
		}
		rows, err := tx.Upstreams()
		var got []string
		for _, row := range rows {
			got = append(got, row.Name)
		}
		if !slices.Equal(got, names) {
			t.Errorf("%q", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// oldStore is a store with records of two days, a hundred days apart, and another node on it; shared: with the same archive
// folder.
func oldStore(t *testing.T, shared bool) (db, other *postgres.DB, before time.Time) {
	t.Helper()
	at, folder := postgrestest.Database(t), filepath.Join(t.TempDir(), "archive")
	begin := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	now := begin
	open := func(folder string) *postgres.DB {
		return node(t, postgres.Options{URL: at, Archives: folder, ArchiveRecords: storetest.ArchiveRecords, Clock: func() time.Time { return now }})
	}
	db = open(folder)
	storetest.Old(t, db, &now, false)
	if !shared {
		folder += "-of-another-machine"
	}
	return db, open(folder), begin.AddDate(0, 0, 10)
}

// whole reads the record from its first to its last entry, each once, and verifies it.
func whole(t *testing.T, db store.DB) {
	t.Helper()
	chain := audit.NewChain(audit.FirstChain)
	for _, e := range records(t, db) {
		if chain.Seq++; e.Seq != chain.Seq || audit.Link(chain.Hash, e.Bytes) != e.Hash {
			t.Fatalf("record %d comes as number %d, or its hash does not go on from the one before", e.Seq, chain.Seq)
		}
		chain.Hash = e.Hash
	}
	err := db.View(t.Context(), func(tx store.Tx) error {
		last, hash, err := tx.Height()
		if last != chain.Seq || hash != chain.Hash {
			t.Errorf("the record ends with %d, the store with %d", chain.Seq, last)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAStopAtAnyStepOfAnArchiveLosesAndDoublesNothing(t *testing.T) {
	for name, stop := range map[string]struct{ steps, chunks int }{
		"after it was written":         {1, 0},
		"after it was named":           {3, 0},
		"after it was made known":      {4, 0},
		"after some rows were removed": {4, 2},
	} {
		t.Run(name, func(t *testing.T) {
			db, other, before := oldStore(t, true)
			if n := db.ArchiveUpTo(t, before, stop.steps, stop.chunks); n != 5 {
				t.Fatalf("an archive takes %d steps: this test knows 5", n)
			}
			whole(t, other)
			left := int64(3 * storetest.ArchiveRecords)
			if stop.steps == 4 {
				left -= storetest.ArchiveRecords
			}
			if n := archiveAll(t, other, before); n != left {
				t.Errorf("another node moved %d records, want %d", n, left)
			}
			whole(t, db)
		})
	}
}

func archiveAll(t *testing.T, db *postgres.DB, before time.Time) (n int64) {
	t.Helper()
	for {
		moved, err := db.Archive(t.Context(), before)
		if errors.Is(err, store.ErrUnavailable) { // a slow machine let go of the lock; the next one goes on where it was
			continue
		}
		if err != nil {
			t.Error(err)
		}
		if n += moved; moved == 0 {
			return n
		}
	}
}

func TestNodesArchiveInTurn(t *testing.T) {
	db, other, before := oldStore(t, true)
	if mine, err := db.TakeTurn(t.Context()); err != nil || !mine {
		t.Fatal(mine, err)
	}
	if n, err := other.Archive(t.Context(), before); n != 0 || err != nil {
		t.Errorf("in another's turn: %d, %v", n, err)
	}
	if n, err := db.Archive(t.Context(), before); n != storetest.ArchiveRecords || err != nil {
		t.Errorf("in its own turn: %d, %v", n, err)
	}
	var both sync.WaitGroup
	for _, node := range []*postgres.DB{db, other} {
		both.Go(func() { archiveAll(t, node, before) })
	}
	both.Wait()
	archiveAll(t, db, before) // each may have met the other's turn at its end
	whole(t, db)
	whole(t, other)
	err := db.View(t.Context(), func(tx store.Tx) error {
		archives, err := tx.Archives()
		if len(archives) != 3 || archives[2].Last != 3*storetest.ArchiveRecords {
			t.Errorf("%+v", archives)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAFolderThatIsNotSharedIsNoticed(t *testing.T) {
	db, other, before := oldStore(t, false)
	if n := archiveAll(t, db, before); n != 3*storetest.ArchiveRecords {
		t.Fatalf("%d records moved", n)
	}
	whole(t, db)
	err := other.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(audit.Entry) error { return nil })
	})
	var missing *store.ArchiveError
	if !errors.As(err, &missing) || missing.First != 1 {
		t.Errorf("a node without the files reads the record: %v", err)
	}
	if n, err := other.Archive(t.Context(), before.AddDate(0, 0, 200)); n != 0 || err == nil || !strings.Contains(err.Error(), "all nodes need the same one") {
		t.Errorf("it archives into its own folder: %d, %v", n, err)
	}
}

func TestANewerSchemaIsRunOnIfItSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		want string // of the error; empty: it opens
	}{
		"one release ahead": {`INSERT INTO goose_db_version (version_id, is_applied) VALUES (7, true)`, ""},
		"more than one release ahead": {`INSERT INTO goose_db_version (version_id, is_applied) VALUES (7, true); UPDATE meta SET value = '3' WHERE name = 'compatible'`,
			"the store has schema 7, which only programs that know schema 3 can use; this one knows up to 2: run the newer program"},
		"another program's database": {`DROP TABLE meta`, "the database is not a Keybrake store"},
	} {
		t.Run(name, func(t *testing.T) {
			at := postgrestest.Database(t)
			options := postgres.Options{URL: at, Signer: storetest.NewSigner("test")}
			db, err := postgres.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, at, c.sql)
			db, err = postgres.Open(t.Context(), options)
			switch {
			case err == nil:
				if err := db.Close(); err != nil || c.want != "" {
					t.Errorf("it opens; %v", err)
				}
			case c.want == "" || !strings.Contains(err.Error(), c.want):
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNodesThatStartAtOnceMakeOneStore(t *testing.T) {
	at := postgrestest.Database(t)
	var nodes sync.WaitGroup
	for i := range 5 {
		nodes.Go(func() {
			db, err := postgres.Open(t.Context(), postgres.Options{URL: at, Signer: storetest.NewSigner("test"), MasterCheck: "master"})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem, Action: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	db := moved(t, at, "")
	if n := len(records(t, db)); n != 5 {
		t.Errorf("%d records", n)
	}
	whole(t, db)
}

func TestAPasswordIsNotRepeated(t *testing.T) {
	const secret = "hunter2"
	place, err := postgres.Place("postgres://u:" + secret + "@db.internal:6432/keybrake")
	if err != nil || place != "postgres://db.internal:6432/keybrake" {
		t.Errorf("%s, %v", place, err)
	}
	for _, bad := range []string{"postgres://u:" + secret + "@host:port/db", "postgres://u:" + secret + "@[::1/db", (&url.URL{Scheme: "http", Host: secret}).String()} {
		if _, err := postgres.Place(bad); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}

func rate(at time.Time) money.Rate {
	return money.Rate{Currency: "eur", ID: "rate_1", Value: 1_100_000, AsOf: at}
}
