package main

import (
	"net/http"
	"strings"

	"github.com/keybrake/keybrake/internal/console"
)

// operatorsHandler is what the operators' listener serves: the API, health, and the console everywhere else.
func (s *server) operatorsHandler() (http.Handler, error) {
	api := s.admin.Handler()
	pages, err := console.New(console.Config{
		API: api, Door: s.admin, Log: s.log, Gateway: func() string { return s.agentsURL },
		Secure: strings.HasPrefix(s.settings.ConsoleURL, "https://"),
	})
	if err != nil {
		return nil, err
	}
	return s.behindProxies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/admin/"), r.URL.Path == "/healthz", r.URL.Path == "/readyz", r.URL.Path == "/metrics":
			api.ServeHTTP(w, r)
		case !s.admin.OurHost(r.Host):
			http.Error(w, "the host name "+r.Host+" is not this server's", http.StatusForbidden)
		default:
			pages.ServeHTTP(w, r)
		}
	}))
}
