package sdk

import (
	"testing"
	"time"
)

// TestSDKsThatMayTryAgainLearnWhatBecameOfACall: where a second attempt makes sense, stripe-node and stripe-python
// make it, and their agents see nothing but the answer. stripe-go leaves it to the agent (docs/api.md).
func TestSDKsThatMayTryAgainLearnWhatBecameOfACall(t *testing.T) {
	promised := readPromises(t)
	for _, s := range sdks {
		if promised.calls[s.name]["true"] == 1 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			need(t, s.what, s.has())
			st := newStage(t, s, promised)
			for _, c := range []struct {
				name   string
				before func(*scene)
			}{
				{"the answer was lost", func(s *scene) { s.fault(cutRefunds) }},
				{"the first attempt was still on its way", func(s *scene) {
					s.fault(`{"kind":"hang","method":"POST","path":"/v1/refunds"}`)
					s.alongside("/v1/refunds", "order-1", refundOwn.Params)
					s.hanging()
					gateway, _ := s.counts()
					s.going.Go(func() { // once the SDK has been told to wait
						for len(s.since(gateway)) == 0 {
							time.Sleep(time.Millisecond)
						}
						s.mend()
					})
				}},
			} {
				t.Run(c.name, func(t *testing.T) {
					st.dev.t = t
					s := &scene{stage: st, key: st.newKey("", "")}
					c.before(s)
					gateway, _ := s.counts()
					refunds, _ := s.refunds()
					call := s.filledIn(keyed(refundOwn, "order-1"))
					if got := st.call(call); got != nil {
						t.Fatalf("raised %+v", got)
					}
					s.going.Wait()
					if n := len(s.since(gateway)); n < 2 {
						t.Errorf("%d call reached the gateway: the case shows nothing", n)
					}
					if after, _ := s.refunds(); after-refunds != 1 {
						t.Errorf("%d refunds happened", after-refunds)
					}
				})
			}
		})
	}
}
