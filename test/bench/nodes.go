package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// nodeCount is how many nodes share a PostgreSQL in what is measured here.
const nodeCount = 2

// hotKey is the one vault key that everybody uses.
const hotKey policy.KeyID = "key_hot"

var hotCap = []policy.Cap{storetest.DayCap("payment_intents", 1<<40)}

// database starts a PostgreSQL whose data lies on the disk that o.dir is on, and flushes.
func database(o *options) (*postgrestest.Server, error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	return postgrestest.New(o.dir, "shared_buffers=256MB", "max_wal_size=4GB", "max_connections=300")
}

// nodes measures the store of several machines: two nodes on one PostgreSQL with 64 callers each, all on one hot cap, and
// beside them what they replace, in turn on the same server.
func nodes(ctx context.Context, o *options) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as the gateway does, of which the two engines are the larger part
	}
	server, err := database(o)
	if err != nil {
		return err
	}
	defer server.End()
	fmt.Printf("\ntwo nodes on one PostgreSQL, %d callers each, one hot cap (load average before: %s)\n\n", connections, load())
	fmt.Print("| what | round | per second | p50 | p99 | p99.9 | load |\n|---|---|---|---|---|---|---|\n")
	nodes := func(batch int, do work) func(context.Context, *options, string) (*result, error) {
		return func(ctx context.Context, o *options, url string) (*result, error) {
			return onNodes(ctx, o, url, batch, do)
		}
	}
	ways := []struct {
		name string
		run  func(ctx context.Context, o *options, url string) (*result, error)
	}{
		{"admissions, batched", nodes(0, admitHot)},
		{"admissions, one transaction each", nodes(1, admitHot)},
		{"the bare design: a transaction and a connection each", bare},
		{"admissions, batched, each settled before the next", nodes(0, settleHot)},
	}
	rates := make([][]float64, len(ways))
	for round := range o.rounds {
		for i, way := range ways {
			name := fmt.Sprintf("bench_%d_%d", i, round)
			if err := statement(ctx, server.URL("postgres"), "CREATE DATABASE "+name); err != nil {
				return err
			}
			r, err := way.run(ctx, o, server.URL(name))
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			rates[i] = append(rates[i], r.rate())
			fmt.Printf("| %s | %d | %.0f | %s | %s | %s | %s |\n", way.name, round+1, r.rate(), ms(r.at(0.5)), ms(r.at(0.99)), ms(r.at(0.999)), load())
			if err := statement(ctx, server.URL("postgres"), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				return err
			}
		}
	}
	for _, r := range rates {
		slices.Sort(r)
	}
	median := func(i int) float64 { return rates[i][len(rates[i])/2] }
	fmt.Printf("\nmedians: batched %.1f x one transaction each, %.1f x the bare design\n", median(0)/median(1), median(0)/median(2))
	return nil
}

func statement(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement was answered
	_, err = conn.Exec(ctx, sql)
	return err
}

// load is the load average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// work is what one caller does over and over; the time that counts is the first thing it returns.
type work func(ctx context.Context, db store.DB, version int64) (time.Duration, error)

func admitHot(ctx context.Context, db store.DB, version int64) (time.Duration, error) {
	begin := time.Now()
	_, err := admitOne(ctx, db, version)
	return time.Since(begin), err
}

func settleHot(ctx context.Context, db store.DB, version int64) (time.Duration, error) {
	begin := time.Now()
	a, err := admitOne(ctx, db, version)
	took := time.Since(begin)
	if err == nil {
		_, err = db.Resolve(ctx, storetest.Settle(a.Reservation))
	}
	return took, err
}

func admitOne(ctx context.Context, db store.DB, version int64) (store.Admitted, error) {
	a, err := db.Admit(ctx, storetest.Admission(hotKey, version, hotCap, storetest.USD("payment_intents", 100)))
	if err == nil && a.Reservation == nil {
		err = fmt.Errorf("not admitted: %v", a.Verdict)
	}
	return a, err
}

// onNodes opens the nodes on a new database and lets their callers work. batch is the most callers in one transaction.
func onNodes(ctx context.Context, o *options, url string, batch int, do work) (_ *result, err error) {
	var all []*postgres.DB
	defer func() {
		for _, db := range all {
			err = errors.Join(err, db.Close())
		}
	}()
	for i := range nodeCount {
		db, err := postgres.Open(ctx, postgres.Options{
			URL: url, Signer: storetest.NewSigner("bench"), MaxBatch: batch, Archives: filepath.Join(o.dir, "none"), Node: fmt.Sprint(i),
		})
		if err != nil {
			return nil, err
		}
		all = append(all, db)
	}
	var version int64
	err = all[0].Update(ctx, store.LaneControl, func(tx store.Tx) (err error) {
		version, err = tx.PutKey(store.KeyRow{ID: hotKey, Name: "hot", Upstream: "up_1", Live: true, Digest: "d1", Policy: []byte("p"), Doc: []byte("{}")})
		return err
	})
	if err != nil {
		return nil, err
	}
	return crowd(ctx, o, func(c int) func() (time.Duration, error) {
		db := all[c%nodeCount]
		return func() (time.Duration, error) { return do(ctx, db, version) }
	})
}

// crowd lets callers work side by side, each one thing after the other, and keeps what came after the warm-up.
func crowd(ctx context.Context, o *options, caller func(c int) func() (time.Duration, error)) (*result, error) {
	const callers = nodeCount * connections
	each, failed := make([][]time.Duration, callers), make([]error, callers)
	begin := time.Now().Add(o.warm)
	end := begin.Add(o.last)
	var wg sync.WaitGroup
	for c := range callers {
		act := caller(c)
		wg.Go(func() {
			for failed[c] == nil && ctx.Err() == nil && time.Now().Before(end) {
				var took time.Duration
				if took, failed[c] = act(); time.Now().After(begin) {
					each[c] = append(each[c], took)
				}
			}
		})
	}
	wg.Wait()
	r := &result{took: o.last, latencies: slices.Concat(each...)}
	slices.Sort(r.latencies)
	return r, errors.Join(failed...)
}

// bareTables are what the bare design needs at the least: a running total, holds, a record without a chain.
const bareTables = `
	CREATE TABLE accounts (key text PRIMARY KEY, held bigint NOT NULL, most bigint NOT NULL);
	CREATE TABLE reservations (id bigserial PRIMARY KEY, key text NOT NULL, amount bigint NOT NULL, doc bytea NOT NULL);
	CREATE TABLE audit (seq bigserial PRIMARY KEY, bytes bytea NOT NULL);
	INSERT INTO accounts VALUES ('hot', 0, 1::bigint << 60)`

// bare is what batching is held against: each caller has a connection, and makes a transaction for each call that moves the
// running total under its cap, writes the hold and a record. It does less than the store does: no brake, no chain, no lists.
func bare(ctx context.Context, o *options, url string) (_ *result, err error) {
	if err := statement(ctx, url, bareTables); err != nil {
		return nil, err
	}
	var conns []*pgx.Conn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close(ctx))
		}
	}()
	for range nodeCount * connections {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	hold, record := make([]byte, 300), make([]byte, 900) // about what ours have
	return crowd(ctx, o, func(c int) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			begin := time.Now()
			b := &pgx.Batch{}
			b.Queue("BEGIN")
			b.Queue("UPDATE accounts SET held = held + $1 WHERE key = 'hot' AND held + $1 <= most", 1_000_000)
			b.Queue("INSERT INTO reservations (key, amount, doc) VALUES ('hot', $1, $2)", 1_000_000, hold)
			b.Queue("INSERT INTO audit (bytes) VALUES ($1)", record)
			b.Queue("COMMIT")
			err := conns[c].SendBatch(ctx, b).Close()
			return time.Since(begin), err
		}
	})
}
