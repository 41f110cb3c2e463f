package admin

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Limits of the guard.
const (
	// badTokens is how many wrong tokens per second are told so; the others are told to slow down. Guessing is
	// hopeless at any rate (160 random bits): this keeps a loop from filling the log. A good token is never
	// refused for others' bad ones: a stop must work.
	badTokens      = 1
	badTokensBurst = 20
)

type actorKey struct{}

// actorOf returns who sent the request. The guard has put it there; without it nobody did.
func actorOf(ctx context.Context) Actor {
	who, _ := ctx.Value(actorKey{}).(Actor)
	return who
}

// guard lets a request through only under a host name that is ours and with an operator's token; what the token's role
// covers, each route says. Health and the API's description need no token.
func (s *Service) guard(next http.Handler) http.Handler {
	bad := rate.NewLimiter(badTokens, badTokensBurst)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // answers show secrets
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !s.OurHost(r.Host) {
			problem(w, http.StatusForbidden, "the host name "+r.Host+" is not this server's; call it by address, or name it in the server's settings")
			return
		}
		if actorOf(r.Context()) != (Actor{}) || open(r) { // who comes by As has signed in
			next.ServeHTTP(w, r)
			return
		}
		who, ok := s.present(bearer(r.Header))
		if !ok {
			if !bad.AllowN(time.Now(), 1) {
				problem(w, http.StatusTooManyRequests, "too many wrong tokens; wait a second")
				return
			}
			s.Log.Warn("a wrong token at the admin port", "from", r.RemoteAddr)
			w.Header().Set("WWW-Authenticate", `Bearer realm="keybrake admin"`)
			problem(w, http.StatusUnauthorized, "a valid operator's token is needed; set KEYBRAKE_ADMIN_TOKEN or use the one that `keybrake serve` left in server.json")
			return
		}
		who.From = remote(r)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), actorKey{}, who)))
	})
}

// open lists what needs no token.
func open(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", Description:
		return r.Method == http.MethodGet
	}
	return false
}

// OurHost reports whether a request came under a name that is ours. A web page elsewhere can point its own
// name at this address and have a browser here call it; it cannot do so with an address or with localhost.
func (s *Service) OurHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	return slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// bearer returns the token of exactly one Authorization header.
func bearer(h http.Header) string {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func remote(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// problem writes a problem document (RFC 9457), as the API itself does.
func problem(w http.ResponseWriter, status int, detail string) {
	b, err := json.Marshal(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
	if err != nil {
		b = []byte("{}") // there is nothing in it that cannot be marshalled
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client went away
}
