// Package observe is what operators' tools see of a running Keybrake: counters and gauges for Prometheus, and one line
// in the log for each call. It is told of calls and transactions after they happened, decides nothing and keeps nobody
// waiting: counters are counted, lines are handed over, and what cannot be handed over is dropped and counted.
//
// How many series there are does not grow with keys, agents or calls: operations and codes come from closed lists, caps
// are shown for the tightest few, and whatever is beyond a bound is counted as "other".
package observe

// Kind is how a metric behaves.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Metric describes one metric.
type Metric struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// Definitions lists every metric of Keybrake's own, in the order in which the documentation shows them. Beside them there
// are go_* and process_*.
func Definitions() []Metric { return append([]Metric(nil), definitions...) }

// Names of metrics, each with its line below.
const (
	calls        = "keybrake_calls_total"
	denials      = "keybrake_denials_total"
	byRule       = "keybrake_denials_by_rule_total"
	outcomes     = "keybrake_outcomes_total"
	moved        = "keybrake_moved_usd_total"
	lookups      = "keybrake_lookups_total"
	callTime     = "keybrake_call_seconds"
	ourTime      = "keybrake_overhead_seconds"
	waitTime     = "keybrake_wait_seconds"
	admitTime    = "keybrake_admission_seconds"
	upstreamTime = "keybrake_upstream_seconds"
	commitTime   = "keybrake_store_commit_seconds"
	batchSize    = "keybrake_store_batch_callers"
	storeFails   = "keybrake_store_failures_total"
	linesDropped = "keybrake_log_lines_dropped_total"
	ready        = "keybrake_ready"
	inFlight     = "keybrake_calls_in_flight"
	queued       = "keybrake_store_queue"
	open         = "keybrake_reservations_open"
	unresolved   = "keybrake_reservations_unresolved"
	oldest       = "keybrake_reservations_unresolved_oldest_seconds"
	height       = "keybrake_audit_height"
	signedHeight = "keybrake_audit_signed_height"
	signedAt     = "keybrake_audit_signed_timestamp_seconds"
	brake        = "keybrake_brake"
	keys         = "keybrake_keys"
	capUsed      = "keybrake_cap_used_ratio"
	capLeft      = "keybrake_cap_left"
	alerts       = "keybrake_alerts_outstanding"
	build        = "keybrake_build_info"
)

var definitions = []Metric{
	{calls, Counter, []string{"operation", "verdict"}, "Calls that were answered, by operation (none: not recognized) and verdict (allow, deny)."},
	{denials, Counter, []string{"code"}, "Refusals that agents got, by code: of denied calls, and of allowed ones whose upstream gave no usable answer."},
	{byRule, Counter, []string{"rule"}, "The same refusals, by the rule that they come from: scopes.refunds, caps.refunds/day, customers, params (all of them together)."},
	{outcomes, Counter, []string{"fate"}, "Calls that were sent, by what became of them: moved, refused or unknown."},
	{moved, Counter, []string{"operation"}, "Dollars of calls that moved money, as they were converted when they were held."},
	{lookups, Counter, []string{"upstream"}, "Reads that Keybrake made at an upstream to judge or settle a call."},
	{callTime, Histogram, []string{"access"}, "Time from the first byte of a call to its answer, by access (read, write)."},
	{ourTime, Histogram, []string{"access"}, "The part of it that Keybrake adds: without the time in which the call was sent to us, and the upstream's own."},
	{waitTime, Histogram, nil, "Time that a call waited for a slot at its upstream, and for its turn to look something up."},
	{admitTime, Histogram, nil, "Time until a call's holds and record, or the record of its denial, were durable."},
	{upstreamTime, Histogram, []string{"upstream"}, "Time that an upstream took for a call, look-ups not included."},
	{commitTime, Histogram, nil, "Time of the store's commits, the flush to the disk included."},
	{batchSize, Histogram, nil, "Callers whose work became one transaction."},
	{storeFails, Counter, nil, "Transactions of calls that the store could not make durable."},
	{linesDropped, Counter, nil, "Lines of the call log that were dropped because whoever reads the log was too slow."},
	{ready, Gauge, nil, "1: money calls are taken. 0: they are not; /readyz of the operators' listener says why."},
	{inFlight, Gauge, nil, "Calls on their way to upstreams."},
	{queued, Gauge, []string{"lane"}, "Work that waits for the store's writer: of calls, of operators."},
	{open, Gauge, nil, "Reservations whose calls are on their way or unknown."},
	{unresolved, Gauge, nil, "Reservations whose outcome is unknown."},
	{oldest, Gauge, nil, "Age of the oldest of these; 0: there is none."},
	{height, Gauge, nil, "Number of the last audit record."},
	{signedHeight, Gauge, nil, "Number of the last audit record under a signed head."},
	{signedAt, Gauge, nil, "When that head was signed, in Unix time; 0: never."},
	{brake, Gauge, []string{"scope"}, "Brakes of everything and of each upstream: 0 normal, 1 read-only, 2 stopped."},
	{keys, Gauge, []string{"state"}, "Live vault keys: active, read-only, stopped or frozen (by their own brake)."},
	{capUsed, Gauge, []string{"key", "cap"}, "Held and settled share of the tightest caps: those of the 20 with the least room that are used by half or more."},
	{capLeft, Gauge, []string{"key", "cap", "unit"}, "What is left of the same caps, in dollars or calls."},
	{alerts, Gauge, nil, "Alerts that are not delivered yet; absent where alerts are not set up."},
	{build, Gauge, []string{"version", "revision"}, "Always 1; which build this is."},
}

// define finds a metric's definition.
func define(name string) Metric {
	for _, m := range definitions {
		if m.Name == name {
			return m
		}
	}
	panic("observe: " + name + " is not defined") // a mistake in this package, found by any test
}
