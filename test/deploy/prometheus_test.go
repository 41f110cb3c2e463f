// Package deploy holds what is in deploy/ against the program and against the tools that will read it.
package deploy

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/keybrake/keybrake/internal/observe"
)

func file(t *testing.T, name ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.Parse(file(t, "prometheus", "keybrake.rules.yml"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() || len(groups.Groups) != 1 {
		t.Fatalf("%d groups", len(groups.Groups))
	}
	return groups.Groups[0].Rules
}

// series are the metrics that a scrape may show, with their labels; those of the process and of the scrape itself included.
func series() map[string][]string {
	out := map[string][]string{"up": nil, "process_cpu_seconds_total": nil, "process_resident_memory_bytes": nil}
	for _, m := range observe.Definitions() {
		if m.Kind != observe.Histogram {
			out[m.Name] = m.Labels
			continue
		}
		out[m.Name+"_sum"], out[m.Name+"_count"], out[m.Name+"_bucket"] = m.Labels, m.Labels, append([]string{"le"}, m.Labels...)
	}
	return out
}

// check parses an expression and holds every metric and label in it against what there is.
func check(t *testing.T, where, expr string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	known := series()
	var named []string // labels of all its metrics
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		own, exists := known[v.Name]
		if !exists {
			t.Errorf("%s: there is no metric %s", where, v.Name)
		}
		named = append(named, own...)
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel && m.Name != "job" && m.Name != "instance" && !slices.Contains(own, m.Name) {
				t.Errorf("%s: %s has no label %s", where, v.Name, m.Name)
			}
		}
		return nil
	})
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, l := range a.Grouping {
				if l != "job" && l != "instance" && !slices.Contains(named, l) {
					t.Errorf("%s: none of its metrics has the label %s", where, l)
				}
			}
		}
		return nil
	})
}

func TestRulesReadWhatThereIs(t *testing.T) {
	for _, r := range rules(t) {
		check(t, r.Alert, r.Expr)
		for _, a := range []string{"summary", "description"} {
			if r.Annotations[a] == "" {
				t.Errorf("%s has no %s", r.Alert, a)
			}
		}
		if s := r.Labels["severity"]; s != "page" && s != "warn" && s != "info" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
	}
}

// TestRulesFireWhenTheyShould evaluates each rule over made-up series in which it must fire, and in which it must not.
func TestRulesFireWhenTheyShould(t *testing.T) {
	cases := map[string]struct{ fires, quiet string }{
		"KeybrakeDown":                      {`up{job="keybrake"} 0x60`, `up{job="keybrake"} 1x60`},
		"KeybrakeTakesNoMoneyCalls":         {`keybrake_ready 0x60`, `keybrake_ready 1x60`},
		"KeybrakeStopped":                   {`keybrake_brake{scope="all"} 2x60`, `keybrake_brake{scope="all"} 0x60`},
		"KeybrakeKeysFrozen":                {`keybrake_keys{state="frozen"} 1x60`, `keybrake_keys{state="stopped"} 1x60`},
		"KeybrakeCapNearlyFull":             {`keybrake_cap_used_ratio{key="a",cap="c"} 0.85x60`, `keybrake_cap_used_ratio{key="a",cap="c"} 1x60`},
		"KeybrakeCapFull":                   {`keybrake_cap_used_ratio{key="a",cap="c"} 1x60`, `keybrake_cap_used_ratio{key="a",cap="c"} 0.99x60`},
		"KeybrakeDenialBurst":               {"keybrake_denials_total{code=\"a\"} 0+300x60\n keybrake_calls_total{operation=\"o\",verdict=\"deny\"} 0+300x60", "keybrake_denials_total{code=\"a\"} 0+300x60\n keybrake_calls_total{operation=\"o\",verdict=\"allow\"} 0+3000x60"},
		"KeybrakeUnknownOutcomes":           {"keybrake_outcomes_total{fate=\"unknown\"} 0+1x60\n keybrake_reservations_unresolved 1x60", "keybrake_outcomes_total{fate=\"unknown\"} 5x60\n keybrake_reservations_unresolved 1x60"},
		"KeybrakeUnresolvedForTooLong":      {`keybrake_reservations_unresolved_oldest_seconds 3601x60`, `keybrake_reservations_unresolved_oldest_seconds 300x60`},
		"KeybrakeUpstreamRefusesCredential": {`keybrake_denials_total{code="keybrake_upstream_credential"} 0+1x60`, `keybrake_denials_total{code="keybrake_scope_denied"} 0+1x60`},
		"KeybrakeUpstreamFailing":           {`keybrake_denials_total{code="keybrake_upstream_unknown"} 0+60x60`, `keybrake_denials_total{code="keybrake_upstream_unknown"} 0+1x60`},
		"KeybrakeUpstreamSlow":              {buckets("keybrake_upstream_seconds_bucket", `upstream="u",`, "10"), buckets("keybrake_upstream_seconds_bucket", `upstream="u",`, "0.5")},
		"KeybrakeAuditNotSigned":            {"keybrake_audit_height 100+10x60\n keybrake_audit_signed_height 100x60\n keybrake_audit_signed_timestamp_seconds 0x60", "keybrake_audit_height 100x60\n keybrake_audit_signed_height 100x60\n keybrake_audit_signed_timestamp_seconds 0x60"},
		"KeybrakeStoreFailing":              {`keybrake_store_failures_total 0+1x60`, `keybrake_store_failures_total 7x60`},
		"KeybrakeStoreSlow":                 {buckets("keybrake_store_commit_seconds_bucket", "", "2.5"), buckets("keybrake_store_commit_seconds_bucket", "", "0.01")},
		"KeybrakeQueueLong":                 {`keybrake_store_queue{lane="calls"} 1001x60`, `keybrake_store_queue{lane="operators"} 1001x60`},
		"KeybrakeLogLinesDropped":           {`keybrake_log_lines_dropped_total 0+1x60`, `keybrake_log_lines_dropped_total 9x60`},
		"KeybrakeAlertsNotDelivered":        {`keybrake_alerts_outstanding 1x60`, `keybrake_alerts_outstanding 0x60`},
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 100_000, Timeout: time.Minute, LookbackDelta: time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	t.Cleanup(func() { _ = engine.Close() })
	at := time.Unix(0, 0).Add(30 * time.Minute)
	fires := func(expr, load string) bool {
		t.Helper()
		q, err := engine.NewInstantQuery(context.Background(), memoryOf(t, load), nil, expr, at)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		result := q.Exec(context.Background())
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		return len(result.Value.(promql.Vector)) > 0
	}
	for _, r := range rules(t) {
		c, ok := cases[r.Alert]
		if !ok {
			t.Errorf("%s is not tried here", r.Alert)
			continue
		}
		if !fires(r.Expr, c.fires) {
			t.Errorf("%s does not fire over %s", r.Alert, c.fires)
		}
		if fires(r.Expr, c.quiet) {
			t.Errorf("%s fires over %s", r.Alert, c.quiet)
		}
		delete(cases, r.Alert)
	}
	for name := range cases {
		t.Errorf("there is no rule %s any more", name)
	}
}

// memory is a store of series for the engine: reading alone, and all of it. Prometheus' own test store brings its database and
// five hundred packages more, which take minutes to build.
type memory []entry

type entry struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// memoryOf makes one of lines in the notation of Prometheus' tests, with a sample each minute.
func memoryOf(t *testing.T, load string) memory {
	t.Helper()
	var m memory
	for line := range strings.Lines(load) {
		lset, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		e := entry{labels: lset}
		for i, v := range values {
			e.samples = append(e.samples, sample{(time.Duration(i) * time.Minute).Milliseconds(), v.Value})
		}
		m = append(m, e)
	}
	slices.SortFunc(m, func(a, b entry) int { return labels.Compare(a.labels, b.labels) })
	return m
}

func (m memory) Querier(int64, int64) (storage.Querier, error) { return m, nil }

func (m memory) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &seriesSet{at: -1}
	for _, e := range m {
		if !slices.ContainsFunc(matchers, func(l *labels.Matcher) bool { return !l.Matches(e.labels.Get(l.Name)) }) {
			found.series = append(found.series, storage.NewListSeries(e.labels, e.samples))
		}
	}
	return found
}

func (memory) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (memory) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (memory) Close() error { return nil }

type seriesSet struct {
	series []storage.Series
	at     int
}

func (s *seriesSet) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series              { return s.series[s.at] }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// sample is a number at a time.
type sample struct {
	t int64 // in milliseconds
	f float64
}

func (s sample) T() int64                    { return s.t }
func (sample) ST() int64                     { return 0 }
func (s sample) F() float64                  { return s.f }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }

// buckets is a histogram whose observations all fall into one bucket.
func buckets(name, more, le string) string {
	var out []string
	counts := "0"
	for _, bound := range []string{"0.001", "0.01", "0.5", "2.5", "10", "70", "+Inf"} {
		if bound == le {
			counts = "0+60"
		}
		out = append(out, name+`{`+more+`le="`+bound+`"} `+counts+"x60")
	}
	return strings.Join(out, "\n ")
}

// dashboard is what a test must know of Grafana's format.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Query string }
	}
	Annotations struct{ List []struct{ Expr string } }
	Panels      []struct {
		ID         int
		Type       string
		Title      string
		GridPos    struct{ H, W, X, Y int }
		Datasource struct{ UID string }
		Targets    []struct{ RefID, Expr, LegendFormat string }
	}
}

var legend = regexp.MustCompile(`\{\{ *([a-z_]+) *\}\}`)

func TestTheDashboardReadsWhatThereIs(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal(file(t, "grafana", "keybrake.json"), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 || len(d.Panels) < 15 {
		t.Errorf("%s %q, schema %d, %d panels", d.UID, d.Title, d.SchemaVersion, len(d.Panels))
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "keybrake", "$instance", ".+")
	ids, taken := map[int]bool{}, map[[2]int]string{}
	shown := map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("the panel %q has the id of another", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("the panel %q lies upon %q or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("the panel %q has the data source %q and %d queries", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			expr := variables.Replace(q.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: an unknown variable in %s", p.Title, q.Expr)
			}
			check(t, p.Title, expr)
			for _, l := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
				if !strings.Contains(expr, l[1]) {
					t.Errorf("%s: the legend names %s, which %s does not keep", p.Title, l[1], expr)
				}
			}
			for name := range series() {
				if strings.Contains(expr, name) {
					shown[name] = true
				}
			}
		}
	}
	for _, a := range d.Annotations.List {
		check(t, "annotation", variables.Replace(a.Expr))
	}
	for _, m := range observe.Definitions() {
		if m.Name == "keybrake_build_info" || m.Name == "keybrake_cap_left" {
			continue
		}
		if !shown[m.Name] && !shown[m.Name+"_bucket"] && !shown[m.Name+"_sum"] {
			t.Errorf("no panel shows %s", m.Name)
		}
	}
}
