package console

import (
	"net/http"
	"time"
)

const (
	openIDPath = "/login/openid"
	// OpenIDReturnPath is where the provider sends browsers back: what is registered there.
	OpenIDReturnPath = "/login/openid/return"
	// openIDTime is how long somebody may take at the provider.
	openIDTime = 10 * time.Minute
)

// keptCookie keeps what the provider's answer must match. Unlike the session it is Lax: the browser comes back from another
// site.
func (s *console) keptCookie(r *http.Request, value string, age time.Duration) *http.Cookie {
	c := &http.Cookie{
		Name: s.cookieName(r, "keybrake_openid"), Value: value, Path: "/", MaxAge: int(age.Seconds()), HttpOnly: true, Secure: s.secure(r), SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// toProvider sends a browser to the provider. It is a link, not a form: our policy lets forms go nowhere else.
func (s *console) toProvider(w http.ResponseWriter, r *http.Request) {
	at, keep, err := s.Door.BeginOpenID(r.Context(), within(r.URL.Query().Get("next")))
	if err != nil {
		status, problem := s.turnedAway(err)
		s.showLogin(w, r, status, problem)
		return
	}
	http.SetCookie(w, s.keptCookie(r, keep, openIDTime))
	http.Redirect(w, r, at, http.StatusSeeOther)
}

// fromProvider takes a browser that comes back.
func (s *console) fromProvider(w http.ResponseWriter, r *http.Request) {
	kept := ""
	if c, err := r.Cookie(s.cookieName(r, "keybrake_openid")); err == nil {
		kept = c.Value
	}
	http.SetCookie(w, s.keptCookie(r, "", 0))
	entry, next, err := s.Door.FinishOpenID(r.Context(), kept, r.URL.Query(), visitor(r))
	if err != nil {
		status, problem := s.turnedAway(err)
		s.showLogin(w, r, status, problem)
		return
	}
	s.remember(w, r, entry)
	s.onward(w, r, link{within(next), backHere}) // a redirect would still be the other site's request, and go without the cookie
}
