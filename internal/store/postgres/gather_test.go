package postgres

import (
	"errors"
	"sync"
	"testing"
)

// TestWhatIsAskedForWhileAQueryRunsIsInTheNextOne holds a query up while others ask: they share one, and each gets what was
// there after it had asked.
func TestWhatIsAskedForWhileAQueryRunsIsInTheNextOne(t *testing.T) {
	queries := make(chan []int)
	answer := make(chan error)
	g := gather[int, int]{read: func(keys []int) (map[int]int, error) {
		queries <- keys
		found := make(map[int]int)
		for _, k := range keys {
			if k%2 == 0 {
				found[k] = k * k
			}
		}
		return found, <-answer
	}}
	broken := errors.New("broken")
	check := func(r *round[int, int], k int, err error) {
		t.Helper()
		<-r.done
		v, there := r.found[k]
		if !errors.Is(r.err, err) || there != (k%2 == 0) || there && v != k*k {
			t.Errorf("%d: %d, %v, %v", k, v, there, r.err)
		}
	}
	first := g.get(2)
	if keys := <-queries; len(keys) != 1 {
		t.Fatalf("the first query is for %v", keys)
	}
	rounds := make([]*round[int, int], 64)
	var asking sync.WaitGroup
	for i := range rounds {
		asking.Go(func() { rounds[i] = g.get(i) })
	}
	asking.Wait()
	answer <- nil
	check(first, 2, nil)
	if keys := <-queries; len(keys) != len(rounds) {
		t.Errorf("%d of %d share the next query", len(keys), len(rounds))
	}
	answer <- broken
	for i, r := range rounds {
		check(r, i, broken)
	}
	last := g.get(3) // and it goes on
	<-queries
	answer <- nil
	check(last, 3, nil)
}
