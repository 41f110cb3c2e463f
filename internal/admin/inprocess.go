package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// As returns a client of this server's own API for somebody who has signed in: what goes in is judged, recorded and
// answered as if it had come over the network, but no token travels and nothing is dialled. handler is what Handler
// returned. The zero Actor may do nothing.
func As(handler http.Handler, who Actor) *Client {
	return &Client{
		base: "http://localhost" + prefix,
		http: &http.Client{
			Transport:     inProcess{handler, who},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// inProcess carries requests to a handler in the same process. Answers are read while they are written: a tail has no
// end.
type inProcess struct {
	handler http.Handler
	who     Actor
}

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(context.WithValue(ctx, actorKey{}, t.who))
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), t.who.From
	in.Host = r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	read, write := io.Pipe()
	w := &piped{header: http.Header{}, body: write, begun: make(chan struct{})}
	go func() {
		defer cancel()
		defer w.end()
		t.handler.ServeHTTP(w, in)
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done(): // not ctx: the handler's end ends that, also when its answer has no body
		err := context.Cause(r.Context())
		_ = read.CloseWithError(err) // never fails; else what the handler says after all waits for a reader for good
		return nil, err
	}
	if w.failed != nil {
		return nil, w.failed
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: leaving{read, cancel}, ContentLength: -1, Request: r,
	}, nil
}

// leaving is an answer's body; closing it tells the handler that nobody reads on.
type leaving struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the request.
func (l leaving) Close() error {
	l.cancel()
	return l.PipeReader.Close()
}

// piped is the handler's side of an answer.
type piped struct {
	header, sent http.Header
	status       int
	body         *io.PipeWriter
	once         sync.Once
	begun        chan struct{}
	failed       error
}

// Header returns the headers that will be sent.
func (w *piped) Header() http.Header { return w.header }

// WriteHeader begins the answer.
func (w *piped) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

// Write waits until what it is given has been read.
func (w *piped) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Flush begins the answer: the pipe keeps nothing back.
func (w *piped) Flush() { w.WriteHeader(http.StatusOK) }

// end closes the answer. A handler that gave up half-way (http.ErrAbortHandler) leaves a body that ends in an error; any
// other panic is the program's fault and goes on.
func (w *piped) end() {
	fault := recover()
	if fault != nil && fault != any(http.ErrAbortHandler) {
		panic(fault)
	}
	if fault != nil {
		w.once.Do(func() { // nothing was written yet
			w.failed = errors.New("the answer broke off")
			close(w.begun)
		})
		_ = w.body.CloseWithError(io.ErrUnexpectedEOF) // never fails
		return
	}
	w.WriteHeader(http.StatusOK)
	_ = w.body.Close() // never fails
}
