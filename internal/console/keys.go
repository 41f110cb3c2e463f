package console

import (
	"html/template"
	"net/url"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// keysPage answers: which agents hold what, who is close to a cap?
type keysPage struct {
	Rows      []keyRow
	Filter    admin.StandingFilter
	Upstreams []string
	Next      string // query of the next page; empty on the last
	Filtered  bool
}

// keyRow is a key in a list.
type keyRow struct {
	admin.KeyStanding
	Bar *capBar // nil: it has no cap
}

// keysPerPage is how many keys a page shows: as many as somebody looks through before searching.
const keysPerPage = 50

func (v *visit) keys() (*page, error) {
	f := admin.StandingFilter{
		Search: v.r.FormValue("q"), Brake: v.r.FormValue("brake"), Mode: v.r.FormValue("mode"), Sort: v.r.FormValue("order"),
		KeyFilter: admin.KeyFilter{Upstream: v.r.FormValue("upstream"), Revoked: v.r.FormValue("revoked") != "", After: v.r.FormValue("after"), Limit: keysPerPage},
	}
	list, err := v.api.Standings(v.ctx(), f)
	if err != nil {
		return nil, err
	}
	upstreams, err := v.api.Upstreams(v.ctx())
	if err != nil {
		return nil, err
	}
	o, err := v.api.Overview(v.ctx())
	if err != nil {
		return nil, err
	}
	d := keysPage{Filter: f, Filtered: f.Search+f.Brake+f.Mode+f.Upstream != "" || f.Revoked}
	for _, u := range upstreams.Items {
		d.Upstreams = append(d.Upstreams, u.Name)
	}
	for _, k := range list.Items {
		row := keyRow{KeyStanding: k}
		if k.Closest != nil {
			bar := newCapBar(*k.Closest)
			row.Bar = &bar
		}
		d.Rows = append(d.Rows, row)
	}
	if list.Next != "" {
		q := v.r.URL.Query()
		q.Set("after", list.Next)
		d.Next = "?" + q.Encode()
	}
	return &page{
		Title: "Keys", Heading: "Keys", Nav: "/keys", Template: "keys", Data: d,
		Sub: template.HTML(template.HTMLEscapeString(keysWords(o))),
	}, nil
}

func keysWords(o admin.Overview) string {
	s := plural(o.Keys, "key") + ", one per agent and runner. " + count(int64(o.Keys-o.Stopped-o.ReadOnly)) + " normal"
	if o.ReadOnly > 0 {
		s += ", " + count(int64(o.ReadOnly)) + " read-only"
	}
	if o.Stopped > 0 {
		s += ", " + count(int64(o.Stopped)) + " stopped"
	}
	return s + "."
}

// keyPage answers: what may this agent do, what has it done, is it in a loop?
type keyPage struct {
	admin.KeyDetail
	Caps    []capBar
	Charts  []chart
	PerCall []admin.CapView
	Scopes  []scopeRow
	Last    []record
	History []record // of operators' actions on the key
	Loops   []admin.Alert
	// Do is the form that was refused, At and Problem why, Reason what was typed.
	At                  map[string]string
	Do, Problem, Reason string
}

// scopeRow is a scope of a key with its risk.
type scopeRow struct {
	admin.Grant
	Risk  string
	Title string
	Worst string
}

const (
	// keyCalls and keyHistory are how many calls and changes a key's page shows.
	keyCalls   = 12
	keyHistory = 10
)

func (v *visit) key() (*page, error) { return v.keyWith(v.r.PathValue("key"), keyPage{}) }

func (v *visit) keyWith(id string, d keyPage) (*page, error) {
	k, err := v.api.Key(v.ctx(), id)
	if err != nil {
		return nil, err
	}
	d.KeyDetail = k
	for _, c := range k.Caps {
		if c.Per != "call" {
			d.Caps = append(d.Caps, newCapBar(c))
		}
	}
	for _, c := range k.View.Caps {
		if c.Per == "call" {
			d.PerCall = append(d.PerCall, c)
		}
	}
	history, err := v.api.History(v.ctx(), k.ID)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(k.View.Timezone)
	if err != nil {
		zone = v.zone(v.r)
	}
	d.Charts = keyCharts(history, zone)
	if d.Scopes, err = v.scopeRows(k.View.Scopes); err != nil {
		return nil, err
	}
	if d.Last, err = v.lastCalls(admin.AuditFilter{Key: k.ID}, keyCalls); err != nil {
		return nil, err
	}
	if d.History, err = v.history(k.ID); err != nil {
		return nil, err
	}
	loops, err := v.api.Alerts(v.ctx(), admin.AlertFilter{Key: k.ID, Kind: "loop"})
	if err != nil {
		return nil, err
	}
	d.Loops = loops.Items[:min(len(loops.Items), keyHistory)]
	return &page{
		Title: k.Name, Heading: k.Name, Nav: "/keys", Template: "key", Data: d, Crumb: &link{"/keys", "Keys"},
		Key: stopTarget{ID: k.ID, Name: k.Name}, Upstream: stopTarget{ID: k.Upstream, Name: k.Upstream},
	}, nil
}

func (v *visit) scopeRows(grants []admin.Grant) ([]scopeRow, error) {
	all, err := v.scopeMap()
	if err != nil {
		return nil, err
	}
	of := map[string]*admin.Scope{}
	for i := range all {
		of[all[i].Resource] = &all[i]
	}
	var out []scopeRow
	for _, g := range grants {
		row := scopeRow{Grant: g}
		if s := of[g.Resource]; s != nil {
			row.Risk, row.Title, row.Worst = s.Risk, s.Title, s.Worst
			if g.Access != "write" {
				row.Risk = ""
			}
		}
		out = append(out, row)
	}
	return out, nil
}

// history is what operators did to a key, newest first.
func (v *visit) history(id string) ([]record, error) {
	page, err := v.api.Audit(v.ctx(), admin.AuditFilter{Key: id, Deeds: true, Limit: keyHistory})
	if err != nil {
		return nil, err
	}
	return readRecords(page.Items)
}

// keyAction does what a form on the key's page asks for.
func (v *visit) keyAction() (*page, error) {
	id, d := v.r.PathValue("key"), keyPage{Do: v.r.PostFormValue("do"), Reason: v.r.PostFormValue("reason")}
	var err error
	switch d.Do {
	case "rotate":
		return v.rotate(id)
	case "revoke":
		_, err = v.api.RevokeKey(v.ctx(), id, d.Reason)
	case "resume":
		_, err = v.api.Resume(v.ctx(), admin.ResumeRequest{Target: admin.Target{Keys: []string{id}}, Reason: d.Reason})
	default:
		return nil, nothingToDo
	}
	if _, ok := refused(err); ok {
		d.At, d.Problem = beside(err, "body.reason")
		return typedAgain(v.keyWith(id, d))
	}
	if err != nil {
		return nil, err
	}
	return nil, redirect("/keys/" + url.PathEscape(id))
}
