package admin

import (
	"errors"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keybrake/keybrake/internal/policy"
)

// Field is what is wrong with one part of a request.
type Field struct {
	// Location begins with body, query, path or header and goes on in the request's own words: body.caps[0],
	// query.after. Parts of a policy are under body.policy: body.policy.caps[1].usd.
	Location string `json:"location"`
	Message  string `json:"message"` // says what to do
}

// wrong refuses a request for one part of it.
func wrong(location, format string, args ...any) *Refusal {
	return refuse(Invalid, format, args...).at(location)
}

// at says which part of the request it is.
func (r *Refusal) at(location string) *Refusal {
	r.Fields = []Field{{location, r.Message}}
	return r
}

// located says which part of the request an error is about, if it is a refusal.
func located(location string, err error) error {
	var r *Refusal
	if errors.As(err, &r) {
		return r.at(location)
	}
	return err
}

// speaksOf reports whether a refusal is about a location.
func speaksOf(err error, location string) bool {
	var r *Refusal
	return errors.As(err, &r) && slices.ContainsFunc(r.Fields, func(f Field) bool { return f.Location == location })
}

// faults gathers everything that is wrong with a request, so that one answer says it all.
type faults struct {
	lines  []string
	fields []Field
	kinds  []Kind
	policy []policy.Problem
}

// add takes what is wrong at a location; nil is nothing, and a refusal that knows its own locations keeps them.
func (f *faults) add(location string, err error) {
	if err == nil {
		return
	}
	f.lines = append(f.lines, err.Error())
	var known *Refusal
	if !errors.As(err, &known) {
		known = wrong(location, "%v", err)
	}
	f.kinds, f.policy = append(f.kinds, known.Kind), append(f.policy, known.policy...)
	if f.fields = append(f.fields, known.Fields...); len(known.Fields) == 0 && location != "" {
		f.fields = append(f.fields, Field{location, err.Error()})
	}
}

// refusal is what was gathered; nil: nothing.
func (f *faults) refusal() error {
	if len(f.lines) == 0 {
		return nil
	}
	kind := f.kinds[0]
	if slices.ContainsFunc(f.kinds, func(k Kind) bool { return k != kind }) {
		kind = Invalid // that it is more than one thing is wrong with the request itself
	}
	return &Refusal{Kind: kind, Message: strings.Join(f.lines, "\n"), Fields: f.fields, policy: f.policy}
}

// together is one refusal that says all of them; nil: there is none. An error that is no refusal stands for all.
func together(errs ...error) error {
	var f faults
	for _, err := range errs {
		if r := (*Refusal)(nil); err != nil && !errors.As(err, &r) {
			return err
		}
		f.add("", err)
	}
	return f.refusal()
}

// refusedPolicy is the refusal of a policy, with a field for each problem of it.
func refusedPolicy(wrong *policy.ParseError) *Refusal {
	r := refuse(Invalid, "%s", wrong.Error())
	r.policy = wrong.Problems
	for _, p := range wrong.Problems {
		location := "body.policy"
		if p.Field != "" {
			location += "." + p.Field
		}
		r.Fields = append(r.Fields, Field{location, p.Message})
	}
	return r
}

// document is a refusal as the API answers it.
func (r *Refusal) document() error {
	details := make([]error, len(r.Fields))
	for i, f := range r.Fields {
		details[i] = &huma.ErrorDetail{Location: f.Location, Message: f.Message}
	}
	return huma.NewError(statusOf(r.Kind), r.Message, details...)
}

// Field is what is wrong at a location of the request; empty: nothing.
func (p *Problem) Field(location string) string {
	i := slices.IndexFunc(p.Fields, func(f Field) bool { return f.Location == location })
	if i < 0 {
		return ""
	}
	return p.Fields[i].Message
}
