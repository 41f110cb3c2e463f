package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

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
	m := v.measure(answer)
	m.Target, m.Reason = v.r.PostFormValue("target"), req.Reason
	return nil, redirect("/stopped?" + url.Values{"stop": {v.stops.keep(m)}}.Encode())
}

// stoppedPage says what a stop did and what is stopped now.
type stoppedPage struct {
	Measured *measured // nil: it was not made here, or long ago
	Since    aftermath // what became of calls since that stop
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
	all := false
	for _, b := range v.status.Brakes {
		d.Brakes = append(d.Brakes, viewBrake(b))
		all = all || b.Scope == "all" && b.Mode == "stopped"
	}
	var err error
	if d.Measured = v.stops.find(v.r.FormValue("stop")); d.Measured != nil {
		if d.Since, err = v.since(d.Measured, d.Brakes); err != nil {
			return nil, err
		}
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
	if d.Measured != nil {
		i := slices.IndexFunc(d.Brakes, func(b brakeView) bool { return b.Target == d.Measured.Target })
		if i >= 0 && !all && d.Brakes[i].Name != "" { // what was just pressed for, whatever else is stopped
			p.Heading = d.Brakes[i].Name + " is " + d.Brakes[i].Mode + "."
		}
		p.Sub = d.Measured.words(v.zone(v.r))
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
