package main

import (
	"cmp"
	"context"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/observe"
)

// openMetrics begins to count. It comes before everything that is counted.
func (s *server) openMetrics() {
	v := readVersion()
	s.metrics = observe.NewMetrics(v.Version, cmp.Or(v.Revision, "unknown"))
}

// tellCalls returns what the gateway tells of each call to: the counters and, unless it is switched off, the call log,
// which ends after the gateway.
func (s *server) tellCalls() func(*gateway.Ended) {
	if !s.settings.LogCalls {
		return s.metrics.Call
	}
	log := observe.NewCallLog(s.log, s.metrics.LineDropped)
	s.closers = append(s.closers, func() error { log.Close(); return nil })
	return func(e *gateway.Ended) {
		s.metrics.Call(e)
		log.Call(e)
	}
}

// watchMetrics begins to read gauges from what is running.
func (s *server) watchMetrics() {
	s.metrics.Watch(observe.Sources{
		Ring: s.ring, Store: s.store, Figures: s.store.Figures, Ready: func(ctx context.Context) error { return s.gateway.Ready(ctx) },
	})
}
