package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// played is a seed's run: what was asked of the store, and what the store in memory came to.
type played struct {
	seed   uint64
	steps  []step
	rows   *rows
	master *vault.Master
}

// TestASeedHasTheSameBooksInEveryEngine runs a seed once and asks SQLite and PostgreSQL for what it asked of the store in
// memory, restarts included: each record is the same, byte for byte, and so are the books. Calls that shared a transaction
// there have one each here. PostgreSQL is asked once more through a network that breaks.
func TestASeedHasTheSameBooksInEveryEngine(t *testing.T) {
	first, seeds := setting(t, "SEED", 1), setting(t, "ENGINE_SEEDS", 1)
	begun, steps, restarts, cuts := time.Now(), 0, 0, 0
	for seed := first; seed < first+seeds; seed++ {
		p := play(t, uint64(seed))
		steps += len(p.steps)
		for _, s := range p.steps {
			if s.restart {
				restarts++
			}
		}
		t.Run(fmt.Sprint("seed ", seed, " in SQLite"), func(t *testing.T) { p.replay(t, onSQLite(t), nil) })
		t.Run(fmt.Sprint("seed ", seed, " in PostgreSQL"), func(t *testing.T) { p.replay(t, onPostgres(postgrestest.Database(t)), nil) })
		t.Run(fmt.Sprint("seed ", seed, " in PostgreSQL with cuts"), func(t *testing.T) {
			proxy, through := postgrestest.NewProxy(t, postgrestest.Database(t))
			rng := rand.New(rand.NewPCG(uint64(seed), 3))
			p.replay(t, onPostgres(through), func() {
				if rng.IntN(4) == 0 {
					cuts++
					proxy.Cut(1+rng.IntN(3), rng.IntN(2) == 0, false)
				}
			})
		})
	}
	t.Logf("%d seeds from %d in %s: %d transactions with %d restarts in each engine, %d cuts of PostgreSQL's connection",
		seeds, first, time.Since(begun).Round(time.Second), steps-restarts, restarts, cuts)
}

// play simulates a seed and keeps its journal.
func play(t *testing.T, seed uint64) *played {
	t.Helper()
	j := &journal{}
	p := &played{seed: seed}
	r := simulate(t, seed, options{calls: setting(t, "CALLS", 200), journal: j, after: func(w *world) { p.rows, p.master = w.engine.durable, w.master }})
	if len(r.broken) > 0 {
		t.Fatalf("seed %d: %s", seed, r.broken[0])
	}
	p.steps = j.steps
	return p
}

// opening opens an engine on the same place each time.
type opening func(ctx context.Context, p *played, clock func() time.Time) (store.DB, error)

// onSQLite is in memory where there is such a folder: what survives here survives a restart, not a power cut.
func onSQLite(t *testing.T) opening {
	folder := t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "keybrake-sim-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		folder = dir
	}
	return func(ctx context.Context, p *played, clock func() time.Time) (store.DB, error) {
		return sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(folder, "kb.db"), Signer: p.master, MasterCheck: p.master.CheckValue(), Clock: clock})
	}
}

func onPostgres(url string) opening {
	url += "&connect_timeout=30" // on a busy machine
	return func(ctx context.Context, p *played, clock func() time.Time) (store.DB, error) {
		return postgres.Open(ctx, postgres.Options{URL: url, Signer: p.master, MasterCheck: p.master.CheckValue(), Clock: clock, Wait: time.Minute})
	}
}

// replay asks an engine for every step and compares what it has in the end. before is called before each step.
func (p *played) replay(t *testing.T, open opening, before func()) {
	var now atomic.Int64
	clock := func() time.Time { return time.UnixMicro(now.Load()).UTC() }
	now.Store(p.steps[0].at.UnixMicro())
	db, err := open(t.Context(), p, clock)
	must(t, err)
	for i, s := range p.steps {
		now.Store(s.at.UnixMicro())
		if s.restart {
			must(t, db.Close())
			db, err = open(t.Context(), p, clock)
			must(t, err)
			continue
		}
		if before != nil {
			before()
		}
		err := s.do(t.Context(), db)
		for try := 0; before != nil && errors.Is(err, store.ErrUnavailable) && try < 3; try++ {
			err = s.do(t.Context(), db) // an operator's action that was cut off is not there: the operator tries again
		}
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	p.rows.compare(t, db)
	must(t, db.Close())
}

// compare holds an engine's books against those in memory.
func (r *rows) compare(t *testing.T, db store.DB) {
	t.Helper()
	var accounts []ledger.AccountKey
	for k := range r.accounts {
		accounts = append(accounts, k)
	}
	figures, err := db.Peek(context.Background(), accounts)
	must(t, err)
	for i, k := range accounts {
		if figures[i] != r.accounts[k] {
			t.Errorf("%+v is %+v, want %+v", k, figures[i], r.accounts[k])
		}
	}
	must(t, db.View(context.Background(), func(tx store.Tx) error {
		n := 0
		err := tx.EachRecord(1, func(e audit.Entry) error {
			if n >= len(r.entries) {
				return fmt.Errorf("record %d is one too many: %s", e.Seq, e.Bytes)
			}
			if want := r.entries[n]; e.Seq != want.Seq || e.Hash != want.Hash {
				return fmt.Errorf("record %d differs:\n%s", e.Seq, cmp.Diff(string(want.Bytes), string(e.Bytes)))
			}
			n++
			return nil
		})
		if err == nil && n != len(r.entries) {
			err = fmt.Errorf("%d records, want %d", n, len(r.entries))
		}
		return err
	}))
	must(t, db.View(context.Background(), func(tx store.Tx) error {
		for id, want := range r.reservations {
			got, err := tx.Reservation(id)
			if err != nil {
				return fmt.Errorf("reservation %d: %w", id, err)
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("reservation %d: %s", id, d)
			}
		}
		brakes, err := tx.Brakes()
		if err != nil {
			return err
		}
		if d := cmp.Diff(sorted(r.brakes, func(b store.BrakeRow) string { return b.At.Format("2006-01-02T15:04:05.000000 ") + b.Scope }), brakes, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("brakes: %s", d)
		}
		var order []policy.KeyID
		err = tx.EachKey(func(k store.KeyRow) error {
			order = append(order, k.ID)
			if d := cmp.Diff(r.keys[k.ID], k, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("key %s: %s", k.ID, d)
			}
			return nil
		})
		if !slices.Equal(order, r.order) {
			t.Errorf("keys %v, want %v", order, r.order)
		}
		return err
	}))
}
