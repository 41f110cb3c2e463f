package console

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// operatorsPage answers: who may come in here, by what, and who is in now?
type operatorsPage struct {
	Operators []admin.Operator
	Tokens    []admin.Token
	Sessions  []admin.Session
	// Do is the form that was refused, At and Problem why; the rest is what was typed.
	At                                map[string]string
	Do, Problem                       string
	Name, Role, Email, Owner, Expires string
}

func (v *visit) operators() (*page, error) {
	return v.operatorsWith(operatorsPage{Role: "responder", Owner: v.who.Name})
}

func (v *visit) operatorsWith(d operatorsPage) (*page, error) {
	operators, err := v.api.Operators(v.ctx())
	if err != nil {
		return nil, err
	}
	tokens, err := v.api.Tokens(v.ctx())
	if err != nil {
		return nil, err
	}
	sessions, err := v.api.Sessions(v.ctx())
	if err != nil {
		return nil, err
	}
	d.Operators, d.Tokens, d.Sessions = operators.Items, tokens.Items, sessions.Items
	return &page{
		Title: "Operators", Heading: "Operators", Nav: "/operators", Template: "operators", Data: d,
		Sub: "Who may look, stop and change. Everybody who signs in can stop; only an admin can widen.",
	}, nil
}

// operatorsAction does what a form on the page asks for.
func (v *visit) operatorsAction() (*page, error) {
	get := func(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }
	d := operatorsPage{Do: get("do"), Name: get("name"), Role: get("role"), Email: get("email"), Owner: get("operator"), Expires: get("expires")}
	var err error
	switch d.Do {
	case "add":
		var made admin.Operator
		if made, err = v.api.CreateOperator(v.ctx(), admin.OperatorRequest{Name: d.Name, Role: d.Role, Email: d.Email}); err == nil {
			return nil, redirect("/operators/" + url.PathEscape(made.Name))
		}
	case "token":
		var made admin.TokenCreated
		if made, err = v.api.CreateToken(v.ctx(), admin.TokenRequest{Name: d.Name, Operator: d.Owner, Role: d.Role, Expires: d.Expires}); err == nil {
			return v.once(oncePage{Title: "Copy the token now", Name: made.Name, Secret: made.Token, Expires: made.Expires, For: made.Operator}), nil
		}
	case "end-token":
		err = v.api.DeleteToken(v.ctx(), d.Name)
	case "end-session":
		err = v.api.EndSession(v.ctx(), d.Name)
	default:
		err = nothingToDo
	}
	if _, ok := refused(err); ok {
		d.At, d.Problem = beside(err, "body.name", "body.role", "body.email", "body.operator", "body.expires")
		return typedAgain(v.operatorsWith(d))
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/operators")
}

// operatorPage is one account.
type operatorPage struct {
	admin.Operator
	// Do is the form that was refused, At and Problem why, Reason what was typed.
	At                  map[string]string
	Do, Problem, Reason string
	NewRole, NewEmail   string
}

// ReasonOf is the reason that was typed into a form, and FaultOf what is wrong with it: the page has two with one.
func (d operatorPage) ReasonOf(change bool) string {
	if change == (d.Do == "change") {
		return d.Reason
	}
	return ""
}

// FaultOf is what is wrong with the reason in a form.
func (d operatorPage) FaultOf(change bool) string {
	if change == (d.Do == "change") {
		return d.At["body.reason"]
	}
	return ""
}

func (v *visit) operator() (*page, error) { return v.operatorWith(operatorPage{}) }

func (v *visit) operatorWith(d operatorPage) (*page, error) {
	o, err := v.api.Operator(v.ctx(), v.r.PathValue("operator"))
	if err != nil {
		return nil, err
	}
	d.Operator = o
	if d.Do != "change" {
		d.NewRole, d.NewEmail = o.Role, o.Email
	}
	return &page{
		Title: o.Name, Heading: o.Name, Nav: "/operators", Template: "operator", Data: d, Crumb: &link{"/operators", "Operators"},
	}, nil
}

func (v *visit) operatorAction() (*page, error) {
	name := v.r.PathValue("operator")
	d := operatorPage{Do: v.r.PostFormValue("do"), Reason: v.r.PostFormValue("reason"), NewRole: v.r.PostFormValue("role"), NewEmail: strings.TrimSpace(v.r.PostFormValue("email"))}
	yes, no, version := true, false, v.r.PostFormValue("version")
	var err error
	switch d.Do {
	case "invite":
		var made admin.Invite
		if made, err = v.api.Invite(v.ctx(), name, admin.InviteRequest{}); err == nil {
			scheme := "http://"
			if v.secure(v.r) {
				scheme = "https://"
			}
			return v.once(oncePage{Title: "Send this link to " + name, Name: name, Secret: cmp.Or(made.Link, scheme+v.r.Host+made.Path), Expires: made.Expires, For: name, Link: true}), nil
		}
	case "uninvite":
		err = v.api.Uninvite(v.ctx(), name)
	case "change":
		_, err = v.api.UpdateOperator(v.ctx(), name, admin.OperatorUpdate{Role: d.NewRole, Email: &d.NewEmail, Reason: d.Reason, IfMatch: version})
	case "forget":
		_, err = v.api.UpdateOperator(v.ctx(), name, admin.OperatorUpdate{ForgetOpenID: true, Reason: d.Reason, IfMatch: version})
	case "disable": // whatever the account has become meanwhile: to lock somebody out waits for nobody
		_, err = v.api.UpdateOperator(v.ctx(), name, admin.OperatorUpdate{Disabled: &yes, Reason: d.Reason})
	case "enable":
		_, err = v.api.UpdateOperator(v.ctx(), name, admin.OperatorUpdate{Disabled: &no, Reason: d.Reason, IfMatch: version})
	case "end-sessions":
		_, err = v.api.EndSessions(v.ctx(), name)
	default:
		err = nothingToDo
	}
	if outdated(err) {
		d.Problem = changedSince
		return shownAnew(v.operatorWith(d))
	}
	if _, ok := refused(err); ok {
		d.At, d.Problem = beside(err, "body.role", "body.email", "body.reason")
		return typedAgain(v.operatorWith(d))
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/operators/" + url.PathEscape(name))
}

// oncePage shows a token or a link, this once.
type oncePage struct {
	Title, Name, Secret string
	Expires             time.Time
	For                 string // operator; empty: a tool
	Link                bool
}

func (v *visit) once(d oncePage) *page {
	return &page{
		Title: d.Title, Heading: d.Title, Nav: "/operators", Template: "once", Data: d, Crumb: &link{"/operators", "Operators"},
		Sub: "This is the only time it is shown. Keybrake keeps a hash of it.",
	}
}
