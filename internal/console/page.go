package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// page is what a page's function returns: what to show and in which frame.
type page struct {
	Title string // of the window: the page's name
	// Heading is a sentence about now; Sub says more, and may be empty.
	Heading string
	Sub     template.HTML
	// Crumb leads back to the list that the page is an item of.
	Crumb *link
	// Nav is the page of the side list that it belongs to: "/", "/keys", "/audit"...
	Nav      string
	Template string // name of the file in templates, without .html
	Data     any
	Status   int // 0: 200
	// Key and Upstream are what the stop panel offers first; empty: only everything.
	Key      stopTarget
	Upstream stopTarget
	// Bare has no frame: nobody has signed in.
	Bare bool
	// Onward is where the page goes on to by itself; empty: nowhere.
	Onward string
}

type link struct{ Href, Text string }

// stopTarget is something that can be stopped.
type stopTarget struct {
	ID, Name string
	Keys     int // of an upstream
}

// redirect is a page's way of saying that another one goes on; it is an error so that functions have one way out.
type redirect string

// Error names the target.
func (r redirect) Error() string { return "go on at " + string(r) }

// visit is one request of somebody who has signed in.
type visit struct {
	*console
	r   *http.Request
	w   http.ResponseWriter
	who admin.Actor
	api *admin.Client
	now time.Time
	// status is the server's, for the frame and for pages; the zero value if the API does not answer.
	status admin.Status
	// known is the permission map, once it was asked for.
	known []admin.Scope
}

// scopeMap is the permission map. It is asked for once a visit: it is large, and forms need it in several places.
func (v *visit) scopeMap() ([]admin.Scope, error) {
	if v.known != nil {
		return v.known, nil
	}
	all, err := v.api.Permissions(v.ctx())
	v.known = all.Items
	return v.known, err
}

func (v *visit) ctx() context.Context { return v.r.Context() }

// page registers a page for who has signed in; everybody else is sent to sign in first.
func (s *console) page(pattern string, f func(*visit) (*page, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.whose(r)
		if !ok {
			s.toSignIn(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			http.Error(w, "The form could not be read: "+err.Error(), http.StatusBadRequest)
			return
		}
		v := &visit{console: s, r: r, w: w, who: who, api: s.client(who)}
		var err error
		if v.status, err = v.api.Status(r.Context()); err != nil {
			v.status.Trouble = err.Error()
		}
		v.now = v.status.AsOf
		if v.now.IsZero() {
			v.now = time.Now()
		}
		p, err := f(v)
		if err != nil {
			s.fail(v, err)
			return
		}
		s.show(v, p)
	})
}

// fail shows what keeps a page from being shown.
func (s *console) fail(v *visit, err error) {
	var to redirect
	if errors.As(err, &to) {
		http.Redirect(v.w, v.r, string(to), http.StatusSeeOther)
		return
	}
	var problem *admin.Problem
	p := &page{Title: "Not shown", Heading: "This page cannot be shown.", Template: "failure", Status: http.StatusInternalServerError, Data: err.Error()}
	switch {
	case errors.As(err, &problem):
		p.Status, p.Data = problem.Status, problem.Error()
		if p.Status == http.StatusNotFound {
			p.Heading = "There is nothing here."
		}
	case v.r.Context().Err() != nil:
		return // nobody waits for it
	default:
		s.Log.Error("a page failed", "path", v.r.URL.Path, "error", err)
	}
	s.show(v, p)
}

func (v *visit) nothingHere() (*page, error) {
	return nil, &admin.Problem{Status: http.StatusNotFound, Detail: "No page has the address " + v.r.URL.Path + "."}
}

// frame is what the templates get: the page, and everything around it.
type frame struct {
	*page
	Who    admin.Actor
	Status admin.Status
	Now    time.Time
	Zone   string // the town, as pages say it
	ZoneID string
	Theme  string
	Path   string
	// StoppedAll is the brake on everything.
	StoppedAll *brakeView
	Pages      []navItem
}

// May reports whether whoever looks has a right: stop, see, lower or change. What he may not do is not offered; the API
// refuses it all the same.
func (f frame) May(do string) bool { return f.Who.May(do) }

type navItem struct {
	Href, Text, Icon string
	Current          bool
	Settings         bool
}

var nav = []navItem{
	{Href: "/", Text: "Overview", Icon: "overview"},
	{Href: "/keys", Text: "Keys", Icon: "key"},
	{Href: "/audit", Text: "Audit", Icon: "audit"},
	{Href: "/permissions", Text: "Permissions", Icon: "map"},
	{Href: "/upstreams", Text: "Upstreams", Icon: "up", Settings: true},
	{Href: "/rates", Text: "Rates", Icon: "rate", Settings: true},
	{Href: "/operators", Text: "Operators", Icon: "people", Settings: true},
	{Href: "/alerts", Text: "Alerts", Icon: "bell", Settings: true},
}

func (s *console) show(v *visit, p *page) {
	f := frame{page: p, Who: v.who, Status: v.status, Now: v.now}
	for _, b := range v.status.Brakes {
		if b.Scope == "all" {
			all := viewBrake(b)
			f.StoppedAll = &all
		}
	}
	for _, item := range nav {
		item.Current = item.Href == p.Nav
		f.Pages = append(f.Pages, item)
	}
	s.render(v.w, v.r, p, f)
}

// write shows a page to somebody who has not signed in.
func (s *console) write(w http.ResponseWriter, r *http.Request, status int, p *page) {
	p.Status = status
	s.render(w, r, p, frame{page: p})
}

// render fills the template before a byte is sent: a fault in it must not leave half a page.
func (s *console) render(w http.ResponseWriter, r *http.Request, p *page, f frame) {
	zone := s.zone(r)
	f.Path, f.Zone, f.ZoneID, f.Theme = r.URL.RequestURI(), zoneName(zone), zone.String(), theme(r)
	t, ok := s.templates[p.Template]
	if !ok {
		s.Log.Error("a page has no template", "template", p.Template)
		http.Error(w, "This page has no template.", http.StatusInternalServerError)
		return
	}
	var out bytes.Buffer
	if err := t.Execute(&out, zone, f); err != nil {
		s.Log.Error("a page could not be made", "path", r.URL.Path, "error", err)
		http.Error(w, "This page could not be made; the server's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(max(p.Status, http.StatusOK))
	_, _ = out.WriteTo(w) // the browser went away
}

// theme is what a cookie says of light and dark; empty: as the system has it.
func theme(r *http.Request) string {
	c, err := r.Cookie("keybrake_theme")
	if err != nil || (c.Value != "light" && c.Value != "dark") {
		return ""
	}
	return c.Value
}

// zone is whose times this browser wants to see: what a cookie says, or the console's.
func (s *console) zone(r *http.Request) *time.Location {
	if c, err := r.Cookie("keybrake_zone"); err == nil && c.Value != "" && c.Value != "Local" {
		if z, err := time.LoadLocation(c.Value); err == nil {
			return z
		}
	}
	return s.Zone
}

// setLook keeps light or dark, and a time zone, in cookies; without them the system and the console decide. A zone that
// there is not changes nothing.
func (v *visit) setLook() (*page, error) {
	theme, zone := v.r.PostFormValue("theme"), strings.TrimSpace(v.r.PostFormValue("zone"))
	if theme != "light" && theme != "dark" {
		theme = ""
	}
	http.SetCookie(v.w, look("keybrake_theme", theme))
	if _, err := time.LoadLocation(zone); err == nil && zone != "Local" {
		http.SetCookie(v.w, look("keybrake_zone", zone))
	}
	return nil, redirect(within(v.r.PostFormValue("next")))
}

// look is a cookie that keeps a choice for a year; an empty one forgets it.
func look(name, value string) *http.Cookie {
	c := &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// pageTemplate is one page's template with the frame around it. Words for times differ with each request, and a template's
// functions are bound to it, so each one that is being filled is another copy; copies are used again.
type pageTemplate struct {
	t      *template.Template // never executed: then it could not be copied
	copies sync.Pool
}

type templateCopy struct {
	t     *template.Template
	clock clock
}

// Execute fills it; times are shown in a zone.
func (p *pageTemplate) Execute(w *bytes.Buffer, zone *time.Location, f frame) error {
	c, ok := p.copies.Get().(*templateCopy)
	if !ok {
		t, err := p.t.Clone()
		if err != nil {
			return err
		}
		c = &templateCopy{t: t}
		c.t.Funcs(c.clock.words())
	}
	c.clock = clock{zone, f.Now}
	if err := c.t.ExecuteTemplate(w, "frame", f); err != nil {
		return err
	}
	p.copies.Put(c)
	return nil
}

// shared are the files that every page's template has; each other file is a page.
var shared = []string{"frame.html", "icons.html", "parts.html"}

func parseTemplates() (map[string]*pageTemplate, error) {
	base := template.New("").Funcs(new(clock).words()).Funcs(parts)
	for _, name := range shared {
		if _, err := base.ParseFS(files, "templates/"+name); err != nil {
			return nil, err
		}
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	out := map[string]*pageTemplate{}
	for _, name := range names {
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if _, err := t.ParseFS(files, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[strings.TrimSuffix(path.Base(name), ".html")] = &pageTemplate{t: t}
	}
	return out, nil
}

// host is the address without the port.
func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
