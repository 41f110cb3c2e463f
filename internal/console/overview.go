package console

import (
	"slices"

	"github.com/keybrake/keybrake/internal/admin"
)

// overviewPage answers: does something need me now?
type overviewPage struct {
	Tightest []keyCap
	Brakes   []brakeView
	Open     []admin.OpenCall
}

// keyCap is a cap with the key that it limits.
type keyCap struct {
	KeyID, KeyName string
	capBar
}

// tightest is how many caps the overview shows.
const tightest = 6

func (v *visit) overview() (*page, error) {
	spend, err := v.api.Spend(v.ctx(), admin.KeyFilter{})
	if err != nil {
		return nil, err
	}
	open, err := v.api.OpenCalls(v.ctx(), "")
	if err != nil {
		return nil, err
	}
	d := overviewPage{Open: open.Items}
	for _, k := range spend.Keys {
		for _, c := range k.Caps {
			d.Tightest = append(d.Tightest, keyCap{k.ID, k.Name, newCapBar(c)})
		}
	}
	slices.SortStableFunc(d.Tightest, func(a, b keyCap) int { return b.Percent - a.Percent })
	d.Tightest = d.Tightest[:min(tightest, len(d.Tightest))]
	for _, b := range v.status.Brakes {
		d.Brakes = append(d.Brakes, viewBrake(b))
	}
	p := &page{Title: "Overview", Nav: "/", Template: "overview", Data: d, Heading: "All keys are inside their caps."}
	switch {
	case v.status.Trouble != "":
		p.Heading = "Money calls are not taken."
	case len(d.Brakes) > 0:
		p.Heading = "Something is stopped."
	case len(d.Tightest) > 0 && d.Tightest[0].Level != "fine":
		p.Heading = "A cap is near."
	case len(d.Open) > 0:
		p.Heading = "The outcome of " + plural(len(d.Open), "call") + " is not known."
	}
	return p, nil
}
