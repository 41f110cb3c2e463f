package observe

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// readWithin bounds what a scrape waits for the store: it must tell what is known even while the store hangs.
const readWithin = 2 * time.Second

// state tells how things stand at the moment of a scrape. It implements prometheus.Collector.
type state struct {
	descs   map[string]*prometheus.Desc
	sources atomic.Pointer[Sources]
	caps    headroom

	version, revision string
	upstreams         *closed
}

func newState(m *Metrics, version, revision string) *state {
	s := &state{descs: map[string]*prometheus.Desc{}, version: version, revision: revision, upstreams: m.upstreams}
	for _, d := range definitions {
		if d.Kind == Gauge {
			s.descs[d.Name] = prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
		}
	}
	return s
}

// Describe implements prometheus.Collector.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(to chan<- prometheus.Metric) {
	tell := func(name string, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, value, labels...)
	}
	tell(build, 1, s.version, s.revision)
	from := s.sources.Load()
	if from == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	from.tellStore(tell)
	from.tellBrakes(tell, s.upstreams)
	is := 1.0
	if from.Ready(ctx) != nil {
		is = 0
	}
	tell(ready, is)
	if from.Alerts != nil {
		tell(alerts, float64(from.Alerts()))
	}
	for _, c := range s.caps.tightest(ctx, from) {
		name := string(c.state.Cap.Resource) + "/" + c.state.Cap.Per.String()
		left, unit := float64(c.state.Left), "calls"
		if c.state.Cap.Unit == policy.UnitUSD {
			left, unit = dollars(c.state.Left), "usd"
		}
		tell(capUsed, c.used, c.key, name+" "+unit)
		tell(capLeft, left, c.key, name+" "+unit, unit)
	}
}

func (from *Sources) tellStore(tell func(string, float64, ...string)) {
	f := from.Figures()
	tell(queued, float64(f.Queued), "calls")
	tell(queued, float64(f.Actions), "operators")
	tell(open, float64(f.Open))
	tell(unresolved, float64(f.Unresolved))
	age := 0.0
	if !f.Oldest.IsZero() {
		age = max(0, from.Store.Now().Sub(f.Oldest).Seconds())
	}
	tell(oldest, age)
	tell(height, float64(f.Height))
	tell(signedHeight, float64(f.Signed))
	at := 0.0
	if !f.SignedAt.IsZero() {
		at = float64(f.SignedAt.UnixMicro()) / 1e6
	}
	tell(signedAt, at)
}

func (from *Sources) tellBrakes(tell func(string, float64, ...string), names *closed) {
	tell(inFlight, float64(from.Ring.InFlight(vault.All)))
	tell(brake, braking(from.Ring.BrakeOf(vault.All)), "all")
	told := map[string]bool{}
	for _, u := range from.Ring.Upstreams() {
		if name := names.value(u.Name); !told[name] { // of those beyond the bound the first stands for all
			told[name] = true
			tell(brake, braking(u.Brake), "upstream:"+name)
		}
	}
	count := map[string]float64{"active": 0, "read-only": 0, "stopped": 0, "frozen": 0}
	now := from.Store.Now()
	from.Ring.Each(func(k *vault.Key) bool {
		switch {
		case !k.Live(now) || k.Probe:
		case k.Brake == vault.Stopped:
			count["stopped"]++
		case k.Brake == vault.ReadOnly:
			count["read-only"]++
		case len(k.Frozen) > 0:
			count["frozen"]++
		default:
			count["active"]++
		}
		return true
	})
	for state, n := range count {
		tell(keys, n, state)
	}
}

// braking is a brake as a figure that grows with what it stops.
func braking(b vault.Brake) float64 {
	switch b {
	case vault.Normal:
		return 0
	case vault.ReadOnly:
		return 1
	default:
		return 2
	}
}

func dollars(micros int64) float64 { return float64(micros) / float64(money.Dollar) }
