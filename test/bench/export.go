package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// export measures creates on the large store alone and beside an export of its whole audit, in turn.
func export(ctx context.Context, o *options) error {
	dir, err := large(ctx, o)
	if err != nil {
		return err
	}
	return withRig(ctx, o, dir, func(r *rig) error {
		heading(os.Stdout, fmt.Sprintf("payment_intents.create on %d records, alone and beside an export of them", o.rows))
		var rates, cpu [2][]float64
		var sent float64
		for n := range o.rounds {
			for i, name := range []string{"alone", "beside an export"} {
				end := func() (float64, error) { return 0, nil }
				if i == 1 {
					end = r.startExport(ctx)
				}
				result, spent, err := shoot(os.Stdout, name, r.creates(o, fmt.Sprint("x", n, i), connections), r.gateway, r.sandbox)
				mbps, exportErr := end()
				if err := errors.Join(err, exportErr); err != nil {
					return err
				}
				rates[i] = append(rates[i], result.rate())
				cpu[i] = append(cpu[i], float64(spent.per(0, len(result.latencies))))
				sent = max(sent, mbps)
			}
		}
		wal, err := os.Stat(storePath(r.dir) + "-wal")
		if err != nil {
			return err
		}
		fmt.Printf("\nbeside/alone, medians of the ratios of %d rounds: creates %.2f, CPU of the gateway per create %.2f; the export wrote up to %.1f MB/s; the store's log has %s\n",
			o.rounds, ratio(rates[1], rates[0]), ratio(cpu[1], cpu[0]), sent, mb(wal.Size()))
		m, err := r.gateway.memory()
		if err != nil {
			return err
		}
		fmt.Printf("resident memory of the gateway: %s after the start, at most %s\n", mb(r.idle.now), mb(m.peak))
		begin := time.Now()
		var all counter
		if err := r.admin.ExportAudit(ctx, admin.AuditFilter{}, "jsonl", &all); err != nil {
			return err
		}
		fmt.Printf("a whole export with nothing beside it: %s in %s\n", mb(all.n.Load()), time.Since(begin).Round(time.Second))
		return nil
	})
}

// counter counts what is written to it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// startExport begins an export and returns what ends it and tells how many megabytes a second it wrote.
func (r *rig) startExport(ctx context.Context) func() (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	var out counter
	begin := time.Now()
	go func() { done <- r.admin.ExportAudit(ctx, admin.AuditFilter{}, "jsonl", &out) }()
	return func() (float64, error) {
		rate := float64(out.n.Load()) / 1e6 / time.Since(begin).Seconds()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			return rate, fmt.Errorf("the export ended early, and not because it was told to: %w", err)
		}
		return rate, nil
	}
}
