package console

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// Door knows who comes in: *admin.Service. It is safe for concurrent use; its errors are *admin.Refusal where the visitor
// can do something about it.
type Door interface {
	// SignIn opens a session for the holder of a token.
	SignIn(ctx context.Context, token string, v admin.Visitor) (admin.Entry, error)
	// Link tells whom a link would sign in; Welcome signs in by it.
	Link(link string) (operator string, ok bool)
	Welcome(ctx context.Context, link, name string, v admin.Visitor) (admin.Entry, error)
	// OpenIDLabel names a provider through which people sign in; false if there is none. BeginOpenID and FinishOpenID do so.
	OpenIDLabel() (label string, ok bool)
	BeginOpenID(ctx context.Context, next string) (at, keep string, err error)
	FinishOpenID(ctx context.Context, kept string, answer url.Values, v admin.Visitor) (entry admin.Entry, next string, err error)
	// LeaveOpenID is where a browser goes to sign out at the provider too; false: nowhere.
	LeaveOpenID(ctx context.Context, idToken string) (at string, ok bool)
	// Whose tells whose session it is; active: a person asks, not a page by itself.
	Whose(session string, active bool) (admin.Actor, bool)
	SignOut(ctx context.Context, session string, v admin.Visitor) error
}

// secure reports whether the browser reaches us over TLS, which something in front may do.
func (s *console) secure(r *http.Request) bool { return r.TLS != nil || s.Secure }

// sessionCookie names the cookie that keeps the session. Over TLS browsers take it from this host alone, by its prefix.
func (s *console) sessionCookie(r *http.Request) string { return s.cookieName(r, sessionName) }

// LoginPath is where people sign in: where a provider sends browsers back that have signed out there too.
const LoginPath = "/login"

// What browsers keep.
const (
	sessionName = "keybrake_session"
	vouchedName = "keybrake_vouched" // what a provider vouched with for the session
)

func (s *console) cookieName(r *http.Request, name string) string {
	if s.secure(r) {
		return "__Host-" + name
	}
	return name
}

// cookie makes a cookie of this host. SameSite=Strict: it comes with no request that another site made.
func (s *console) cookie(r *http.Request, name, value string, until time.Time) *http.Cookie {
	c := &http.Cookie{
		Name: s.cookieName(r, name), Value: value, Path: "/", Expires: until, HttpOnly: true, Secure: s.secure(r), SameSite: http.SameSiteStrictMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func visitor(r *http.Request) admin.Visitor {
	return admin.Visitor{From: host(r.RemoteAddr), Agent: r.UserAgent()}
}

// signIn registers what is open to everybody: the ways in.
func (s *console) signIn() {
	s.mux.HandleFunc("GET "+LoginPath, func(w http.ResponseWriter, r *http.Request) {
		s.showLogin(w, r, http.StatusOK, "")
	})
	s.mux.HandleFunc("POST "+LoginPath, s.login)
	s.mux.HandleFunc("GET "+admin.WelcomePath, s.showWelcome)
	s.mux.HandleFunc("POST "+admin.WelcomePath, s.welcome)
	s.mux.HandleFunc("GET "+openIDPath, s.toProvider)
	s.mux.HandleFunc("GET "+OpenIDReturnPath, s.fromProvider)
	s.mux.HandleFunc("POST /logout", s.logout)
}

type loginPage struct {
	Problem string
	Next    string
	OpenID  string // what the provider is called; empty: none
}

func (s *console) showLogin(w http.ResponseWriter, r *http.Request, status int, problem string) {
	label, _ := s.Door.OpenIDLabel()
	s.write(w, r, status, &page{Title: "Sign in", Template: "login", Data: loginPage{problem, r.FormValue("next"), label}, Bare: true})
}

func (s *console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	entry, err := s.Door.SignIn(r.Context(), strings.TrimSpace(r.PostFormValue("token")), visitor(r))
	if err != nil {
		status, problem := s.turnedAway(err)
		s.showLogin(w, r, status, problem)
		return
	}
	s.enter(w, r, entry, within(r.PostFormValue("next")))
}

// enter gives the browser its session and leads on.
func (s *console) enter(w http.ResponseWriter, r *http.Request, entry admin.Entry, next string) {
	s.remember(w, r, entry)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// maxIDToken bounds what a browser is asked to keep of a provider's: many keep no cookie that is longer.
const maxIDToken = 3500

// remember has the browser keep its session, and with what a provider vouched for it, so that it can sign out there too.
func (s *console) remember(w http.ResponseWriter, r *http.Request, entry admin.Entry) {
	http.SetCookie(w, s.cookie(r, sessionName, entry.Session.Reveal(), entry.Expires))
	if len(entry.IDToken) > maxIDToken {
		entry.IDToken = ""
	}
	if _, err := r.Cookie(s.cookieName(r, vouchedName)); err == nil || entry.IDToken != "" {
		http.SetCookie(w, s.cookie(r, vouchedName, entry.IDToken, entry.Expires))
	}
}

// turnedAway is what whoever does not come in is told.
func (s *console) turnedAway(err error) (status int, problem string) {
	var refused *admin.Refusal
	if !errors.As(err, &refused) {
		s.Log.Error("somebody could not sign in", "error", err)
		return http.StatusInternalServerError, "The server could not do that; its log says why."
	}
	return refused.Status(), sentence(refused.Message)
}

// sentence is a message of the API as a sentence.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

func (s *console) logout(w http.ResponseWriter, r *http.Request) {
	s.remember(w, r, admin.Entry{})
	if c, err := r.Cookie(s.sessionCookie(r)); err == nil {
		if err := s.Door.SignOut(r.Context(), c.Value, visitor(r)); err != nil {
			s.Log.Error("a session could not be ended", "error", err)
			s.showLogin(w, r, http.StatusServiceUnavailable, "This browser has forgotten its session, but the server could not end it: it ends by itself after twelve hours.")
			return
		}
	}
	if c, err := r.Cookie(s.cookieName(r, vouchedName)); err == nil {
		if at, ok := s.Door.LeaveOpenID(r.Context(), c.Value); ok {
			s.onward(w, r, link{at, "Sign out at your provider too"}) // forms lead nowhere else, not by a redirect either
			return
		}
	}
	http.Redirect(w, r, LoginPath, http.StatusSeeOther)
}

// welcomePage is where a one-time link leads: one press signs in. Loading the page uses nothing up.
type welcomePage struct {
	Problem string
	Link    string // empty: this link does not work, or nobody came by one
	// Operator is whom it signs in; empty: the first admin, who says their name.
	Operator string
	Name     string // as typed
	// Who is the one who has come in.
	Who admin.Actor
}

func (s *console) showWelcome(w http.ResponseWriter, r *http.Request) {
	link := r.URL.Query().Get("link")
	if who, ok := s.whose(r); ok && link == "" {
		s.write(w, r, http.StatusOK, &page{Title: "Welcome", Template: "welcome", Data: welcomePage{Who: who}, Bare: true})
		return
	}
	operator, ok := s.Door.Link(link)
	if !ok {
		s.write(w, r, http.StatusNotFound, &page{Title: "Sign in", Template: "welcome", Bare: true, Data: welcomePage{
			Problem: "This link does not work: it was used, has expired, or another one took its place.",
		}})
		return
	}
	s.write(w, r, http.StatusOK, &page{Title: "Sign in", Template: "welcome", Data: welcomePage{Link: link, Operator: operator}, Bare: true})
}

func (s *console) welcome(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	link, name := r.PostFormValue("link"), strings.TrimSpace(r.PostFormValue("name"))
	entry, err := s.Door.Welcome(r.Context(), link, name, visitor(r))
	if err == nil {
		s.enter(w, r, entry, admin.WelcomePath)
		return
	}
	status, problem := s.turnedAway(err)
	data := welcomePage{Problem: problem, Name: name}
	if operator, ok := s.Door.Link(link); ok {
		data.Link, data.Operator = link, operator
	}
	s.write(w, r, status, &page{Title: "Sign in", Template: "welcome", Data: data, Bare: true})
}

// within returns a path of this console, or the overview: a link must not lead a signed-in operator elsewhere.
func within(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		return "/"
	}
	return u.RequestURI()
}

// byItself is the header with which our script asks for a page again.
const byItself = "Keybrake-Live"

// whose finds who has signed in. What a page does by itself keeps no session open.
func (s *console) whose(r *http.Request) (admin.Actor, bool) {
	c, err := r.Cookie(s.sessionCookie(r))
	if err != nil {
		return admin.Actor{}, false
	}
	who, ok := s.Door.Whose(c.Value, r.Header.Get(byItself) == "" && r.URL.Path != "/live")
	who.From = host(r.RemoteAddr)
	return who, ok && who.Name != ""
}

// toSignIn sends somebody who is not signed in to do so. Who followed a link on another site may be signed in all the same:
// the browser kept the cookie back, and sends it when our own page asks.
func (s *console) toSignIn(w http.ResponseWriter, r *http.Request) {
	at := r.URL.RequestURI()
	if r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		s.onward(w, r, link{within(at), backHere})
		return
	}
	http.Redirect(w, r, "/login?next="+template.URLQueryEscaper(at), http.StatusSeeOther)
}

// onward answers with a page that goes on to another by itself.
func (s *console) onward(w http.ResponseWriter, r *http.Request, next link) {
	s.write(w, r, http.StatusOK, &page{Title: "One moment", Template: "onward", Data: next, Onward: next.Href, Bare: true})
}

// backHere is what a link says that leads on within the console.
const backHere = "Go on to Keybrake"
