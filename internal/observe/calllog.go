package observe

import (
	"context"
	"log/slog"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway"
)

// maxLines is how many lines may wait for the log: a second of the fastest calls that were measured.
const maxLines = 4096

// CallLog writes one line for each call. Calls hand their lines over and do not wait: a reader of the log that is too slow
// costs lines, never calls. Refusals that are folded on record have one line for the first of them and one with the
// count, so that a scan cannot fill a disk. Safe for concurrent use.
type CallLog struct {
	log     *slog.Logger
	dropped func()
	lines   chan *gateway.Ended
	quit    chan struct{}
	done    chan struct{}
}

// NewCallLog begins to write to log. dropped is called for each line that could not be handed over.
func NewCallLog(log *slog.Logger, dropped func()) *CallLog {
	l := &CallLog{log: log, dropped: dropped, lines: make(chan *gateway.Ended, maxLines), quit: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Call hands a call's line over. It is a gateway.Config's Ended.
func (l *CallLog) Call(e *gateway.Ended) {
	if e.Folded {
		return
	}
	select {
	case l.lines <- e:
	default:
		l.dropped()
	}
}

// Close writes what was handed over. Nothing may be handed over any more, and it is called once.
func (l *CallLog) Close() {
	close(l.quit)
	<-l.done
}

func (l *CallLog) run() {
	defer close(l.done)
	for {
		select {
		case e := <-l.lines:
			l.write(e)
		case <-l.quit:
			for {
				select {
				case e := <-l.lines:
					l.write(e)
				default:
					return
				}
			}
		}
	}
}

// write writes the line: a closed list of fields, none of which is secret. What agents wrote is scrubbed as on record.
func (l *CallLog) write(e *gateway.Ended) {
	b := line{make([]slog.Attr, 0, 40)}
	b.text("audit_id", e.AuditID)
	b.text("request", e.Request)
	b.text("trace_id", e.Trace.ID)
	b.text("span_id", e.Trace.Span)
	b.text("parent_span_id", e.Trace.Parent)
	b.text("trace_state", audit.Scrub(e.Trace.State))
	b.text("key", string(e.Key))
	b.text("key_name", e.KeyName)
	b.text("upstream", e.Upstream)
	b.text("mode", e.Mode)
	b.text("from", e.From)
	b.text("run_id", audit.Scrub(e.RunID))
	b.text("operation", string(e.Operation))
	b.text("method", e.Method)
	b.text("route", e.Route)
	b.text("verdict", e.Verdict.String())
	b.text("code", string(e.Code))
	b.text("rule", e.Rule)
	if e.Shadow {
		b.attrs = append(b.attrs, slog.Bool("shadowed", true))
	}
	if e.Amount.Currency != "" {
		b.attrs = append(b.attrs, slog.Int64("amount", e.Amount.Minor), slog.String("currency", string(e.Amount.Currency)), slog.String("usd", e.USD.String()))
	}
	if len(e.Customers) > 0 {
		customers := make([]string, len(e.Customers))
		for i, c := range e.Customers { // where any customer is allowed they are whatever the agent wrote
			customers[i] = audit.Scrub(string(c))
		}
		b.attrs = append(b.attrs, slog.Any("customers", customers))
	}
	b.attrs = append(b.attrs, slog.Int("status", e.Status))
	b.number("upstream_status", int64(e.UpstreamStatus))
	b.text("fate", e.Fate)
	b.text("repeat", e.Repeat)
	b.number("lookups", int64(e.Lookups))
	b.number("count", e.Count)
	if e.Count == 0 {
		b.timings(&e.Took)
	}
	message := "call"
	if e.Count > 0 {
		message = "equal calls refused"
	}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, message, b.attrs...)
}

// line collects the fields that have something to say.
type line struct{ attrs []slog.Attr }

func (l *line) text(key, value string) {
	if value != "" {
		l.attrs = append(l.attrs, slog.String(key, value))
	}
}

func (l *line) number(key string, value int64) {
	if value != 0 {
		l.attrs = append(l.attrs, slog.Int64(key, value))
	}
}

// timings are in microseconds, all of them in every line.
func (l *line) timings(t *gateway.Timings) {
	for _, part := range [...]struct {
		key  string
		took time.Duration
	}{
		{"read_us", t.Read}, {"wait_us", t.Wait}, {"decide_us", t.Decide}, {"lookups_us", t.Lookups}, {"admit_us", t.Admit},
		{"upstream_us", t.Upstream}, {"settle_us", t.Settle}, {"total_us", t.Total},
	} {
		l.attrs = append(l.attrs, slog.Int64(part.key, part.took.Microseconds()))
	}
}
