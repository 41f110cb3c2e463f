package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// side is one of two things that are measured in turn, so that what else the machine does falls on both.
type side struct {
	name    string
	dir     string // of the store; empty: a new one each time
	options options
	// One value for each round.
	creates, settled []float64     // per second
	cpu              []float64     // of the gateway per create, in microseconds
	up               time.Duration // from start to ready, last round
	idle, loaded     []memory      // after the start, and after the creates
}

// round measures creates on a rig of the side's own.
func (s *side) round(ctx context.Context, n int) error {
	return withRig(ctx, &s.options, s.dir, func(r *rig) error {
		name := fmt.Sprintf("%s, round %d", s.name, n+1)
		result, spent, err := shoot(os.Stdout, name, r.creates(&s.options, fmt.Sprint("b", n, len(s.name)), connections), r.gateway, r.sandbox)
		if err != nil {
			return err
		}
		s.creates = append(s.creates, result.rate())
		s.cpu = append(s.cpu, float64(spent.per(0, len(result.latencies)).Microseconds()))
		m, err := r.gateway.memory()
		s.up, s.idle, s.loaded = r.up, append(s.idle, r.idle), append(s.loaded, m)
		return err
	})
}

// pairs measures the store alone, without a gateway.
func (s *side) pairs(ctx context.Context) error {
	result, err := pairs(ctx, &s.options, s.dir, connections)
	if err != nil {
		return err
	}
	s.settled = append(s.settled, result.rate())
	fmt.Printf("| %s: pairs in the store alone | %d | %.0f | %s | %s | %s | |\n", s.name, connections, result.rate(),
		ms(result.at(0.5)), ms(result.at(0.99)), ms(result.at(0.999)))
	return nil
}

// tellMemory prints what the side's gateways had resident.
func (s *side) tellMemory() {
	for n := range s.idle {
		fmt.Printf("| %s, round %d | %s | %s | %s | %s | %s |\n", s.name, n+1,
			mb(s.idle[n].now), mb(s.loaded[n].now), mb(s.loaded[n].anon), mb(s.loaded[n].file), mb(s.loaded[n].peak))
	}
}

func tellMemories(sides ...*side) {
	fmt.Print("\nresident memory of the gateway: after the start; after the load, of which its own and of files; at most during the load\n\n| what | start | load | own | files | at most |\n|---|---|---|---|---|---|\n")
	for _, s := range sides {
		s.tellMemory()
	}
}

// ratio is the median of what two sides came to, round by round.
func ratio(over, under []float64) float64 {
	each := make([]float64, len(over))
	for i := range over {
		each[i] = over[i] / under[i]
	}
	return median(each)
}

// large fills the large store, if that has not been done, and returns its folder.
func large(ctx context.Context, o *options) (string, error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("store-%d-%d", o.keys, o.rows))
	begin := time.Now()
	if err := fillStore(ctx, dir, o.keys, o.rows); err != nil {
		return "", err
	}
	fmt.Printf("\nlarge store ready after %s\n", time.Since(begin).Round(time.Second))
	return dir, nil
}

// big measures the create again on an empty store and on a large one, in turn, and what the large one
// costs at start and in memory.
func big(ctx context.Context, o *options) error {
	dir, err := large(ctx, o)
	if err != nil {
		return err
	}
	heading(os.Stdout, fmt.Sprintf("payment_intents.create on an empty store and on one with %d keys and %d records", o.keys, o.rows))
	empty, full := &side{name: "empty store", options: *o}, &side{name: "large store", dir: dir, options: *o}
	for n := range o.rounds {
		for _, s := range []*side{empty, full} {
			if err := s.round(ctx, n); err != nil {
				return err
			}
		}
		for _, s := range []*side{empty, full} {
			if err := s.pairs(ctx); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\nlarge/empty, medians of %d rounds: creates %.2f, pairs %.2f (round by round %.2f and %.2f); start-up with the large store %s\n",
		o.rounds, median(full.creates)/median(empty.creates), median(full.settled)/median(empty.settled),
		ratio(full.creates, empty.creates), ratio(full.settled, empty.settled), full.up.Round(time.Millisecond))
	tellMemories(empty, full)
	return nil
}

// compare measures creates on the large store with two binaries, or with one and a setting, in turn.
func compare(ctx context.Context, o *options) error {
	dir, err := large(ctx, o)
	if err != nil {
		return err
	}
	other := *o
	if o.against != "" {
		other.keybrake = o.against
	}
	if o.with != "" {
		other.environment = []string{o.with}
	}
	heading(os.Stdout, fmt.Sprintf("payment_intents.create on %d keys and %d records, as it is and %s %s", o.keys, o.rows, o.against, o.with))
	a, b := &side{name: "as it is", dir: dir, options: *o}, &side{name: "other", dir: dir, options: other}
	for n := range o.rounds {
		for _, s := range []*side{a, b} {
			if err := s.round(ctx, n); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\nother/as it is, medians of the ratios of %d rounds: creates %.2f, CPU per create %.2f\n",
		o.rounds, ratio(b.creates, a.creates), ratio(b.cpu, a.cpu))
	tellMemories(a, b)
	return nil
}

// median leaves v as it is.
func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func mb(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
