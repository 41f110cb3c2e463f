package console

import (
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// ratesPage answers: at what is money in other currencies counted?
type ratesPage struct {
	Items   []admin.Rate
	Version string // of the table
	Stale   int
	// Currency, Rate and File are what was typed; Do is which form it was.
	Do, Currency, Rate, File string
	Problem                  string
	At                       map[string]string
}

func (v *visit) rates() (*page, error) { return v.ratesWith(ratesPage{}) }

func (v *visit) ratesWith(d ratesPage) (*page, error) {
	list, err := v.api.Rates(v.ctx())
	if err != nil {
		return nil, err
	}
	d.Items, d.Version = list.Items, list.ETag
	for _, r := range d.Items {
		if r.Stale {
			d.Stale++
		}
	}
	return &page{
		Title: "Rates", Heading: "Rates", Nav: "/rates", Template: "rates", Data: d,
		Sub: "Caps are in US dollars. An amount in another currency counts at its rate and a margin, rounded up; without a rate that is younger than 30 days it is refused.",
	}, nil
}

// setRates takes a rate that was typed, or a file of them.
func (v *visit) setRates() (*page, error) {
	d := ratesPage{
		Do: v.r.PostFormValue("do"), Currency: strings.TrimSpace(v.r.PostFormValue("currency")), Rate: strings.TrimSpace(v.r.PostFormValue("rate")),
		File: v.r.PostFormValue("file"),
	}
	version := v.r.PostFormValue("version")
	var err error
	switch d.Do {
	case "set":
		_, err = v.api.SetRates(v.ctx(), admin.RateInputs{Rates: []admin.RateInput{{Currency: d.Currency, Rate: d.Rate}}, IfMatch: version})
	case "import":
		_, err = v.api.ImportRates(v.ctx(), strings.NewReader(d.File), version)
	default:
		err = nothingToDo
	}
	if outdated(err) {
		d.Problem = changedSince
		return shownAnew(v.ratesWith(d))
	}
	if _, ok := refused(err); ok {
		d.At, d.Problem = beside(err, "body.rates[0].currency", "body.rates[0].rate")
		return typedAgain(v.ratesWith(d))
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/rates")
}
