package gateway

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// burst asks for n look-ups of a key at once, each within a time, and counts those that had their turn.
func burst(ctx context.Context, l *limiters, k policy.KeyID, n int, within time.Duration) (served func() int) {
	var mu sync.Mutex
	var had int
	for range n {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			if l.wait(ctx, k, "up") == nil {
				mu.Lock()
				had++
				mu.Unlock()
			}
		}()
	}
	synctest.Wait()
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return had
	}
}

func TestBurstsOfSomeKeysMakeAnotherWaitForOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiters(defaultLookupsPerKey, defaultLookupsPerUpstream)
		var bursts []func() int
		for i := range 8 {
			bursts = append(bursts, burst(t.Context(), l, policy.KeyID(fmt.Sprint("runaway-", i)), lookupBurst, time.Minute))
		}
		for range 3 { // a turn is everybody's
			start := time.Now()
			if err := l.wait(t.Context(), "quiet", "up"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 10*time.Second/defaultLookupsPerUpstream {
				t.Errorf("it waited %v", took)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		least, most := lookupBurst, 0
		for _, served := range bursts[1:] { // the first had the upstream's own burst
			least, most = min(least, served()), max(most, served())
		}
		if least == 0 || most-least > 1 {
			t.Errorf("equal bursts had from %d to %d look-ups", least, most)
		}
		time.Sleep(time.Minute)
	})
}

func TestAnUpstreamIsAskedNoMoreThanItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiters(1e6, 10)
		var all []func() int
		for i := range 4 {
			all = append(all, burst(t.Context(), l, policy.KeyID(fmt.Sprint(i)), 100, 5*time.Second))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		had := 0
		for _, served := range all {
			had += served()
		}
		if want := lookupBurst + 5*10; had < want-1 || had > want {
			t.Errorf("%d look-ups in five seconds, want the burst and ten a second: %d", had, want)
		}
		if up := l.upstreams["up"]; len(up.waiting) > 0 || up.coming {
			t.Errorf("left behind is %+v", up)
		}
		if err := l.wait(t.Context(), "0", "up"); err != nil || len(l.upstreams["up"].served) != 0 {
			t.Errorf("afterwards: %v, %v", err, l.upstreams["up"].served)
		}
	})
}

func TestWhoGivesUpTakesNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiters(1e6, 1)
		first := burst(t.Context(), l, "a", lookupBurst, time.Minute)
		late := burst(t.Context(), l, "a", 1, 100*time.Millisecond)
		next := burst(t.Context(), l, "b", 1, time.Minute)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if first() != lookupBurst || late() != 0 || next() != 1 {
			t.Errorf("%d, %d and %d had their turn", first(), late(), next())
		}
	})
}
