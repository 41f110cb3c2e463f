package sandbox

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// apiVersion is answered where a request names no Stripe-Version.
const apiVersion = "2026-08-26.dahlia"

// How much is remembered. Without bounds a benchmark of minutes would fill the
// memory; [Options.Unbounded] lifts all but the journal's.
const (
	journalKeep  = 20_000  // arrivals
	keepEvents   = 50_000  // events
	keepKeys     = 100_000 // idempotency keys, about 2 KB each
	keepObjects  = 200_000 // objects of each type
	idLength     = 24
	requestIDLen = 14
)

// Mode is the half of Stripe that is imitated.
type Mode string

// The modes; a key of the other mode is not known here.
const (
	ModeTest Mode = "test"
	ModeLive Mode = "live"
)

// Options say how to build a [Server]. The zero value is a test-mode sandbox on
// the wall clock.
type Options struct {
	// Seed decides every id: the same seed and order of calls give the same ids.
	Seed int64
	// Now is the clock for created, filters and the life of idempotency keys;
	// nil is time.Now. It must be safe for concurrent use.
	Now func() time.Time
	// Mode is test (also when empty) or live. Live only changes key prefixes and
	// livemode: no money is real here.
	Mode Mode
	// Settle are currencies that the account has no balance in, with what one of their
	// minor units is in cents: what moves in them is booked in dollars. The rest is
	// booked in its own currency. Payouts must be in dollars then.
	Settle map[string]float64
	// Unbounded keeps every object, event and idempotency key. Otherwise the
	// oldest of each are dropped at a bound, and /_sandbox/healthz counts them.
	Unbounded bool
}

// Server is one Stripe account in memory. It is an http.Handler, and all its
// methods are safe for concurrent use.
type Server struct {
	opts   Options
	routes *router

	mu        sync.Mutex
	ids, reqs *rand.Rand
	platform  *account
	connected []*account // in order of creation
	keys      map[string]*credential
	journal   journal
	effects   []Effect
	faults    []*Fault
	released  chan struct{}
	hanging   int
	running   atomic.Int64 // arrivals that are not answered yet
	seeded    *Seeded
	ahead     atomic.Int64 // nanoseconds that Advance has added to the clock
}

// New makes an empty account; [Server.Seed] fills it.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Mode == "" {
		o.Mode = ModeTest
	}
	s := &Server{opts: o, routes: newRouter(), released: make(chan struct{}), keys: map[string]*credential{}}
	s.clear()
	return s
}

// Reset forgets everything but the restricted keys: objects, journal, effects,
// faults and idempotency keys. Ids start again from the seed.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.faults = nil
	s.releaseLocked()
}

// Close lets hanging calls go, so that an HTTP server around s can shut down.
func (s *Server) Close() { s.ClearFaults() }

func (s *Server) clear() {
	s.ids = rand.New(rand.NewPCG(uint64(s.opts.Seed), 0x5ca1ab1e))
	s.reqs = rand.New(rand.NewPCG(uint64(s.opts.Seed), 0xc0ffee))
	s.platform = s.newPlatform("acct_" + s.random(s.ids, 16))
	s.connected = nil
	s.journal = journal{keep: journalKeep}
	s.effects, s.seeded = nil, nil
	s.ahead.Store(0)
}

// now is the time on the clock, moved ahead by Advance.
func (s *Server) now() time.Time { return s.opts.Now().Add(time.Duration(s.ahead.Load())) }

// pass lets the time that went by since the last call do its work, and returns the time.
func (s *Server) pass() time.Time {
	at := s.now()
	s.platform.tick(at)
	for _, a := range s.connected {
		a.tick(at)
	}
	return at
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (s *Server) random(from *rand.Rand, n int) string {
	b := make([]byte, n)
	var bits uint64
	for i := range b {
		if i%10 == 0 { // 62^10 < 2^60
			bits = from.Uint64()
		}
		b[i] = base62[bits%62]
		bits /= 62
	}
	return string(b)
}

func (s *Server) id(prefix string) string          { return prefix + "_" + s.random(s.ids, idLength) }
func (s *Server) requestID() string                { return "req_" + s.random(s.reqs, requestIDLen) }
func (s *Server) live() bool                       { return s.opts.Mode == ModeLive }
func (s *Server) head(prefix string, c *call) head { return head{id: s.id(prefix), created: c.now} }

// answer is what goes back over HTTP.
type answer struct {
	status   int
	body     []byte
	retry    string // Stripe-Should-Retry
	replayed bool
	original string // request id of the run that this answers for
	location string
	limited  string // Stripe-Rate-Limited-Reason
	effects  []string
}

// inbound is a request that may run: judged, parsed, and holding its idempotency key.
type inbound struct {
	c *call
	x *expansion
}

// ServeHTTP answers one request: Stripe's routes, and the control routes under
// /_sandbox/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.control(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit(r)))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		panic(http.ErrAbortHandler) // the client broke off its own request; nothing arrived
	}
	faults := s.matchFaults(r.Method, r.URL.Path)
	s.running.Add(1)
	defer s.running.Add(-1)
	arrival := s.arrive(r, body, secretOf(r.Header), faultNames(faults))
	ans, cut := s.serve(r, body, arrival, faults, tooLarge != nil)
	s.mu.Lock()
	arrival.Effects = ans.effects
	if !cut {
		arrival.Status, arrival.Replayed = ans.status, ans.replayed
	}
	s.mu.Unlock()
	if cut {
		panic(http.ErrAbortHandler) // net/http closes the connection without an answer
	}
	write(w, r, ans, arrival.RequestID, mangling(faults))
}

// bodyLimit is how large a request may be: files come in whole.
func bodyLimit(r *http.Request) int64 {
	if path.Clean(r.URL.Path) == "/v1/files" {
		return maxFile
	}
	return maxBody
}

// serve runs one request with its faults. The answer is never nil; with cut it is not sent.
func (s *Server) serve(r *http.Request, body []byte, arrival *Arrival, faults []Fault, tooLarge bool) (ans *answer, cut bool) {
	none := &answer{}
	if findFault(faults, false, FaultRateLimit) != nil || findFault(faults, true, FaultRateLimit) != nil {
		ans := errorAnswer(http.StatusTooManyRequests)
		ans.limited = "global-rate"
		return ans, false
	}
	if tooLarge {
		return errorAnswer(http.StatusRequestEntityTooLarge), false
	}
	in, ans := s.prepare(r, body, arrival)
	s.wait(faults)
	if instead, cut := s.strike(r.Context(), faults, false); cut || instead != nil {
		s.settleKey(in, instead, faults)
		if cut {
			return none, true
		}
		return instead, false
	}
	if in != nil {
		ans = s.execute(in, faults)
	}
	instead, cut := s.strike(r.Context(), faults, true)
	if instead != nil {
		instead.effects = ans.effects
		return instead, false
	}
	return ans, cut
}

// settleKey decides what is remembered of a call that a fault stopped before its effect.
func (s *Server) settleKey(in *inbound, instead *answer, faults []Fault) {
	if in == nil || in.c.idemKey == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := findFault(faults, false, FaultError)
	if f != nil && instead != nil && f.Memory == MemoryError {
		in.c.s.idem.finish(in.c.idemKey, instead.status, instead.body)
		return
	}
	in.c.s.idem.forget(in.c.idemKey)
}

// prepare reads and judges a request up to the point where it would execute. It
// returns either the request or the answer that ends it.
func (s *Server) prepare(r *http.Request, body []byte, arrival *Arrival) (*inbound, *answer) {
	p, err := parseRequest(r.URL.RawQuery, r.Header.Get("Content-Type"), body, isV2(path.Clean(r.URL.Path)))
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.pass()
	c := &call{s: s.platform, p: p, at: at, now: at.Unix(), reqID: arrival.RequestID, path: path.Clean(r.URL.Path)}
	x, fail := s.judge(c, r, err)
	if fail != nil {
		return nil, s.failure(c, fail)
	}
	if c.idemKey == "" {
		return &inbound{c, x}, nil
	}
	first, fail := c.s.idem.begin(c, c.path, at)
	if fail != nil {
		return nil, s.failure(c, fail)
	}
	if first != nil {
		return nil, &answer{status: first.status, body: first.body, replayed: true, original: first.reqID}
	}
	return &inbound{c, x}, nil
}

// judge is everything before execution: none of its refusals is remembered.
func (s *Server) judge(c *call, r *http.Request, parseErr error) (*expansion, *stripeError) {
	var meta map[string]string
	if !isV2(c.path) {
		meta = takeMeta(c.p)
	}
	secret := secretOf(r.Header)
	if meta["key"] != "" {
		secret = meta["key"]
	}
	var fail *stripeError
	if c.who, fail = s.authenticate(secret); fail != nil {
		return nil, fail
	}
	if parseErr != nil {
		return nil, parseFailure(parseErr)
	}
	account := r.Header.Get("Stripe-Account")
	if at := r.Header.Get("Stripe-Context"); at != "" {
		account = at[strings.LastIndex(at, "/")+1:]
	}
	if meta["_stripe_account"] != "" {
		account = meta["_stripe_account"]
	}
	if c.s, fail = s.onBehalfOf(c.who, account); fail != nil {
		c.s = s.platform
		return nil, fail
	}
	if v := r.Header.Get("Stripe-Version"); v != "" && !validVersion(v) {
		return nil, errInvalid("", "", "Invalid Stripe API version: "+v)
	}
	return s.route(c, methodOf(r, meta["_method"]), r.Header.Get("Idempotency-Key"))
}

// takeMeta removes the parameters that override headers from p.
func takeMeta(p *node) map[string]string {
	if p == nil {
		return nil
	}
	var meta map[string]string
	for _, name := range metaParams {
		if v := p.remove(name); v != nil {
			if meta == nil {
				meta = make(map[string]string)
			}
			meta[name] = v.text()
		}
	}
	return meta
}

// route finds the operation and checks permission, parameters and expansions.
func (s *Server) route(c *call, method, idemKey string) (*expansion, *stripeError) {
	op, args := s.routes.match(method, c.path)
	if op == nil {
		return nil, errUnrecognized(method, c.path)
	}
	c.op, c.args = op, args
	if !c.who.may(op.resource, op.access) {
		return nil, errPermission(c.s, c.who, op.resource, op.access)
	}
	if fail := op.params.check("", c.p); fail != nil {
		return nil, fail
	}
	if method == http.MethodPost || method == http.MethodDelete && isV2(c.path) {
		if len(idemKey) > maxIdempotencyKey {
			return nil, &stripeError{status: http.StatusBadRequest, typ: typeIdempotency, retry: "false",
				message: fmt.Sprintf("Idempotency keys may be up to %d characters long.", maxIdempotencyKey)}
		}
		c.idemKey = idemKey
	}
	return c.s.parseExpand(c.p.get("expand"), op.answers, c.who, op.access == Write)
}

// methodOf honours Rack's method override: a gateway that lets it through would
// see a POST where a DELETE runs.
func methodOf(r *http.Request, param string) string {
	if r.Method != http.MethodPost {
		return r.Method
	}
	if param == "" {
		param = r.Header.Get("X-HTTP-Method-Override")
	}
	switch m := strings.ToUpper(param); m {
	case http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return m
	}
	return r.Method
}

// validVersion accepts a date with an optional release name; previews carry betas after ";".
func validVersion(v string) bool {
	date, _, _ := strings.Cut(v, ";")
	date, _, _ = strings.Cut(date, ".")
	_, err := time.Parse(time.DateOnly, date)
	return err == nil
}

// execute runs the operation and remembers its answer under the idempotency key.
func (s *Server) execute(in *inbound, faults []Fault) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	ans := s.run(in)
	if in.c.idemKey == "" {
		return ans
	}
	memory := MemoryDefault
	for i := range faults {
		if faults[i].Memory != MemoryDefault {
			memory = faults[i].Memory
		}
		if faults[i].Kind == FaultForget {
			memory = MemoryNone
		}
	}
	broken := findFault(faults, true, FaultError)
	switch {
	case memory == MemoryNone:
		in.c.s.idem.forget(in.c.idemKey)
	case broken != nil && memory != MemoryAnswer:
		e := errorAnswer(broken.Status)
		in.c.s.idem.finish(in.c.idemKey, e.status, e.body)
	default:
		in.c.s.idem.finish(in.c.idemKey, ans.status, ans.body)
	}
	return ans
}

func (s *Server) run(in *inbound) *answer {
	v, fail := in.c.op.handler(in.c)
	if fail != nil {
		ans := s.failure(in.c, fail)
		ans.original = in.original()
		return ans
	}
	body := in.c.body
	if body == nil || in.x != nil {
		e := &enc{b: make([]byte, 0, 2048), s: in.c.s, who: in.c.who}
		v.render(e, in.x)
		if e.fail != nil {
			return s.failure(in.c, e.fail)
		}
		body = e.b
	}
	return &answer{status: http.StatusOK, body: body, effects: in.c.effects, original: in.original()}
}

// original is the first request of the key: this one.
func (in *inbound) original() string {
	if in.c.idemKey == "" {
		return ""
	}
	return in.c.reqID
}

func (s *Server) failure(c *call, fail *stripeError) *answer {
	e := &enc{b: make([]byte, 0, 512), s: c.s}
	if isV2(c.path) {
		fail.renderV2(e)
	} else {
		fail.render(e, nil)
	}
	return &answer{status: fail.status, body: e.b, retry: fail.retry, effects: c.effects}
}

// write sends an answer, spoiled in one way if asked to.
func write(w http.ResponseWriter, r *http.Request, ans *answer, reqID string, spoil FaultKind) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Request-Id", reqID)
	version := r.Header.Get("Stripe-Version")
	if version == "" {
		version = apiVersion
	}
	h.Set("Stripe-Version", version)
	if key := r.Header.Get("Idempotency-Key"); key != "" && r.Method == http.MethodPost {
		h.Set("Idempotency-Key", key)
		if ans.original != "" {
			h.Set("Original-Request", ans.original)
		}
	}
	if ans.replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	if ans.retry != "" {
		h.Set("Stripe-Should-Retry", ans.retry)
	}
	if ans.limited != "" {
		h.Set("Stripe-Rate-Limited-Reason", ans.limited)
	}
	if ans.location != "" {
		h.Set("Location", ans.location)
	}
	body := ans.body
	switch spoil {
	case FaultContentType:
		h.Set("Content-Type", "text/html; charset=utf-8")
	case FaultGarbage:
		body = []byte("<<not json>> " + reqID)
	case FaultTruncate:
		body = body[:len(body)/2]
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(ans.status)
	if spoil == FaultCutBody {
		body = body[:len(body)/2]
	}
	// A failed write means that the client has gone; there is nobody to tell.
	_, _ = w.Write(body)
	if spoil == FaultCutBody {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
}
