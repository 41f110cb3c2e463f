package admin

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLongReadsShareOnePaceWhileCallsAddRecords counts what several exports read in a minute of a clock that
// the test owns.
func TestLongReadsShareOnePaceWhileCallsAddRecords(t *testing.T) {
	for name, readers := range map[string]int{"one export": 1, "four at once": 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var p pace
				pages := make([]int, readers)
				var wg sync.WaitGroup
				for i := range readers {
					wg.Go(func() {
						for p.turn(ctx, true, pageEvery) == nil {
							pages[i]++
						}
					})
				}
				wg.Wait()
				total := 0
				for i, n := range pages {
					total += n
					if n == 0 {
						t.Errorf("export %d got no turn", i)
					}
				}
				if records := total * exportPage; records < 295_000 || records > 305_000 {
					t.Errorf("%d records in a minute, want 5,000 a second", records)
				}
			})
		})
	}
}

func TestNothingIsWaitedForWhileNoRecordIsAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		begin := time.Now()
		for range 1000 {
			if err := p.turn(t.Context(), false, pageEvery); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("1000 pages waited %s", took)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.turn(ended, false, pageEvery); !errors.Is(err, context.Canceled) {
			t.Errorf("an export whose client is gone: %v", err)
		}
	})
}
