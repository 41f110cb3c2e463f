package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// selfPath is where an agent asks what it may do.
const selfPath = "/keybrake/v1/self"

// ServeHTTP is the edge: it reads a request into our own form, lets serve take it along the path and
// writes the answer. Nothing below it sees an *http.Request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	switch path {
	case "/healthz":
		_, _ = io.WriteString(w, "ok\n") // a prober that went away has its answer
		return
	case "/readyz":
		g.readyz(w, r)
		return
	}
	if name, ok := strings.CutPrefix(path, webhookPath); ok {
		g.webhook(w, r, name)
		return
	}
	j := &journey{
		start: time.Now(), request: "req_kb" + newToken(), from: ClientAddr(r, g.TrustedProxies),
		agent: bounded(r.Header.Get("User-Agent"), maxUserAgent), run: bounded(r.Header.Get("X-Agent-Run-Id"), maxRunID),
		raw: &upstream.RawCall{Method: r.Method, Path: path, Query: query, Header: r.Header}, trace: traceOf(r.Header),
	}
	defer g.tell(j)
	defer g.survive(w, j)
	if refused := g.authenticate(j); refused != nil {
		// Nobody without a key has us keep a body. It is read all the same: an SDK that still sends hears no answer.
		_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, MaxBody))
		j.took.Read = time.Since(j.start)
		if j.told = answered(err); !j.told {
			j.reply(w, g.deny(r.Context(), j, *refused))
		}
		return
	}
	leave, ok := g.inside.take(j.key.ID)
	if !ok {
		j.reply(w, g.busy(r.Context(), j, errTooManyInside))
		return
	}
	defer leave()
	if g.Adapter.TakesUpload(r.Method, path, r.Header.Get("Content-Type")) {
		leave, ok := g.uploads.take(j.key.ID)
		if !ok {
			j.reply(w, g.busy(r.Context(), j, errTooManyLarge))
			return
		}
		defer leave()
		j.raw.Stream = http.MaxBytesReader(w, r.Body, upstream.MaxUpload+MaxBody)
		defer func() {
			if err := j.raw.Upload.Close(); err != nil {
				g.Log.Warn("an upload's temporary file was not closed", "request", j.request, "err", err)
			}
		}()
		j.reply(w, g.serve(r.Context(), j))
		return
	}
	body, release, err := g.readBody(w, r, j)
	defer release()
	j.took.Read = time.Since(j.start)
	if err != nil {
		g.refuseBody(r.Context(), w, j, err)
		return
	}
	j.raw.Body = body
	if path == selfPath {
		j.reply(w, g.self(r.Context(), j))
		return
	}
	j.reply(w, g.serve(r.Context(), j))
}

var (
	errTooManyInside = &crowdedError{"This vault key has too many calls under way or waiting; this one was not looked at. Try again."}
	errTooManyLarge  = &crowdedError{"Too many large requests are under way; this one was not looked at. Try again."}
)

// readBody reads a request's body. A large one needs a place, which release gives back.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, j *journey) (body []byte, release func(), err error) {
	release = func() {}
	stream := http.MaxBytesReader(w, r.Body, MaxBody)
	body, err = io.ReadAll(io.LimitReader(stream, smallBody))
	if err != nil || len(body) < smallBody {
		return body, release, err
	}
	giveBack, ok := g.large.take(j.key.ID)
	if !ok {
		return nil, release, errTooManyLarge
	}
	rest, err := io.ReadAll(stream)
	return append(body, rest...), giveBack, err
}

// refuseBody ends a call whose body is too large, or did not arrive whole in time. It is answered and recorded even if the
// agent seems to have left: a handler that only returned would have net/http tell it 200, and it would take that for done.
func (g *Gateway) refuseBody(ctx context.Context, w http.ResponseWriter, j *journey, err error) {
	if j.told = answered(err); j.told {
		return
	}
	message := "The request's body did not arrive whole in time. Nothing was sent on; send it again."
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		message = "The request body is larger than " + strconv.Itoa(MaxBody) + " bytes. Send less in one call."
	}
	if _, crowded := isCrowded(err); crowded {
		j.reply(w, g.busy(ctx, j, err))
		return
	}
	j.reply(w, g.deny(ctx, j, policy.Failure{Code: policy.CodeMalformed, Rule: "limits", Message: message}))
}

// answered reports whether the wire guard has refused a body and recorded that.
func answered(err error) bool {
	var before interface{ Answered() bool }
	return errors.As(err, &before) && before.Answered()
}

// survive answers a call whose handling broke one of our invariants: 503 before its admission, and after it
// an unknown outcome, whose hold stays.
func (g *Gateway) survive(w http.ResponseWriter, j *journey) {
	reason := recover()
	if reason == nil {
		return
	}
	if err, ok := reason.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(reason)
	}
	g.Log.Error("a call broke an invariant", "request", j.request, "reason", reason, "stack", string(debug.Stack()))
	err := errors.New("internal error")
	if j.admitted.Verdict != policy.Allow {
		j.reply(w, g.unavailable(j, err))
		return
	}
	const why = "Keybrake failed while it handled the call"
	record := g.outcomeRecord(j, nil, upstream.Outcome{Why: why})
	d := g.denial(j, policy.Failure{Code: upstream.CodeOutcomeUnknown, Rule: "keybrake", Message: why +
		"; what it may have moved stays held. " + cure(j)})
	d.Retry = j.attaches()
	response := g.Adapter.Refuse(d)
	record.Status = response.Status
	if !j.ended {
		g.settle(context.Background(), j, j.resolution(record, j.unchanged(why)))
	}
	j.reply(w, g.finish(j, response))
}

func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) {
	if err := g.Ready(r.Context()); err != nil {
		http.Error(w, "not ready", http.StatusServiceUnavailable) // why is for operators: the admin port's /readyz
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

func (j *journey) reply(w http.ResponseWriter, r upstream.Response) {
	j.status = r.Status
	header := w.Header()
	for name, values := range r.Header {
		header[name] = values
	}
	header["Content-Length"] = []string{strconv.Itoa(len(r.Body))}
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body) // an agent that went away finds its answer by its idempotency key
}

// ClientAddr is a client's address: the connection's, or, behind proxies that are trusted, the last one in
// X-Forwarded-For that is not such a proxy. A header from anybody else says nothing. The zero Addr if there is none.
func ClientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	isProxy := func(addr netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	addr := at.Addr().Unmap()
	if !isProxy(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return addr
		}
		if addr = hop.Unmap(); !isProxy(addr) {
			return addr
		}
	}
	return addr
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
