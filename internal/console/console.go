package console

import (
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

//go:embed static templates
var files embed.FS

// Config is what the console needs. API and Door are required.
type Config struct {
	// API is what admin.Service.Handler returned: the only way from a page to anything.
	API http.Handler
	// Door knows who comes in.
	Door Door
	// Secure says that browsers come over TLS even where a request does not show it: something in front ends it.
	Secure bool
	// Gateway is the address that agents call, for examples; nil: unknown.
	Gateway func() string
	// Zone is whose times pages show; nil: UTC.
	Zone *time.Location
	Log  *slog.Logger // nil: the default logger
}

// console serves the pages.
type console struct {
	Config
	templates map[string]*pageTemplate
	mux       *http.ServeMux
	stops     measurements
}

// New returns the pages' handler. It serves every path that it is given: mount it beside the API, not in front of it. It
// fails only if a template of this program does not parse.
func New(c Config) (http.Handler, error) {
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	templates, err := parseTemplates()
	if err != nil {
		return nil, fmt.Errorf("read the console's templates: %w", err)
	}
	s := &console{Config: c, templates: templates, mux: http.NewServeMux()}
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, fmt.Errorf("read the console's files: %w", err)
	}
	s.mux.Handle("GET /static/", http.StripPrefix("/static/", cached(http.FileServerFS(static))))
	s.signIn()
	s.pages()
	// A form of another site cannot post here: the browser says where a request comes from.
	return secured(http.NewCrossOriginProtection().Handler(s.mux)), nil
}

// pages is every page for who has signed in, with the file that has it.
func (s *console) pages() {
	s.page("GET /{$}", (*visit).overview) // overview.go
	s.page("GET /stop", (*visit).stopForm)
	s.page("POST /stop", (*visit).stop) // stop.go
	s.page("GET /stopped", (*visit).stopped)
	s.page("POST /resume", (*visit).resume)
	s.page("GET /keys", (*visit).keys)       // keys.go
	s.page("GET /keys/new", (*visit).newKey) // keynew.go
	s.page("POST /keys/new", (*visit).makeKey)
	s.page("GET /keys/{key}", (*visit).key)
	s.page("GET /keys/{key}/edit", (*visit).editKey)
	s.page("POST /keys/{key}/edit", (*visit).saveKey)
	s.page("POST /keys/{key}", (*visit).keyAction)
	s.page("GET /audit", (*visit).audit) // audit.go
	s.page("GET /audit/{id}", (*visit).record)
	s.page("POST /audit/verify", (*visit).verifyAudit)
	s.mux.HandleFunc("GET /audit/export", s.exportAudit)
	s.page("GET /permissions", (*visit).permissions)
	s.page("GET /upstreams", (*visit).upstreams) // upstreams.go
	s.page("POST /upstreams", (*visit).addUpstream)
	s.page("GET /upstreams/{upstream}", (*visit).upstream)
	s.page("POST /upstreams/{upstream}", (*visit).upstreamAction)
	s.page("GET /rates", (*visit).rates) // rates.go
	s.page("POST /rates", (*visit).setRates)
	s.page("GET /operators", (*visit).operators) // operators.go
	s.page("POST /operators", (*visit).operatorsAction)
	s.page("GET /operators/{operator}", (*visit).operator)
	s.page("POST /operators/{operator}", (*visit).operatorAction)
	s.page("GET /alerts", (*visit).alerts) // alerts.go
	s.page("POST /alerts", (*visit).alertsAction)
	s.page("GET /more", func(*visit) (*page, error) {
		return &page{Title: "More", Heading: "Everything else.", Nav: "/more", Template: "more"}, nil
	})
	s.page("POST /look", (*visit).setLook)
	s.mux.HandleFunc("GET /live", s.live) // live.go
	s.page("/", (*visit).nothingHere)
}

// maxForm is the largest form that is read: a file of exchange rates.
const maxForm = 4 << 20

// secured puts the headers on every answer that keep a page what it is.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm) // whoever has not signed in can send something too
		h.Set("Cache-Control", "no-store")               // pages show what only this operator may see
		next.ServeHTTP(w, r)
	})
}

// cached lets browsers keep the style sheets and the script for a while: they are the program's own.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, max-age=300")
		next.ServeHTTP(w, r)
	})
}

// client is the API as whoever has signed in may use it.
func (s *console) client(who admin.Actor) *admin.Client { return admin.As(s.API, who) }
