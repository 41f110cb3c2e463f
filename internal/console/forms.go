package console

import (
	"errors"
	"net/http"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// refused reports whether an error is the API's refusal of what was typed, and its words. What the API could not do for
// another reason is no refusal.
func refused(err error) (string, bool) {
	var p *admin.Problem
	if errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusUnauthorized {
		return p.Error(), true
	}
	return "", false
}

// typedAgain is a page whose form was refused: it shows what was typed, and says so by its status.
func typedAgain(p *page, err error) (*page, error) {
	if p != nil {
		p.Status = http.StatusUnprocessableEntity
	}
	return p, err
}

// changedSince is what a form says whose subject somebody else changed after it was shown.
const changedSince = "Somebody changed this while you had the form, so nothing was done. The page shows what is there now: look at it, and send the form again if you still want it."

// shownAnew is a page whose form was made for an older version than it shows now.
func shownAnew(p *page, err error) (*page, error) {
	if p != nil {
		p.Status = http.StatusPreconditionFailed
	}
	return p, err
}

// nothingToDo is what a form gets that asks for what no page has.
var nothingToDo = &admin.Problem{Status: http.StatusBadRequest, Detail: "The form asks for nothing that can be done here."}

// unavailable reports whether the API cannot do it now.
func unavailable(err error) bool {
	var p *admin.Problem
	return errors.As(err, &p) && p.Status == http.StatusServiceUnavailable
}

// outdated reports whether what was edited has changed since it was shown.
func outdated(err error) bool {
	var p *admin.Problem
	return errors.As(err, &p) && p.Status == http.StatusPreconditionFailed
}

// beside sorts a refusal of what was typed to the fields of a form, by their places in the API's request. What belongs to none of
// them is for the form as a whole.
func beside(err error, locations ...string) (at map[string]string, problem string) {
	var p *admin.Problem
	if !errors.As(err, &p) {
		return nil, ""
	}
	at = map[string]string{}
	for _, l := range locations {
		if m := p.Field(l); m != "" {
			at[l] = m
		}
	}
	if len(at) == 0 || len(p.Fields) > len(at) {
		problem = p.Error()
	}
	return at, problem
}

// plainAmount is an amount as it was typed, without the marks that people put in: $1,250.50 is 1250.50.
func plainAmount(typed string) string {
	return strings.ReplaceAll(strings.TrimPrefix(typed, "$"), ",", "")
}
