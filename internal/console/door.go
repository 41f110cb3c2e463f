package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// Door knows who comes in. It is safe for concurrent use.
type Door interface {
	// SignIn opens a session for the owner of a token and returns what the browser is to keep. A *admin.Refusal says why not.
	SignIn(ctx context.Context, token, from, agent string) (session string, err error)
	// Whose tells whose session it is.
	Whose(ctx context.Context, session string) (admin.Actor, bool)
	// SignOut ends a session.
	SignOut(ctx context.Context, session string)
}

// sessionCookie keeps the session. The prefix makes browsers take it from this host alone, over TLS or loopback.
const sessionCookie = "keybrake_session"

// signIn registers what is open to everybody: the way in.
func (s *console) signIn() {
	s.mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		s.showLogin(w, r, http.StatusOK, "")
	})
	s.mux.HandleFunc("POST /login", s.login)
	s.mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(sessionCookie); err == nil {
			s.Door.SignOut(r.Context(), c.Value)
		}
		http.SetCookie(w, s.cookie(r, "", -1))
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	})
}

type loginPage struct {
	Problem string
	Next    string
}

func (s *console) showLogin(w http.ResponseWriter, r *http.Request, status int, problem string) {
	next := r.FormValue("next")
	s.write(w, r, status, &page{Title: "Sign in", Template: "login", Data: loginPage{problem, next}, Bare: true})
}

func (s *console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	session, err := s.Door.SignIn(r.Context(), strings.TrimSpace(r.PostFormValue("token")), host(r.RemoteAddr), r.UserAgent())
	if err != nil {
		s.showLogin(w, r, http.StatusUnauthorized, err.Error())
		return
	}
	http.SetCookie(w, s.cookie(r, session, 0))
	http.Redirect(w, r, within(r.PostFormValue("next")), http.StatusSeeOther)
}

// cookie makes the session's cookie. Without TLS (loopback) a browser would not send a Secure one back.
func (s *console) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	}
}

// within returns a path of this console, or the overview: a link must not lead a signed-in operator elsewhere.
func within(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		return "/"
	}
	return u.RequestURI()
}

// whose finds who has signed in.
func (s *console) whose(r *http.Request) (admin.Actor, bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return admin.Actor{}, false
	}
	who, ok := s.Door.Whose(r.Context(), c.Value)
	who.From = host(r.RemoteAddr)
	return who, ok && who.Name != ""
}
