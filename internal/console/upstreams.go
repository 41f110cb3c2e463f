package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// upstreamsPage answers: which accounts does Keybrake reach, and with what?
type upstreamsPage struct {
	Items []admin.UpstreamView
	Form  upstreamForm
}

// upstreamForm is what was typed to add one; the secret is never shown again.
type upstreamForm struct {
	Name, BaseURL, Version string
	Unrestricted, Insecure bool
	Problem                string
	At                     map[string]string // what is wrong with a field, by its place in the request
}

func (v *visit) upstreams() (*page, error) { return v.upstreamsWith(upstreamForm{}) }

func (v *visit) upstreamsWith(f upstreamForm) (*page, error) {
	list, err := v.api.Upstreams(v.ctx())
	if err != nil {
		return nil, err
	}
	return &page{
		Title: "Upstreams", Heading: "Upstreams", Nav: "/upstreams", Template: "upstreams", Data: upstreamsPage{list.Items, f},
		Sub: "The real keys. They stay in here: agents never see them.",
	}, nil
}

// addUpstream takes a new credential.
func (v *visit) addUpstream() (*page, error) {
	f := upstreamForm{
		Name: strings.TrimSpace(v.r.PostFormValue("name")), BaseURL: strings.TrimSpace(v.r.PostFormValue("base")), Version: strings.TrimSpace(v.r.PostFormValue("version")),
		Unrestricted: v.r.PostFormValue("unrestricted") != "", Insecure: v.r.PostFormValue("insecure") != "",
	}
	u, err := v.api.AddUpstream(v.ctx(), admin.UpstreamRequest{
		Name: f.Name, Secret: strings.TrimSpace(v.r.PostFormValue("secret")), BaseURL: f.BaseURL, Version: f.Version,
		AllowUnrestricted: f.Unrestricted, AllowInsecure: f.Insecure,
	})
	if _, ok := refused(err); ok {
		f.At, f.Problem = beside(err, "body.name", "body.secret", "body.base_url", "body.version")
		return typedAgain(v.upstreamsWith(f))
	}
	if err != nil {
		return nil, err
	}
	return v.upstreamPage(u, upstreamEdit{Done: "The upstream is there."})
}

// upstreamPage is an upstream with what can be done to it.
type upstreamPage struct {
	admin.UpstreamView
	Edit upstreamEdit
}

// upstreamEdit is what was typed last and what became of it.
type upstreamEdit struct {
	Do, Problem     string // Problem stands at the form that Do names
	Done            string
	Version, Reason string
	Unrestricted    bool
	At              map[string]string
}

// upstream answers: what does this credential reach, and how do I change it without touching a vault key?
func (v *visit) upstream() (*page, error) {
	u, err := v.api.Upstream(v.ctx(), v.r.PathValue("upstream"))
	if err != nil {
		return nil, err
	}
	return v.upstreamPage(u, upstreamEdit{})
}

func (v *visit) upstreamPage(u admin.UpstreamView, e upstreamEdit) (*page, error) {
	if e.Version == "" {
		e.Version = u.Version
	}
	return &page{
		Title: u.Name, Heading: u.Name, Nav: "/upstreams", Template: "upstream", Data: upstreamPage{u, e}, Crumb: &link{"/upstreams", "Upstreams"},
		Upstream: stopTarget{ID: u.ID, Name: u.Name, Keys: u.Keys},
	}, nil
}

// upstreamAction does what a form on an upstream's page asks for.
func (v *visit) upstreamAction() (*page, error) {
	name := v.r.PathValue("upstream")
	e := upstreamEdit{
		Do: v.r.PostFormValue("do"), Version: strings.TrimSpace(v.r.PostFormValue("version")), Reason: v.r.PostFormValue("reason"),
		Unrestricted: v.r.PostFormValue("unrestricted") != "",
	}
	u, err := v.changeUpstream(name, &e)
	if _, ok := refused(err); ok {
		e.At, e.Problem = beside(err, "body.secret", "body.version", "body.reason")
		again := typedAgain
		if outdated(err) {
			e.Problem, again = changedSince, shownAnew
		}
		present, err := v.api.Upstream(v.ctx(), name)
		if err != nil {
			return nil, err
		}
		return again(v.upstreamPage(present, e))
	}
	if err != nil {
		return nil, err
	}
	if e.Do == "remove" {
		return nil, redirect("/upstreams")
	}
	return v.upstreamPage(u, e)
}

func (v *visit) changeUpstream(name string, e *upstreamEdit) (admin.UpstreamView, error) {
	secret, version := strings.TrimSpace(v.r.PostFormValue("secret")), v.r.PostFormValue("of")
	switch e.Do {
	case "rotate":
		e.Done = "The new secret is in use from the next call on. Remove the old one at Stripe."
		return v.api.RotateUpstream(v.ctx(), name, admin.UpstreamSecret{Secret: secret, AllowUnrestricted: e.Unrestricted})
	case "version":
		e.Done = "The version is pinned."
		return v.api.UpdateUpstream(v.ctx(), name, admin.UpstreamUpdate{Version: e.Version, Reason: e.Reason, IfMatch: version})
	case "webhook":
		if secret == "" { // the API takes that for taking messages no longer
			return admin.UpstreamView{}, &admin.Problem{Status: http.StatusBadRequest, Detail: "Write the signing secret of the endpoint; it begins with whsec_."}
		}
		e.Done = "Messages signed with this secret are taken."
		return v.api.SetWebhook(v.ctx(), name, admin.SigningSecret{Secret: secret, IfMatch: version})
	case "webhook-off":
		e.Done = "No message is taken any more."
		return v.api.SetWebhook(v.ctx(), name, admin.SigningSecret{IfMatch: version})
	case "remove":
		return admin.UpstreamView{}, v.api.RemoveUpstream(v.ctx(), name)
	default:
		return admin.UpstreamView{}, nothingToDo
	}
}

// KeysOf is where an upstream's keys are listed.
func (u upstreamPage) KeysOf() string { return "/keys?" + url.Values{"upstream": {u.Name}}.Encode() }
