package gateway

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

func TestAFreeSlotGoesToTheWaitingKeyThatHasTheFewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShares(3, 4, time.Minute)
		var order []policy.KeyID
		got := make(chan policy.KeyID, 16)
		take := func(k policy.KeyID) (giveBack func()) {
			t.Helper()
			giveBack, err := s.take(t.Context(), "up", k)
			if err != nil {
				t.Fatal(err)
			}
			return giveBack
		}
		line := func(k policy.KeyID) {
			go func() {
				_ = take(k)
				got <- k
			}()
			synctest.Wait()
		}
		first := []func(){take("a"), take("a"), take("a"), take("b")}
		line("a") // has three, the most that a key may have
		line("b") // has one
		line("c") // has none
		line("d") // none either, and came later
		for _, i := range []int{0, 1, 3, 2} {
			first[i]()
			synctest.Wait()
			for len(got) > 0 {
				order = append(order, <-got)
			}
		}
		if want := []policy.KeyID{"c", "d", "b", "a"}; !slices.Equal(order, want) {
			t.Errorf("slots went to %v, want %v", order, want)
		}
	})
}

func TestWaitingForASlotEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*shares, context.CancelFunc)
		want func(error) bool
	}{
		"when it took too long": {
			func(*shares, context.CancelFunc) { time.Sleep(2 * time.Second) },
			func(err error) bool { crowded, ok := isCrowded(err); return ok && crowded != errStopping },
		},
		"when the agent leaves": {
			func(_ *shares, leave context.CancelFunc) { leave() },
			func(err error) bool { return errors.Is(err, context.Canceled) },
		},
		"when the server stops": {
			func(s *shares, _ context.CancelFunc) { s.stop() },
			func(err error) bool { return errors.Is(err, errStopping) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShares(1, 1, time.Second)
				giveBack, err := s.take(t.Context(), "up", "a")
				if err != nil {
					t.Fatal(err)
				}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				done := make(chan error, 1)
				go func() {
					_, err := s.take(ctx, "up", "b")
					done <- err
				}()
				synctest.Wait()
				c.end(s, leave)
				if err := <-done; !c.want(err) {
					t.Errorf("%v", err)
				}
				giveBack()
				if len(s.upstreams) != 0 {
					t.Errorf("an upstream that nobody uses is remembered: %+v", s.upstreams)
				}
			})
		})
	}
}

func TestPlacesCountKeysAndAll(t *testing.T) {
	p := newPlaces(3, 2)
	var back []func()
	for i, c := range []struct {
		key policy.KeyID
		ok  bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		giveBack, ok := p.take(c.key)
		if ok != c.ok {
			t.Errorf("place %d for %s: %t", i, c.key, ok)
		}
		if ok {
			back = append(back, giveBack)
		}
	}
	for _, f := range back {
		f()
	}
	if p.taken != 0 || len(p.of) != 0 {
		t.Errorf("%+v remains", p)
	}
}
