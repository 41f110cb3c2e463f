package postgres_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node opens a store for the length of the test.
func node(t testing.TB, o postgres.Options) *postgres.DB {
	t.Helper()
	db := opened(t, o)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func opened(t testing.TB, o postgres.Options) *postgres.DB {
	t.Helper()
	if o.Signer == nil {
		o.Signer = storetest.NewSigner("test")
	}
	if o.Archives == "" {
		o.Archives = filepath.Join(t.TempDir(), "archive")
	}
	db, err := postgres.Open(t.Context(), o)
	must(t, err)
	return db
}

// query reads one row beside the engine.
func query(t testing.TB, url, sql string, targets ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // it only reads
	must(t, conn.QueryRow(t.Context(), sql).Scan(targets...))
}

// exec changes something beside the engine.
func exec(t testing.TB, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // it was answered
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
}

func admission(version int64, caps []policy.Cap, cents int64) *store.Admission {
	return storetest.Admission("key_1", version, caps, storetest.USD("refunds", cents))
}

// book is how a store's rows stand.
type book struct {
	held, settled int64 // micro-dollars, in all accounts
	reservations  int64
	intents       int64 // records of calls that were let through
	records       int64
}

// booked reads how the rows stand and verifies the chain.
func booked(t testing.TB, db store.DB, url string) book {
	t.Helper()
	var b book
	query(t, url, `SELECT coalesce(sum(held), 0)::bigint, coalesce(sum(settled), 0)::bigint, (SELECT count(*) FROM reservations) FROM accounts`, &b.held, &b.settled, &b.reservations)
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		stop := errors.New("stop")
		chain := func(yield func(audit.Entry, error) bool) {
			err := tx.EachRecord(1, func(e audit.Entry) error {
				r, err := audit.Decode(e.Bytes)
				if err != nil {
					return err
				}
				if r.Kind == audit.KindIntent && r.Verdict == policy.Allow.String() {
					b.intents++
				}
				b.records++
				if !yield(e, nil) {
					return stop
				}
				return nil
			})
			if err != nil && !errors.Is(err, stop) {
				yield(audit.Entry{}, err)
			}
		}
		report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), chain, nil, storetest.NewSigner("test").PublicKey())
		if err == nil && report.Problem != nil {
			t.Errorf("the chain: %s", report.Problem)
		}
		if seq, _, _ := tx.Height(); seq != b.records {
			t.Errorf("%d records, the last is %d", b.records, seq)
		}
		return err
	}))
	return b
}
