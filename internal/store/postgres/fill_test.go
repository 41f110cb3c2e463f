package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/move"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// oddIdem is an idempotency key that no text column would take.
const oddIdem = "a\x00b'é"

// full is an SQLite store with something in every table.
func full(t *testing.T) *sqlite.DB {
	t.Helper()
	now := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	db, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "keybrake.db"), Clock: func() time.Time { return now }, Signer: storetest.NewSigner("test"),
		MasterCheck: "master", ArchiveRecords: storetest.ArchiveRecords,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	storetest.Old(t, db, &now, true)
	caps := []policy.Cap{storetest.DayCap("refunds", 1000)}
	version := storetest.Key(t, db, "key_b")
	storetest.Key(t, db, "key_a") // the younger one comes first by its name
	for i, fate := range []ledger.State{ledger.Settled, ledger.Released, ledger.Unresolved} {
		e := storetest.USD("refunds", 500+int64(i))
		e.Object = "re_\x00é1"
		a := storetest.Admission("key_b", version, caps, e)
		a.Reserve.IdemKey, a.AllowRepeat = fmt.Sprint(oddIdem, i), true
		got, err := db.Admit(t.Context(), a)
		if err != nil || got.Verdict != policy.Allow {
			t.Fatalf("%+v, %v", got, err)
		}
		r := storetest.Settle(got.Reservation)
		switch fate {
		case ledger.Released:
			r.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused}
		case ledger.Unresolved:
			r.Fate = ledger.Fate{State: ledger.Unresolved}
		}
		if _, err := db.Resolve(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	err = db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		return errors.Join(
			tx.PutUpstream(store.UpstreamRow{ID: "up_1", Name: "stripe", Doc: []byte{0, 1, 2}}),
			tx.PutBrake(store.BrakeRow{Scope: "key:key_a", Mode: vault.Stopped, Reason: "it loops\x00", Actor: "ada", At: now}),
			tx.PutOperator(store.OperatorRow{ID: "opr_1", Name: "ada", Role: "admin", Created: now}),
			tx.PutToken(store.TokenRow{Name: "t", Digest: []byte{1}, Operator: "opr_1", Created: now}),
			tx.PutPass(store.PassRow{Digest: []byte{2}, Kind: store.PassSession, Operator: "opr_1", Created: now, Expires: now, Agent: "caf\xe9"}),
			tx.PutCreation(store.CreationRow{Digest: []byte{3}, Request: []byte{4}, Answer: []byte("{}"), At: now}),
			tx.PutAlert(store.AlertRow{ID: "alr_1", Kind: "spend", Subject: "key_b", Title: "caf\xe9", First: now, Last: now}),
			tx.PutMessage(store.MessageRow{ID: "msg_1", Target: "mail", Body: []byte("{}"), Created: now, Due: now}),
			tx.SetMeta("a setting", "its value"),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.SignHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// fill moves a store and returns what was proved.
func fill(ctx context.Context, from *sqlite.DB, url string, between func(move.Source) move.Source) (proof *move.Proof, err error) {
	err = from.Moving(ctx, func(s move.Source) (err error) {
		if between != nil {
			s = between(s)
		}
		proof, err = postgres.Fill(ctx, postgres.Options{URL: url, Signer: storetest.NewSigner("test"), Archives: from.Archives()}, "keybrake.db", s)
		return err
	})
	return proof, err
}

func moved(t *testing.T, url, archives string) *postgres.DB {
	t.Helper()
	return node(t, postgres.Options{URL: url, MasterCheck: "master", Archives: archives})
}

// everything is what can be read of a store.
func everything(t *testing.T, db store.DB, upTo int64) map[string]any {
	t.Helper()
	out := make(map[string]any)
	err := db.View(t.Context(), func(tx store.Tx) (err error) {
		keep := func(name string, v any, err2 error) {
			out[name] = v
			err = errors.Join(err, err2)
		}
		var keys []store.KeyRow
		keep("keys", &keys, tx.EachKey(func(k store.KeyRow) error { keys = append(keys, k); return nil }))
		var records []audit.Entry
		keep("records", &records, tx.EachRecord(1, func(e audit.Entry) error {
			if e.Seq <= upTo {
				records = append(records, e)
			}
			return nil
		}))
		var rs []*ledger.Reservation
		keep("reservations", &rs, tx.ReservationsSince("", time.Time{}, func(r *ledger.Reservation) error { rs = append(rs, r); return nil }))
		var accounts []ledger.Account
		for _, r := range rs {
			for _, h := range r.Holds {
				a, err := tx.Account(h.Account)
				keep("account", nil, err)
				accounts = append(accounts, a)
			}
		}
		out["accounts"] = accounts
		for name, read := range map[string]func() (any, error){
			"upstreams": func() (any, error) { return tx.Upstreams() }, "brakes": func() (any, error) { return tx.Brakes() },
			"operators": func() (any, error) { return tx.Operators() }, "tokens": func() (any, error) { return tx.Tokens() },
			"passes": func() (any, error) { return tx.Passes() }, "alerts": func() (any, error) { return tx.Alerts(10) },
			"messages": func() (any, error) { return tx.Messages("", 10) }, "archives": func() (any, error) { return tx.Archives() },
			"heads": func() (any, error) { return tx.Heads(1) }, "creation": func() (any, error) { return tx.Creation([]byte{3}) },
			"counted": func() (any, error) { return tx.Counted("re_\x00é1") }, "setting": func() (any, error) { return tx.Meta("a setting") },
			"open":      func() (any, error) { return tx.OpenReservations("key_b") },
			"of a key":  func() (any, error) { return tx.Query(store.RecordQuery{Key: "key_rare"}) },
			"of a call": func() (any, error) { return tx.Query(store.RecordQuery{Call: 1, Limit: 1000}) },
		} {
			v, err := read()
			keep(name, v, err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAMovedStoreIsTheOneThatItWas(t *testing.T) {
	old, url := full(t), postgrestest.Database(t)
	height := old.Figures().Height
	want := everything(t, old, height)
	proof, err := fill(t.Context(), old, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if proof.Last != height || proof.First != 1 || proof.Records != height || proof.Accounts == 0 || proof.Open != 1 || proof.Held != 5_020_000 || proof.Signed != height {
		t.Errorf("%+v", proof)
	}
	for _, c := range proof.Tables {
		if c.To == 0 && c.Table != "rates" {
			t.Errorf("%s is empty: this test moves nothing of it", c.Table)
		}
	}
	db := moved(t, url, old.Archives())
	got := everything(t, db, height)
	want["brakes"] = []store.BrakeRow{{Scope: "key:key_a", Mode: vault.Stopped, Reason: "it loops\uFFFD", Actor: "ada", At: want["brakes"].([]store.BrakeRow)[0].At}}
	want["passes"].([]store.PassRow)[0].Agent = "caf\uFFFD"
	want["alerts"].([]store.AlertRow)[0].Title = "caf\uFFFD"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff[:min(len(diff), 3000)])
	}

	// It goes on: the chain, the caps, what an idempotency key belongs to, and what nodes are told.
	r, err := db.Attached(t.Context(), "key_b", "", oddIdem+"2")
	if err != nil || r.State != ledger.Unresolved {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := db.Resolve(t.Context(), storetest.Settle(r)); err != nil {
		t.Error(err)
	}
	err = db.View(t.Context(), func(tx store.Tx) error {
		page, err := tx.Query(store.RecordQuery{From: height + 1, To: height + 1})
		if err == nil && (len(page.Entries) != 1 || !strings.Contains(string(page.Entries[0].Bytes), `"store.migrate"`)) {
			t.Errorf("%+v", page)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	changed, err := db.Changes(t.Context(), 0)
	if err != nil || len(changed.Keys) != 2 || changed.Keys[0].ID != "key_b" || len(changed.Upstreams) != 1 || len(changed.Brakes) != 1 {
		t.Errorf("%+v, %v", changed, err)
	}
}

// spoiled changes one row of a table on its way.
type spoiled struct {
	move.Source
	table  string
	change func(row []any)
	end    error // instead of the last row
}

func (s spoiled) Rows(table *move.Table) iter.Seq2[[]any, error] {
	rows := s.Source.Rows(table)
	if table.Name != s.table {
		return rows
	}
	return func(yield func([]any, error) bool) {
		for row, err := range rows {
			if s.change != nil {
				s.change(row)
			}
			if s.end != nil {
				row, err = nil, s.end
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

func TestAMoveThatDoesNotProveItselfLeavesNothing(t *testing.T) {
	old := full(t)
	stopped := errors.New("the source broke")
	for name, c := range map[string]struct {
		spoil func(move.Source) move.Source
		want  string
	}{
		"an account that says something else": {func(s move.Source) move.Source {
			return spoiled{Source: s, table: "accounts", change: func(row []any) { row[5] = row[5].(int64) + 1 }}
		}, "the account of key_b for refunds"},
		"a record that was changed": {func(s move.Source) move.Source {
			return spoiled{Source: s, table: "audit", change: func(row []any) {
				if row[0] == int64(4000) {
					row[5] = []byte(strings.Replace(string(row[5].([]byte)), `"key_`, `"yek_`, 1))
				}
			}}
		}, "the record does not verify"},
		"a reservation that cannot be read": {func(s move.Source) move.Source {
			return spoiled{Source: s, table: "reservations", change: func(row []any) { row[6] = []byte("{") }}
		}, "decode reservation"},
		"a source that breaks off": {func(s move.Source) move.Source {
			return spoiled{Source: s, table: "messages", end: stopped}
		}, "the source broke"},
	} {
		t.Run(name, func(t *testing.T) {
			url := postgrestest.Database(t)
			if _, err := fill(t.Context(), old, url, c.spoil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v", err)
			}
			if _, err := fill(t.Context(), old, url, nil); err != nil {
				t.Errorf("after it nothing can be moved there: %v", err)
			}
		})
	}
}

func TestAStoreThatIsUsedIsNotMovedTo(t *testing.T) {
	old, url := full(t), postgrestest.Database(t)
	db, err := postgres.Open(t.Context(), postgres.Options{URL: url, Signer: storetest.NewSigner("test"), MasterCheck: "master"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fill(t.Context(), old, url, nil); err == nil || !strings.Contains(err.Error(), "name an empty database") {
		t.Errorf("%v", err)
	}
}

func TestNobodySeesAMoveBeforeItsEnd(t *testing.T) {
	old, url := full(t), postgrestest.Database(t)
	looked := false
	_, err := fill(t.Context(), old, url, func(s move.Source) move.Source {
		return spoiled{Source: s, table: "messages", change: func([]any) {
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background()) //nolint:errcheck // it only reads
			var records, keys, seq int64
			err = conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM keys), (SELECT seq FROM books)`).Scan(&records, &keys, &seq)
			if looked = true; err != nil || records+keys+seq != 0 {
				t.Errorf("%d records, %d keys, the books at %d: %v", records, keys, seq, err)
			}
		}}
	})
	if err != nil || !looked {
		t.Error(err)
	}
}
