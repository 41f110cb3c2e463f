package console

import (
	"crypto/rand"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// measured is a stop that was made here, as it was measured.
type measured struct {
	ID     string
	At     time.Time
	Who    string
	Reason string
	Answer admin.KillAnswer
}

// refusals are the calls that a stop has refused since it was pulled.
type refusals struct {
	Count int64
	More  bool    // there are others that were not counted
	First *record // nil: none yet
	After string  // how long after the press the first one was
}

// refusedSince counts what a stop has refused, as far as one search reads.
func (v *visit) refusedSince(m *measured) (out refusals, err error) {
	f := admin.AuditFilter{Since: m.At, Code: "keybrake_key_killed", Ascending: true, Limit: 1000, Scan: auditScan}
	if m.Answer.Mode == "read-only" {
		f.Code = "keybrake_key_readonly"
	}
	if m.Answer.Scope == "key" && len(m.Answer.Stopped) == 1 {
		f.Key = m.Answer.Stopped[0]
	}
	list, err := v.api.Audit(v.ctx(), f)
	if err != nil {
		return refusals{}, err
	}
	rows, err := readRecords(list.Items)
	if err != nil {
		return refusals{}, err
	}
	out.More = list.Next != ""
	for i := range rows {
		r := &rows[i]
		if m.Answer.Scope != "all" && !slices.Contains(m.Answer.Stopped, r.Key) {
			continue
		}
		if r.Kind == "folded" {
			out.Count += r.Count
			continue
		}
		if out.Count++; out.First == nil {
			out.First, out.After = r, milliseconds(r.At.Sub(m.At))
		}
	}
	return out, nil
}

// maxMeasured is how many stops are remembered for their page. The audit has all of them, without the measurement.
const maxMeasured = 100

// measurements are the last stops. Safe for concurrent use.
type measurements struct {
	mu   sync.Mutex
	list []measured
}

func (m *measurements) keep(s measured) string {
	s.ID = rand.Text()[:10]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, s)
	if len(m.list) > maxMeasured {
		m.list = append([]measured(nil), m.list[1:]...)
	}
	return s.ID
}

func (m *measurements) find(id string) *measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].ID == id {
			s := m.list[i]
			return &s
		}
	}
	return nil
}

// stopForm is the stop panel as a page: for links to it, and where popovers are missing.
func (v *visit) stopForm() (*page, error) {
	p := &page{Title: "Stop", Heading: "What should stop?", Template: "stop"}
	if id := v.r.FormValue("key"); id != "" {
		k, err := v.api.Key(v.ctx(), id)
		if err != nil {
			return nil, err
		}
		p.Key = stopTarget{ID: k.ID, Name: k.Name}
		p.Upstream = stopTarget{ID: k.Upstream, Name: k.Upstream}
	}
	return p, nil
}

// target reads what the stop panel's button names.
func target(value string) admin.Target {
	kind, id, _ := strings.Cut(value, ":")
	switch {
	case kind == "key" && id != "":
		return admin.Target{Keys: []string{id}}
	case kind == "upstream" && id != "":
		return admin.Target{Upstream: id}
	case value == "all":
		return admin.Target{All: true}
	default:
		return admin.Target{} // which the API refuses
	}
}

// stop is the second of the two presses.
func (v *visit) stop() (*page, error) {
	req := admin.KillRequest{Target: target(v.r.PostFormValue("target")), ReadOnly: v.r.PostFormValue("mode") == "read-only", Reason: v.r.PostFormValue("reason")}
	answer, err := v.api.Kill(v.ctx(), req)
	if err != nil {
		return nil, err
	}
	id := v.stops.keep(measured{At: v.now, Who: v.who.Name, Reason: req.Reason, Answer: answer})
	return nil, redirect("/stopped?" + url.Values{"stop": {id}}.Encode())
}

// stoppedPage says what a stop did and what is stopped now.
type stoppedPage struct {
	Measured *measured // nil: it was not made here, or long ago
	Refused  refusals  // by that stop
	Brakes   []brakeView
	Open     []admin.OpenCall
	// At and Problem say why a resumption was refused, Target and Reason what was chosen and typed.
	At                      map[string]string
	Problem, Target, Reason string
}

// brakeView is a brake with its time read.
type brakeView struct {
	admin.Brake
	Since  time.Time
	Target string // as the form says it
}

func viewBrake(b admin.Brake) brakeView {
	v := brakeView{Brake: b, Target: b.Scope}
	v.Since, _ = time.Parse(time.RFC3339Nano, b.At) // the zero time where there is none
	if b.ID != "" {
		v.Target += ":" + b.ID
	}
	return v
}

func (v *visit) stopped() (*page, error) { return v.stoppedWith(stoppedPage{}) }

func (v *visit) stoppedWith(d stoppedPage) (*page, error) {
	var err error
	if d.Measured = v.stops.find(v.r.FormValue("stop")); d.Measured != nil {
		if d.Refused, err = v.refusedSince(d.Measured); err != nil {
			return nil, err
		}
	}
	all := false
	for _, b := range v.status.Brakes {
		d.Brakes = append(d.Brakes, viewBrake(b))
		all = all || b.Scope == "all" && b.Mode == "stopped"
	}
	open, err := v.api.OpenCalls(v.ctx(), "")
	if err != nil {
		return nil, err
	}
	d.Open = open.Items
	p := &page{Title: "Stopped", Template: "stopped", Data: d, Nav: "/stopped"}
	switch {
	case all:
		p.Heading = "Everything is stopped."
	case len(d.Brakes) == 1 && d.Brakes[0].Name != "":
		p.Heading = d.Brakes[0].Name + " is " + d.Brakes[0].Mode + "."
	case len(d.Brakes) > 0:
		p.Heading = plural(len(d.Brakes), "brake") + " on."
	default:
		p.Heading = "Nothing is stopped."
	}
	return p, nil
}

// resume lifts one brake.
func (v *visit) resume() (*page, error) {
	d := stoppedPage{Target: v.r.PostFormValue("target"), Reason: v.r.PostFormValue("reason")}
	req := admin.ResumeRequest{Target: target(d.Target), Reason: d.Reason}
	kind, id, _ := strings.Cut(d.Target, ":")
	switch kind {
	case "freeze":
		req.Target = admin.Target{Keys: []string{id}}
	case "books":
		req.Books = true
	}
	_, err := v.api.Resume(v.ctx(), req)
	if _, ok := refused(err); ok {
		d.At, d.Problem = beside(err, "body.reason", "body")
		if d.Target == "" {
			d.At["body"] = "Choose the brake that is to be lifted."
		}
		return typedAgain(v.stoppedWith(d))
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/stopped")
}
