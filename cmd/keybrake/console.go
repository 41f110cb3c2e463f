package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/console"
)

// operatorsHandler is what the operators' listener serves: the API, health, and the console everywhere else.
func (s *server) operatorsHandler() (http.Handler, error) {
	api := s.admin.Handler()
	pages, err := console.New(console.Config{API: api, Door: &door{admin: s.admin, sessions: map[string]string{}}, Log: s.log, Gateway: func() string { return s.agentsURL }})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/admin/"), r.URL.Path == "/healthz", r.URL.Path == "/readyz", r.URL.Path == "/metrics":
			api.ServeHTTP(w, r)
		case !s.admin.OurHost(r.Host):
			http.Error(w, "the host name "+r.Host+" is not this server's", http.StatusForbidden)
		default:
			pages.ServeHTTP(w, r)
		}
	}), nil
}

// door keeps who has signed in as long as the process lives: a session is a name for the token that opened it, and ends
// with it.
type door struct {
	admin    *admin.Service
	mu       sync.Mutex
	sessions map[string]string
}

// SignIn implements console.Door.
func (d *door) SignIn(_ context.Context, token, _, _ string) (string, error) {
	if _, ok := d.admin.Whose(token); !ok {
		return "", errors.New("This is no valid operator's token.")
	}
	id := rand.Text()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[id] = token
	return id, nil
}

// Whose implements console.Door.
func (d *door) Whose(_ context.Context, session string) (admin.Actor, bool) {
	d.mu.Lock()
	token := d.sessions[session]
	d.mu.Unlock()
	return d.admin.Whose(token)
}

// SignOut implements console.Door.
func (d *door) SignOut(_ context.Context, session string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, session)
}
