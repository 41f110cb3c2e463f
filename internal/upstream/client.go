package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// Limits of the way to a vendor, each with its reason.
const (
	// MaxAnswer bounds what one answer may take in memory. Stripe's largest pages are a few MB.
	MaxAnswer = 16 << 20
	// Deadline ends a call. It stays under the SDKs' 80 s, so that an agent gets our definite answer before
	// it gives up by itself.
	Deadline = 70 * time.Second
	// dialTimeout and tlsTimeout bound what happens before anything is written.
	dialTimeout = 10 * time.Second
	tlsTimeout  = 10 * time.Second
	// keptConnections per host are kept open for the next calls. How many there may be at once is for callers to
	// bound, each for its own: a limit here would be shared by all upstreams at one host, and waited for after the
	// money is held.
	keptConnections = 512
)

// Request is what leaves: rebuilt from the decided form, never from the agent's bytes.
type Request struct {
	// Host is which of the vendor's hosts takes it ("" = the API).
	Host   string
	Method string
	Path   string // canonical and escaped
	Query  string // canonical
	Body   []byte
	Header http.Header
	// IdempotencyKey is ours; empty for none.
	IdempotencyKey string
	// Upload, if set, is sent in a form with Fields, instead of Body.
	Upload *Upload
	Fields []FormField
}

// Credential is one upstream: where to go, and how a request gets its secret. *vault.Upstream is one,
// joined with its base URL by the caller.
type Credential interface {
	// Attach puts the secret on a request to the pinned host and refuses any other.
	Attach(*http.Request) error
}

// Client sends requests to vendors. It never follows a redirect, never uses a proxy from the environment,
// never sends a write twice and never decodes a body. A read that meets a kept connection which breaks may be
// sent once more, by net/http. Safe for concurrent use.
type Client struct{ transport http.RoundTripper }

// NewClient makes a client. roots may be nil (the system's).
func NewClient(config *tls.Config) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &Client{transport: &http.Transport{
		Proxy: nil, // an environment variable must not decide where a live key goes
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &countingConn{Conn: conn}, nil
		},
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    tlsTimeout,
		DisableCompression:     true, // the guard reads bodies as they are
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    keptConnections,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		ExpectContinueTimeout:  time.Second,
	}}
}

// NewClientOver makes a client that sends over another way than the network, for simulations. A round tripper that
// calls ClientTrace.GotConn of the request's context says with that that something may have been written.
func NewClientOver(way http.RoundTripper) *Client { return &Client{transport: way} }

// Close drops idle connections.
func (c *Client) Close() {
	if way, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		way.CloseIdleConnections()
	}
}

// Do sends one request and reads the whole answer. ctx carries the deadline; it must not be the agent's:
// once a call has left, its client going away changes nothing. Errors are in Answer.Err, with Sent
// telling whether anything may have reached the vendor.
func (c *Client) Do(ctx context.Context, base *url.URL, cred Credential, r *Request) (answer Answer) {
	start := time.Now()
	defer func() { answer.Took = time.Since(start) }()
	req, err := build(ctx, base, r)
	if err == nil {
		err = cred.Attach(req)
	}
	if err != nil {
		return Answer{Err: fmt.Errorf("build the upstream request: %w", err)}
	}
	var sent sentProof
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: sent.gotConn}))
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return Answer{Err: fmt.Errorf("call the upstream: %w", err), Sent: sent.maybe()}
	}
	defer func() { _ = resp.Body.Close() }() // the answer was read, or its reading failed already
	body, err := readBody(resp)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, Err: err, Sent: true}
}

func build(ctx context.Context, base *url.URL, r *Request) (*http.Request, error) {
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		return nil, err
	}
	req := &http.Request{
		Method: r.Method,
		URL:    &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawPath: r.Path, RawQuery: r.Query},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(r.Header)+3),
		Host:   base.Host,
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	switch {
	case r.Upload != nil:
		body, contentType, length, err := r.Upload.form(r.Fields)
		if err != nil {
			return nil, err
		}
		req.Header["Content-Type"] = []string{contentType}
		req.Body, req.ContentLength = io.NopCloser(body), length
	case len(r.Body) > 0:
		// Not http.NewRequest: it would set GetBody for a bytes.Reader, and with GetBody and an idempotency
		// key net/http sends a request again by itself when a reused connection breaks.
		req.Body = io.NopCloser(bytes.NewReader(r.Body))
		req.ContentLength = int64(len(r.Body))
	}
	if r.IdempotencyKey != "" {
		// The non-canonical spelling is on purpose: under "Idempotency-Key" net/http takes the request for one
		// that it may repeat, also with an empty body. On the wire header names know no case.
		req.Header["Idempotency-key"] = []string{r.IdempotencyKey}
	}
	return req.WithContext(ctx), nil
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", MaxAnswer)

func readBody(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n > MaxAnswer {
		return nil, errTooLarge
	} else if n > 0 {
		body := make([]byte, n)
		read, err := io.ReadFull(resp.Body, body)
		if err != nil {
			return body[:read], fmt.Errorf("read the answer: %w", err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	if err != nil {
		return body, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > MaxAnswer {
		return nil, errTooLarge
	}
	return body, nil
}

// sentProof finds out whether a failed request can have left anything on the wire. It remembers how much
// its connection had written when the request got it; the same figure afterwards is the proof that
// nothing was written. A connection that it cannot look into (HTTP/2 shares one) proves nothing.
type sentProof struct {
	conn   *countingConn
	before int64
	opaque bool
}

func (p *sentProof) gotConn(info httptrace.GotConnInfo) {
	conn := info.Conn
	if t, ok := conn.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			p.opaque = true
			return
		}
		conn = t.NetConn()
	}
	counting, ok := conn.(*countingConn)
	if !ok || p.conn != nil { // a second connection: the transport tried again
		p.opaque = p.opaque || !ok || p.conn.written.Load() != p.before
		if !ok {
			return
		}
	}
	p.conn, p.before = counting, counting.written.Load()
}

// maybe reports whether any byte of the request may have been written.
func (p *sentProof) maybe() bool {
	return p.opaque || (p.conn != nil && p.conn.written.Load() != p.before)
}

// countingConn counts the bytes that were handed to the kernel, tried ones included.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.written.Add(int64(len(b))) // before the write: a failed one may have left a part
	return c.Conn.Write(b)
}

// IsTimeout reports whether an answer is missing because the deadline passed.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
