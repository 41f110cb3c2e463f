package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// The kinds of [Fault].
const (
	FaultLatency     FaultKind = "latency"      // the answer is late by Latency
	FaultRateLimit   FaultKind = "rate_limit"   // 429 before everything; nothing runs or is remembered
	FaultError       FaultKind = "error"        // Status (500 if zero), before or after the effect
	FaultHang        FaultKind = "hang"         // no answer until released, or the client has gone
	FaultCut         FaultKind = "cut"          // the connection closes without an answer
	FaultCutBody     FaultKind = "cut_body"     // the connection closes in the middle of the body
	FaultContentType FaultKind = "content_type" // the true answer, called text/html
	FaultGarbage     FaultKind = "garbage"      // the true status with a body that is not JSON
	FaultTruncate    FaultKind = "truncate"     // a complete answer whose JSON stops half-way
	FaultRedirect    FaultKind = "redirect"     // 302 to Location
	FaultForget      FaultKind = "forget"       // runs as always, but its idempotency key is forgotten
)

// Memory says what the idempotency store keeps of a call that a fault hit.
type Memory string

// The values of [Memory].
const (
	// MemoryDefault remembers what Stripe would: an error after the effect as
	// that error, a fault before the effect not at all, the rest truly.
	MemoryDefault Memory = ""
	MemoryError   Memory = "error"  // the error, also before the effect
	MemoryAnswer  Memory = "answer" // the true answer of an effect
	MemoryNone    Memory = "none"   // nothing: the same key runs again
)

// Always as Times keeps a fault until the faults are cleared.
const Always = -1

// Fault goes wrong on purpose for the arrivals it matches. The latency faults of
// one arrival add up; of the others the first injected wins at each point.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Method is an HTTP method; empty is any.
	Method string `json:"method,omitempty"`
	// Path is a path (unescaped) in which * stands for one segment and a last ** for
	// any rest; empty is any.
	Path string `json:"path,omitempty"`
	// After puts error, hang, cut and redirect behind the effect; otherwise they are before it.
	After bool `json:"after,omitempty"`
	// Skip lets so many matching arrivals through first.
	Skip int `json:"skip,omitempty"`
	// Times is how many arrivals are hit; zero is one, Always has no end.
	Times    int           `json:"times,omitempty"`
	Latency  time.Duration `json:"latency,omitempty"` // in nanoseconds in JSON; or give latency_ms
	Status   int           `json:"status,omitempty"`
	Location string        `json:"location,omitempty"`
	Memory   Memory        `json:"memory,omitempty"`
}

var faultKinds = []FaultKind{FaultLatency, FaultRateLimit, FaultError, FaultHang, FaultCut, FaultCutBody, FaultContentType,
	FaultGarbage, FaultTruncate, FaultRedirect, FaultForget}

// Inject adds a fault. It refuses an unknown kind or memory, a negative skip or
// latency, and a status that is no HTTP error. Safe for concurrent use.
func (s *Server) Inject(f Fault) error {
	if !slices.Contains(faultKinds, f.Kind) {
		return fmt.Errorf("fault kind %q is not one of %v", f.Kind, faultKinds)
	}
	if !slices.Contains([]Memory{MemoryDefault, MemoryError, MemoryAnswer, MemoryNone}, f.Memory) {
		return fmt.Errorf("fault memory %q is not error, answer or none", f.Memory)
	}
	if f.Skip < 0 || f.Latency < 0 || f.Times < Always || f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		return fmt.Errorf("fault %s: skip %d, times %d, latency %s or status %d is out of range", f.Kind, f.Skip, f.Times, f.Latency, f.Status)
	}
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return nil
}

// ClearFaults removes all faults and lets hanging calls go on. Safe for concurrent use.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	s.releaseLocked()
}

// Release lets the calls that hang now go on; the faults stay. Safe for concurrent use.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked()
}

// Hanging is the number of calls that hang now. Safe for concurrent use.
func (s *Server) Hanging() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hanging
}

func (s *Server) releaseLocked() {
	close(s.released)
	s.released = make(chan struct{})
}

// matchFaults takes the faults that hit this arrival, using them up.
func (s *Server) matchFaults(method, path string) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return nil
	}
	var hit []Fault
	s.faults = slices.DeleteFunc(s.faults, func(f *Fault) bool {
		if f.Method != "" && !strings.EqualFold(f.Method, method) || !matchPath(f.Path, path) {
			return false
		}
		if f.Skip > 0 {
			f.Skip--
			return false
		}
		hit = append(hit, *f)
		if f.Times > 0 {
			f.Times--
		}
		return f.Times == 0
	})
	return hit
}

func matchPath(pattern, path string) bool {
	if pattern == "" {
		return true
	}
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		if w == "**" && i == len(want)-1 {
			return true
		}
		if i >= len(got) || w != "*" && w != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}

// find is the first fault of a kind at one side of the effect.
func findFault(faults []Fault, after bool, kinds ...FaultKind) *Fault {
	for i := range faults {
		if faults[i].After == after && slices.Contains(kinds, faults[i].Kind) {
			return &faults[i]
		}
	}
	return nil
}

// mangling is the first fault that spoils an answer, wherever it was put.
func mangling(faults []Fault) FaultKind {
	for i := range faults {
		switch k := faults[i].Kind; k {
		case FaultCutBody, FaultContentType, FaultGarbage, FaultTruncate:
			return k
		}
	}
	return ""
}

func faultNames(faults []Fault) []string {
	var names []string
	for _, f := range faults {
		name := string(f.Kind)
		if f.After {
			name += " after"
		}
		names = append(names, name)
	}
	return names
}

// wait blocks for the latencies. The client leaving does not shorten them, since
// Stripe would not notice either; only a release does.
func (s *Server) wait(faults []Fault) {
	var sum time.Duration
	for i := range faults {
		if faults[i].Kind == FaultLatency {
			sum += faults[i].Latency
		}
	}
	if sum == 0 {
		return
	}
	s.mu.Lock()
	released := s.released
	s.mu.Unlock()
	t := time.NewTimer(sum)
	defer t.Stop()
	select {
	case <-t.C:
	case <-released:
	}
}

// hang blocks until released; false means the client has gone.
func (s *Server) hang(ctx context.Context) bool {
	s.mu.Lock()
	released := s.released
	s.hanging++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.hanging--
		s.mu.Unlock()
	}()
	select {
	case <-released:
		return true
	case <-ctx.Done():
		return false
	}
}

// strike is what a fault does at one side of the effect: an answer in place of
// the true one, a cut, or nothing.
func (s *Server) strike(ctx context.Context, faults []Fault, after bool) (instead *answer, cut bool) {
	f := findFault(faults, after, FaultError, FaultHang, FaultCut, FaultRedirect)
	if f == nil {
		return nil, false
	}
	switch f.Kind {
	case FaultHang:
		return nil, !s.hang(ctx)
	case FaultCut:
		return nil, true
	case FaultRedirect:
		to := f.Location
		if to == "" {
			to = "https://elsewhere.invalid/"
		}
		return &answer{status: http.StatusFound, location: to, body: []byte(`{}`)}, false
	}
	return errorAnswer(f.Status), false
}

func errorAnswer(status int) *answer {
	if status == 0 {
		status = http.StatusInternalServerError
	}
	fail := &stripeError{status: status, typ: typeAPI, message: "Sorry! There was an error while talking to Stripe."}
	switch {
	case status == http.StatusTooManyRequests:
		fail.typ, fail.code, fail.message = typeInvalid, "rate_limit", "Request rate limit exceeded."
	case status < 500:
		fail.typ, fail.message = typeInvalid, "Invalid request."
	}
	e := &enc{}
	fail.render(e, nil)
	return &answer{status: status, body: e.b}
}
