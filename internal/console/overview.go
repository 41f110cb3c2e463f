package console

import (
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// overviewPage answers: does something need me now?
type overviewPage struct {
	admin.Overview
	Day     capBar
	Closest []keyCap
	// Near are the caps that need a look: from 80 per cent.
	Near      []keyCap
	Alerts    []admin.Alert
	Brakes    []brakeView
	Last      []record
	Chart     template.HTML
	Spark     template.HTML
	PerMinute int64
	Denied    int64
	Keys      int
	// Nodes are the processes that serve the store; none where only one can.
	Nodes []admin.Node
}

// keyCap is a cap with the key that it limits.
type keyCap struct {
	KeyID, KeyName string
	capBar
}

const (
	// lastCalls is how many calls the overview shows, and maxNotices how many notices before they are only counted.
	lastCalls  = 8
	maxNotices = 3
)

func (v *visit) overview() (*page, error) {
	o, err := v.api.Overview(v.ctx())
	if err != nil {
		return nil, err
	}
	d := overviewPage{Overview: o, Day: newCapBar(o.Day), Chart: minuteChart(o.Minutes, v.zone(v.r)), Spark: spark(o.Minutes), Keys: o.Keys}
	for _, c := range o.Closest {
		bar := keyCap{c.Key, c.Name, newCapBar(c.Cap)}
		d.Closest = append(d.Closest, bar)
		if bar.Level != "fine" {
			d.Near = append(d.Near, bar)
		}
	}
	if n := len(o.Minutes); n > 0 {
		d.PerMinute, d.Denied = o.Minutes[n-1].Allowed+o.Minutes[n-1].Denied, o.Minutes[n-1].Denied
		if n > 1 && v.now.Sub(o.Minutes[n-1].At) < 30*time.Second { // the present minute is not over: the one before tells more
			d.PerMinute, d.Denied = o.Minutes[n-2].Allowed+o.Minutes[n-2].Denied, o.Minutes[n-2].Denied
		}
	}
	if d.Alerts, err = v.pressing(); err != nil {
		return nil, err
	}
	for _, b := range v.status.Brakes {
		d.Brakes = append(d.Brakes, viewBrake(b))
	}
	nodes, err := v.api.Nodes(v.ctx())
	if err != nil {
		return nil, err
	}
	d.Nodes = nodes.Items
	if d.Last, err = v.lastCalls(admin.AuditFilter{}, lastCalls); err != nil {
		return nil, err
	}
	p := &page{Title: "Overview", Nav: "/", Template: "overview", Data: d}
	p.Heading, p.Sub = overviewHeading(v, &d), template.HTML(template.HTMLEscapeString(overviewSum(&d)))
	return p, nil
}

// overviewHeading says what needs somebody, most urgent first.
func overviewHeading(v *visit, d *overviewPage) string {
	all := slices.ContainsFunc(d.Brakes, func(b brakeView) bool { return b.Scope == "all" })
	switch {
	case v.status.Trouble != "":
		return "Money calls are not taken."
	case all:
		return "Everything is stopped."
	case slices.ContainsFunc(d.Alerts, func(a admin.Alert) bool { return a.Kind == "chain" }):
		return "The record is not as it was written."
	case needy(d) == 1:
		return "One key needs you."
	case needy(d) > 1:
		return "Several keys need you."
	case len(d.Brakes) > 0:
		return plural(len(d.Brakes), "brake") + " on, the other keys are inside their caps."
	case d.Open > 0:
		most := ""
		if d.More {
			most = "more than "
		}
		return "The outcome of " + most + plural(d.Open, "call") + " is not known."
	case d.Keys == 0:
		return "No keys yet."
	default:
		return "All keys are inside their caps."
	}
}

// overviewSum says how many keys run, and what is left today. Keys are told apart only where each has a brake of its own.
func overviewSum(d *overviewPage) string {
	if d.Keys == 0 {
		return ""
	}
	by, keysOnly := map[string]int{}, true
	for _, b := range d.Brakes {
		switch b.Scope {
		case "key":
			by[b.Mode]++
		case "freeze": // writes of a key, beside its brake
		default:
			keysOnly = false
		}
	}
	var say []string
	if keysOnly {
		run := plural(d.Keys, "key") + " run"
		if d.Keys == 1 {
			run += "s"
		}
		if halted := by["stopped"] + by["read-only"]; halted > 0 {
			run = count(int64(d.Keys-halted)) + " of " + plural(d.Keys, "key") + " run"
			for _, mode := range []string{"read-only", "stopped"} {
				if n := by[mode]; n == 1 {
					run += ", 1 is " + mode
				} else if n > 1 {
					run += ", " + count(int64(n)) + " are " + mode
				}
			}
		}
		say = append(say, run+".")
	}
	if d.Day.Limit != "" && d.Day.Limit != "$0.00" {
		say = append(say, d.Day.Left+" left of "+d.Day.Limit+" in today’s caps.")
	}
	return strings.Join(say, " ")
}

// needy is how many keys are near a cap, may be in a loop or are refused again and again.
func needy(d *overviewPage) int {
	keys := map[string]bool{}
	for _, c := range d.Near {
		keys[c.KeyID] = true
	}
	for _, a := range d.Alerts {
		if a.Key != "" && a.Kind != "expiry" && a.Kind != "rotation" {
			keys[a.Key] = true
		}
	}
	return len(keys)
}

// lastCalls are the newest calls that a filter selects: their intents and denials, with what became of those that have an
// outcome among what is read.
func (v *visit) lastCalls(f admin.AuditFilter, n int) ([]record, error) {
	f.Limit = 4 * n // an intent and an outcome each, and operators' actions between
	page, err := v.api.Audit(v.ctx(), f)
	if err != nil {
		return nil, err
	}
	all, err := readRecords(page.Items)
	if err != nil {
		return nil, err
	}
	return calls(all, n), nil
}

// calls puts outcomes to their intents, newest first.
func calls(newestFirst []record, n int) []record {
	outcomes := map[int64]*record{}
	var out []record
	for i := range newestFirst {
		r := &newestFirst[i]
		switch r.Kind {
		case "outcome", "reconciled":
			if _, later := outcomes[r.Ref]; !later {
				outcomes[r.Ref] = r
			}
		case "intent", "denied":
			if o := outcomes[r.Seq]; o != nil {
				r.Fate, r.Why, r.Status = o.Fate, o.Why, o.Status
				if len(o.Effects) > 0 {
					r.Effects = o.Effects
				}
			}
			if out = append(out, *r); len(out) == n {
				return out
			}
		}
	}
	return out
}
