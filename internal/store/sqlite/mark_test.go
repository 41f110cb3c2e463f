package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// closedStore is a store that was served and stopped: a key, a pulled brake, calls that settled and one that is unknown.
type closedStore struct {
	t    *testing.T
	path string
}

func newClosedStore(t *testing.T) closedStore {
	t.Helper()
	s := closedStore{t, filepath.Join(t.TempDir(), "keybrake.db")}
	s.serve(func(db *sqlite.DB) {
		version := storetest.Key(t, db, "key_1")
		for i := range 20 {
			s.call(db, version, fmt.Sprint("re_", i))
		}
		must(t, db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
			return tx.PutBrake(store.BrakeRow{Scope: store.KeyScope("key_2"), Mode: vault.Stopped, Reason: "it loops", Actor: "ann", At: tx.Now()})
		}))
		must(t, db.SignHead(t.Context()))
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s closedStore) options() sqlite.Options {
	return sqlite.Options{Path: s.path, Signer: storetest.NewSigner("test"), MasterCheck: "m", Wait: time.Minute}
}

// serve opens the store, does something and closes it.
func (s closedStore) serve(f func(*sqlite.DB)) {
	s.t.Helper()
	db, err := sqlite.Open(context.Background(), s.options())
	must(s.t, err)
	f(db)
	must(s.t, db.Close())
}

func (s closedStore) call(db *sqlite.DB, version int64, object string) {
	s.t.Helper()
	a, err := db.Admit(context.Background(), storetest.Admission("key_1", version, []policy.Cap{storetest.DayCap("refunds", 1000)}, storetest.USD("refunds", 100)))
	must(s.t, err)
	r := storetest.Settle(a.Reservation)
	r.Fate.Moved[0].Object = policy.ObjectID(object)
	_, err = db.Resolve(context.Background(), r)
	must(s.t, err)
}

// frozen opens the store and returns why money is frozen; empty if it is not. A refusal to start is returned as such.
func (s closedStore) frozen() (why string, refused error) {
	s.t.Helper()
	db, err := sqlite.Open(context.Background(), s.options())
	if err != nil {
		return "", err
	}
	if err := db.Check(context.Background()); err != nil {
		why = err.Error()
	}
	must(s.t, db.Close())
	return why, nil
}

// copyTo copies the store's files as they lie.
func (s closedStore) copyTo(folder string, suffixes ...string) closedStore {
	s.t.Helper()
	c := closedStore{s.t, filepath.Join(folder, "keybrake.db")}
	for _, suffix := range suffixes {
		b, err := os.ReadFile(s.path + suffix)
		if os.IsNotExist(err) {
			continue
		}
		must(s.t, err)
		must(s.t, os.WriteFile(c.path+suffix, b, 0o600))
	}
	return c
}

// sql changes the rows behind the store's back, in ways that leave its sums right: what is looked for here is not a lost bit.
func (s closedStore) sql(query string) {
	s.t.Helper()
	raw, err := sql.Open("sqlite", "file:"+s.path)
	must(s.t, err)
	_, err = raw.ExecContext(s.t.Context(), query)
	must(s.t, err)
	must(s.t, raw.Close())
}

func TestBooksThatAreNotTheOnesThatWereWrittenFreezeAllMoney(t *testing.T) {
	older := func(s closedStore) closedStore { return s.copyTo(t.TempDir(), "", "-wal") }
	for _, c := range []struct {
		name   string
		change func(s closedStore)
		why    string // empty: not frozen
	}{
		{"served and stopped", func(closedStore) {}, ""},
		{"yesterday's backup in its place", func(s closedStore) {
			backup := older(s)
			s.serve(func(db *sqlite.DB) {
				_, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem})
				must(t, err)
			})
			must(t, os.Remove(s.path))
			backup.copyTo(filepath.Dir(s.path), "", "-wal")
		}, "the books went backwards"},
		{"a backup in its place after which nothing happened", func(s closedStore) {
			backup := older(s)
			must(t, os.Remove(s.path))
			backup.copyTo(filepath.Dir(s.path), "", "-wal")
		}, ""},
		{"a copy without its mark", func(s closedStore) { must(t, os.Remove(s.path+".mark")) }, "there is no mark beside the store"},
		{"the end of the record cut off, signatures included", func(s closedStore) {
			s.sql(`DELETE FROM audit WHERE seq > 30`)
			s.sql(`DELETE FROM heads`)
		}, "the books went backwards: the record ends at 30"},
		{"another store's mark", func(s closedStore) {
			newClosedStore(t).copyTo(filepath.Dir(s.path), ".mark")
		}, "belongs to another store"},
		{"one place of the mark spoiled by a crash", func(s closedStore) { spoil(t, s.path+".mark", 0) }, ""},
		{"the other place spoiled", func(s closedStore) { spoil(t, s.path+".mark", 4096) }, ""},
		{"both places spoiled", func(s closedStore) { spoil(t, s.path+".mark", 0); spoil(t, s.path+".mark", 4096) }, "is of no use"},
		{"an empty mark", func(s closedStore) { must(t, os.Truncate(s.path+".mark", 0)) }, "is of no use"},
		{"a store from before there were marks", func(s closedStore) {
			must(t, os.Remove(s.path+".mark"))
			s.sql(`DELETE FROM meta WHERE name = 'identity'`)
		}, ""},
		{"an account that lost a hold", func(s closedStore) { s.sql(`UPDATE accounts SET settled = settled - 1`) }, "its reservations say"},
		{"an account that is gone", func(s closedStore) { s.sql(`DELETE FROM accounts`) }, "is missing"},
		{"an object that lost its count", func(s closedStore) { s.sql(`DELETE FROM objects WHERE object = 're_3'`) }, "on re_3 is missing"},
		{"a reservation that lost its money", func(s closedStore) { s.sql(`UPDATE reservations SET state = 3 WHERE id = 5`) }, "reservation 5 is not as it was written"},
		{"a stop whose name was lost", func(s closedStore) { s.sql(`UPDATE brakes SET scope = 'kez:key_2'`) }, "is none that was pulled"},
		{"a record of the middle", func(s closedStore) {
			s.sql(`UPDATE audit SET body = replace(CAST(body AS TEXT), 'refunds', 'refundz') WHERE seq = 9`)
		}, "record 9 is not as it was written"},
		{"the key by which a record is found", func(s closedStore) { s.sql(`UPDATE audit SET key = 'key_9' WHERE seq = 9`) }, "record 9 is not as it was written"},
		{"a signature", func(s closedStore) { s.sql(`UPDATE heads SET doc = replace(CAST(doc AS TEXT), '"seq":', '"seq":1')`) }, "signed head"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newClosedStore(t)
			c.change(s)
			why, err := s.frozen()
			if err != nil || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
				t.Fatalf("%q %v, want %q", why, err, c.why)
			}
			if again, err := s.frozen(); err != nil || again != why {
				t.Errorf("after another start: %q %v", again, err)
			}
		})
	}
}

// A bit that was lost in a row is noticed by its sum.
func TestARowThatLostABitFreezesAllMoney(t *testing.T) {
	for _, query := range []string{
		`UPDATE keys SET doc = CAST(CAST(doc AS TEXT) || ' ' AS BLOB)`,
		`UPDATE policies SET yaml = CAST(CAST(yaml AS TEXT) || ' ' AS BLOB)`,
		`UPDATE brakes SET scope = 'key:key_3'`,
		`DELETE FROM brakes`,
		`INSERT INTO meta (name, value) VALUES ('x', 'y')`,
		`DELETE FROM sums`,
	} {
		t.Run(query, func(t *testing.T) {
			s := newClosedStore(t)
			s.sql(`DROP TRIGGER keys_changed`) // a disk runs no triggers
			s.sql(`DROP TRIGGER policies_changed`)
			s.sql(`DROP TRIGGER brakes_changed`)
			s.sql(`DROP TRIGGER brakes_out`)
			s.sql(`DROP TRIGGER meta_in`)
			s.sql(query)
			why, err := s.frozen()
			if err != nil || !strings.Contains(why, "money is frozen") {
				t.Errorf("%q %v", why, err)
			}
		})
	}
}

func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{'?'}, at+40)
	must(t, err)
	must(t, f.Close())
}

func TestFrozenBooksDenyEveryWriteUntilSomebodyHasLooked(t *testing.T) {
	s := newClosedStore(t)
	must(t, os.Remove(s.path+".mark"))
	s.serve(func(db *sqlite.DB) {
		version := int64(1)
		for _, key := range []policy.KeyID{"key_1"} {
			got, err := db.Admit(t.Context(), storetest.Admission(key, version, nil, storetest.USD("refunds", 1)))
			must(t, err)
			if got.Verdict != policy.Deny || got.Frozen == "" {
				t.Errorf("a write passes: %+v", got)
			}
		}
		read := storetest.Admission("key_1", version, nil, storetest.USD("refunds", 1))
		read.Reserve, read.Writes = nil, false
		if got, err := db.Admit(t.Context(), read); err != nil || got.Verdict != policy.Allow {
			t.Errorf("a read does not pass: %+v %v", got, err)
		}
		must(t, db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error {
			_, err := tx.LiftBrake(store.ScopeBooks)
			return err
		}))
		must(t, db.Check(t.Context()))
		if got, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 1))); err != nil || got.Verdict != policy.Allow {
			t.Errorf("a write does not pass afterwards: %+v %v", got, err)
		}
	})
	if why, err := s.frozen(); why != "" || err != nil {
		t.Errorf("frozen again: %q %v", why, err)
	}
}
