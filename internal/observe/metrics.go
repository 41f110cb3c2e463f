package observe

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// Limits, each with its reason.
const (
	// maxOperations, maxCodes and maxRules are far above what catalogs and error tables have: they only keep a mistake from growing
	// without end.
	maxOperations = 2000
	maxCodes      = 200
	maxRules      = 1000
	// maxUpstreams bounds series by upstream: a histogram each.
	maxUpstreams = 50
	// other stands for what is beyond a bound, none for what is not there.
	other, none = "other", "none"
	// scrapes at once: more than the one Prometheus and somebody who looks by hand are a mistake.
	scrapes = 2
	// scrapeTimeout ends a scrape while the store hangs; Prometheus itself gives up after ten seconds.
	scrapeTimeout = 8 * time.Second
)

// Buckets in seconds: short is for our own work and the disk's, long for what waits for an upstream.
var (
	short   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	long    = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 70}
	callers = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

// Sources are what gauges are read from when somebody asks. Each may be asked at any time, by several at once.
type Sources struct {
	Ring  *vault.Ring
	Store store.DB
	// Figures tells how the store stands without waiting for it.
	Figures func() store.Figures
	// Ready says what stands against taking money calls; nil = ready.
	Ready func(context.Context) error
	// Alerts counts the alerts that are not delivered yet; nil: there are no alerts, and no metric of them.
	Alerts func() int64
}

// Metrics counts. It has a registry of its own, so that nothing else in the process can add to it. All methods are safe
// for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	calls, denials, byRule, outcomes, moved, lookups *prometheus.CounterVec
	storeFails, linesDropped                         prometheus.Counter
	callTime, ourTime, upstreamTime                  *prometheus.HistogramVec
	waitTime, admitTime                              prometheus.Observer
	commitTime, batchSize                            prometheus.Observer

	answered                            atomic.Int64 // calls
	operations, codes, rules, upstreams *closed
	state                               *state
}

// NewMetrics makes a registry with everything at zero. version and revision name the build.
func NewMetrics(version, revision string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), operations: newClosed(maxOperations), codes: newClosed(maxCodes), rules: newClosed(maxRules),
		upstreams: newClosed(maxUpstreams),
	}
	m.calls, m.denials, m.byRule, m.outcomes = m.counters(calls), m.counters(denials), m.counters(byRule), m.counters(outcomes)
	m.moved, m.lookups = m.counters(moved), m.counters(lookups)
	m.storeFails, m.linesDropped = m.counters(storeFails).WithLabelValues(), m.counters(linesDropped).WithLabelValues()
	m.callTime, m.ourTime, m.upstreamTime = m.histograms(callTime, long), m.histograms(ourTime, short), m.histograms(upstreamTime, long)
	m.waitTime, m.admitTime = m.histograms(waitTime, short).WithLabelValues(), m.histograms(admitTime, short).WithLabelValues()
	m.commitTime, m.batchSize = m.histograms(commitTime, short).WithLabelValues(), m.histograms(batchSize, callers).WithLabelValues()
	m.state = newState(m, version, revision)
	// What alert rules wait for stands at zero from the start: the first step of a series that was not there is no increase.
	for _, fate := range [...]string{"moved", "refused", "unknown"} {
		m.outcomes.WithLabelValues(fate)
	}
	for _, code := range [...]policy.Code{upstream.CodeCredential, upstream.CodeUnreachable, upstream.CodeOutcomeUnknown, upstream.CodeUnavailable} {
		m.denials.WithLabelValues(m.codes.value(string(code)))
	}
	m.registry.MustRegister(m.state, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) counters(name string) *prometheus.CounterVec {
	d := define(name)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histograms(name string, buckets []float64) *prometheus.HistogramVec {
	d := define(name)
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: buckets}, d.Labels)
	m.registry.MustRegister(v)
	return v
}

// Watch begins to read gauges from what is running. Before it there are counters only.
func (m *Metrics) Watch(s Sources) { m.state.sources.Store(&s) }

// Handler answers scrapes. Who may ask is for whoever puts it on a listener.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapes, Timeout: scrapeTimeout, ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	})
}

// Call counts one call. It is a gateway.Config's Ended.
func (m *Metrics) Call(e *gateway.Ended) {
	if e.Count > 0 {
		return // each of them was counted
	}
	m.answered.Add(1)
	operation := m.operations.value(string(e.Operation))
	m.calls.WithLabelValues(operation, e.Verdict.String()).Inc()
	if e.Code != "" {
		m.denials.WithLabelValues(m.codes.value(string(e.Code))).Inc()
		m.byRule.WithLabelValues(m.rules.value(ruleOf(e.Rule))).Inc()
	}
	access := "read"
	if e.Writes {
		access = "write"
	}
	if e.Fate != "" {
		m.outcomes.WithLabelValues(e.Fate).Inc()
		if e.Fate == "moved" && e.Repeat != "attached" && e.USD > 0 {
			m.moved.WithLabelValues(operation).Add(dollars(int64(e.USD)))
		}
	}
	m.callTime.WithLabelValues(access).Observe(e.Took.Total.Seconds())
	m.ourTime.WithLabelValues(access).Observe(e.Took.Ours().Seconds())
	if e.Took.Admit > 0 {
		m.admitTime.Observe(e.Took.Admit.Seconds())
	}
	if e.Upstream != "" && (e.Took.Wait > 0 || e.Took.Upstream > 0) {
		name := m.upstreams.value(e.Upstream)
		m.waitTime.Observe(e.Took.Wait.Seconds())
		if e.Took.Upstream > 0 {
			m.upstreamTime.WithLabelValues(name).Observe(e.Took.Upstream.Seconds())
		}
		if e.Lookups > 0 {
			m.lookups.WithLabelValues(name).Add(float64(e.Lookups))
		}
	}
	if e.Key != "" && (len(e.Caps) > 0 || e.Code == policy.CodeCapExceeded) {
		m.state.caps.touch(e.Key)
	}
}

// ruleOf is a rule as its label has it. Rules of parameters are as many as policies have parameters, so they are one.
func ruleOf(rule string) string {
	if strings.HasPrefix(rule, "params.") {
		return "params"
	}
	return rule
}

// Store returns what the store has to be told, so that its transactions are counted.
func (m *Metrics) Store() store.Observer {
	return store.Observer{Batch: func(n int, _, commit time.Duration, err error) {
		if err != nil {
			m.storeFails.Inc()
			return
		}
		m.batchSize.Observe(float64(n))
		m.commitTime.Observe(commit.Seconds())
	}}
}

// Answered is how many calls were answered since the start.
func (m *Metrics) Answered() int64 { return m.answered.Load() }

// LineDropped counts a line of the call log that was dropped.
func (m *Metrics) LineDropped() { m.linesDropped.Inc() }

// closed bounds the values of a label: the first so many are taken, what comes later is other.
type closed struct {
	max  int64
	n    atomic.Int64
	seen sync.Map
}

func newClosed(n int64) *closed { return &closed{max: n} }

func (c *closed) value(s string) string {
	if s == "" {
		return none
	}
	if _, ok := c.seen.Load(s); ok {
		return s
	}
	if c.n.Load() >= c.max {
		return other
	}
	if _, had := c.seen.LoadOrStore(s, struct{}{}); !had && c.n.Add(1) > c.max {
		c.seen.Delete(s) // two came at once for the last place
		return other
	}
	return s
}
