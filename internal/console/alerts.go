package console

import (
	"slices"

	"github.com/keybrake/keybrake/internal/admin"
)

// alertsPage answers: what is wrong, what was, and does anybody hear of it?
type alertsPage struct {
	Open, Over []admin.Alert
	Targets    []admin.AlertTarget
	Tested     *admin.AlertTested
	Problem    string
}

// alertsOver is how many alerts that are over a page shows.
const alertsOver = 50

func (v *visit) alerts() (*page, error) { return v.alertsWith(alertsPage{}) }

func (v *visit) alertsWith(d alertsPage) (*page, error) {
	all, err := v.api.Alerts(v.ctx(), admin.AlertFilter{})
	if err != nil {
		return nil, err
	}
	for _, a := range all.Items {
		switch {
		case a.Resolved.IsZero():
			d.Open = append(d.Open, a)
		case len(d.Over) < alertsOver:
			d.Over = append(d.Over, a)
		}
	}
	targets, err := v.api.AlertTargets(v.ctx())
	if err != nil {
		return nil, err
	}
	d.Targets = targets.Items
	p := &page{Title: "Alerts", Heading: "Nothing is wrong.", Nav: "/alerts", Template: "alerts", Data: d}
	if n := len(d.Open); n > 0 {
		p.Heading = plural(n, "alert") + " open."
	}
	return p, nil
}

// alertsAction acknowledges an alert, or tries a target.
func (v *visit) alertsAction() (*page, error) {
	var d alertsPage
	var err error
	switch v.r.PostFormValue("do") {
	case "ack":
		_, err = v.api.AcknowledgeAlert(v.ctx(), v.r.PostFormValue("alert"))
	case "test":
		var got admin.AlertTested
		if got, err = v.api.TestAlertTarget(v.ctx(), v.r.PostFormValue("target")); err == nil {
			d.Tested = &got
			return v.alertsWith(d)
		}
	default:
		err = nothingToDo
	}
	if problem, ok := refused(err); ok {
		d.Problem = problem
		return typedAgain(v.alertsWith(d))
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/alerts")
}

// shownElsewhere are kinds that the overview has a part of its own for.
var shownElsewhere = []string{"cap", "brake", "frozen", "store"}

// pressing are the open alerts that the overview shows as notices, the worst first.
func (v *visit) pressing() ([]admin.Alert, error) {
	open, err := v.api.Alerts(v.ctx(), admin.AlertFilter{Open: true})
	if err != nil {
		return nil, err
	}
	rank := map[string]int{"critical": 0, "warning": 1, "info": 2}
	out := slices.DeleteFunc(open.Items, func(a admin.Alert) bool { return slices.Contains(shownElsewhere, a.Kind) || a.Severity == "info" })
	slices.SortStableFunc(out, func(a, b admin.Alert) int { return rank[a.Severity] - rank[b.Severity] })
	return out, nil
}
