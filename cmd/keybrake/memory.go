package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// leastMemory is what the Go part of the process may always take before the collector works harder. With
	// SQLite's caches and the program itself, which are not part of it, 100,000 keys and some hundred busy
	// connections stay under 200 MB. Without a limit the collector lets the heap grow to twice what is in use.
	leastMemory = 128 << 20
	// memoryEvery is how often the limit follows what is in use.
	memoryEvery = 10 * time.Second
	// growth is how far the heap may grow between two collections, in percent of what is in use, below the limit. Most of what a
	// call needs is garbage when it is answered: with the usual 100 % a small heap is collected many times a second, for
	// a sixth of the time that a call costs.
	growth = 400
)

// softLimit is the limit for a heap of which so many bytes are in use. Half as much again is always left: a
// limit below what is in use would keep the collector running and win nothing.
func softLimit(inUse uint64) int64 {
	return max(leastMemory, int64(inUse+inUse/2))
}

// limitMemory keeps the soft memory limit until ctx ends: the one that was set, in megabytes, or 0: one that
// follows what is in use. GOMEMLIMIT and GOGC in the environment stand above it.
func limitMemory(ctx context.Context, megabytes int) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(growth)
	}
	if megabytes > 0 {
		debug.SetMemoryLimit(int64(megabytes) << 20)
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // as the last collection found it
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		metrics.Read(live)
		debug.SetMemoryLimit(softLimit(live[0].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
