package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// vendor is the sandbox behind a line that loses, delays and garbles what it carries. What happens there and what is told
// about it are decided apart: a call may run and its answer be lost, or run long after it was given up.
type vendor struct {
	b       *baton
	sandbox *sandbox.Server
	rng     *rand.Rand
	auditor *auditor
	seen    int               // effects that the auditor knows
	running map[string]int    // idempotency keys that are slow to run
	wires   map[*request]bool // what is on the wire
	rate    float64           // how often the line fails
	pushed  []string          // objects that messages are about
	plan    func(write bool) plan
}

// plan is what becomes of one request.
type plan struct {
	unwritten bool // the connection fails before a byte is written
	runs      runs
	answer    answer
}

type runs uint8

const (
	runsNow runs = iota
	runsNever
	runsLate
)

type answer uint8

const (
	answersTruth   answer = iota
	answersCut            // the connection breaks without an answer
	answersNothing        // until the deadline
	answersHalf           // in the middle of the body
	answersGarbage
	answersHTML
	answers500
	answers503
	answers429
	answersMore // that more moved than did
)

var answerNames = [...]string{"truth", "cut", "nothing", "half", "garbage", "html", "500", "503", "429", "more"}

// random draws what becomes of a request.
func (v *vendor) random(write bool) plan {
	if v.rng.Float64() >= v.rate {
		return plan{}
	}
	if !write {
		return plan{unwritten: v.rng.IntN(4) == 0, answer: answer(v.rng.IntN(int(answersMore)))}
	}
	switch v.rng.IntN(16) {
	case 15:
		return plan{answer: answersMore}
	case 0, 8:
		return plan{unwritten: true}
	case 1, 9:
		return plan{runs: runsNever, answer: [...]answer{answersCut, answersNothing, answers500, answers503, answers429}[v.rng.IntN(5)]}
	case 2, 10:
		return plan{runs: runsLate, answer: [...]answer{answersCut, answersNothing, answers500}[v.rng.IntN(3)]}
	default:
		return plan{answer: [...]answer{answersCut, answersNothing, answersHalf, answersGarbage, answersHTML, answers500, answers503}[v.rng.IntN(7)]}
	}
}

// wire is one process's way to the vendor.
type wire struct {
	*vendor
	p *process
}

var (
	errUnwritten = errors.New("connection refused")
	errBroken    = errors.New("connection reset by peer")
)

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if w.p.dead {
		return nil, errUnwritten
	}
	ctx, who := req.Context(), who(req.Context())
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	sent := requestOf(req, body)
	w.wires[sent] = true
	defer delete(w.wires, sent)
	w.auditor.departs(who, sent)
	w.b.wait(who, "wire "+req.Method+" "+req.URL.Path)
	if w.p.dead {
		return nil, errUnwritten
	}
	p := w.plan(sent.write)
	if p.unwritten {
		return nil, errUnwritten
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: noConn{}})
	}
	truth := w.run(sent, p)
	if p.answer == answersMore {
		p.answer = w.exaggerate(sent, truth)
	}
	w.b.notef("plan", who, "runs %d, answers %s", p.runs, answerNames[p.answer])
	return w.answers(ctx, who, p, truth)
}

// requestOf is a request as it comes out of the wire.
func requestOf(req *http.Request, body []byte) *request {
	out := &http.Request{
		Method: req.Method, URL: req.URL, RequestURI: req.URL.RequestURI(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(req.Header)), Host: req.Host, ContentLength: int64(len(body)), RemoteAddr: "127.0.0.1:1",
	}
	for name, values := range req.Header {
		out.Header[http.CanonicalHeaderKey(name)] = values // names know no case on the wire
	}
	return &request{http: out, body: body, key: out.Header.Get("Idempotency-Key"), write: req.Method != http.MethodGet}
}

// run lets the request happen, now, never or later.
func (v *vendor) run(r *request, p plan) *recorder {
	switch {
	case v.running[r.key] > 0 && r.write:
		return conflict() // it is still at the first one
	case p.runs == runsNow:
		return v.execute(r)
	case p.runs == runsLate:
		v.running[r.key]++
		t := v.b.line(&turn{who: "vendor", what: "late " + r.http.URL.Path, late: true})
		go func() {
			<-t.awake
			v.running[r.key]--
			v.execute(r)
		}()
	}
	return &recorder{code: http.StatusInternalServerError, head: http.Header{}}
}

// exaggerate makes an answer to a refund or payout say that more moved. What the vendor says counts, whatever it did.
func (v *vendor) exaggerate(r *request, truth *recorder) answer {
	if path := r.http.URL.Path; truth.code != http.StatusOK || path != "/v1/refunds" && path != "/v1/payouts" {
		return answersTruth
	}
	amount := regexp.MustCompile(`"amount":\s*(\d+)`)
	said := int64(0)
	text := amount.ReplaceAllStringFunc(truth.body.String(), func(s string) string {
		n, _ := strconv.ParseInt(amount.FindStringSubmatch(s)[1], 10, 64)
		said = n + 100
		return `"amount":` + strconv.FormatInt(said, 10)
	})
	truth.body = *bytes.NewBufferString(text)
	v.auditor.lies[r.key] = said
	return answersTruth
}

// later lets a bank send a refund or payout back, some time after it was made.
func (v *vendor) later() {
	if len(v.auditor.made) == 0 {
		return
	}
	id := v.auditor.made[v.rng.IntN(len(v.auditor.made))]
	set := v.sandbox.SetRefundStatus
	if strings.HasPrefix(id, "po_") {
		set = v.sandbox.SetPayoutStatus
	}
	err := set(id, "failed")
	if err == nil {
		v.pushed = append(v.pushed, id)
	}
	effects := v.sandbox.Effects()
	v.auditor.later(effects[v.seen:])
	v.seen = len(effects)
	v.b.notef("later", "bank", "%s failed: %v", id, err == nil)
}

// execute runs a request at the sandbox and tells the auditor what moved.
func (v *vendor) execute(r *request) *recorder {
	again := *r.http
	again.Body = io.NopCloser(bytes.NewReader(r.body))
	rec := &recorder{head: make(http.Header)}
	v.sandbox.ServeHTTP(rec, &again)
	effects := v.sandbox.Effects()
	v.auditor.happened(r, rec, effects[v.seen:])
	v.seen = len(effects)
	v.b.notef("runs", "vendor", "%s %s %s: %d, %d effects", r.http.Method, r.http.URL.Path, r.key, rec.code, len(effects))
	return rec
}

func conflict() *recorder {
	const body = `{"error":{"type":"idempotency_error","code":"idempotency_key_in_use","message":"There is currently another in-progress request using this Idempotent Key."}}`
	head := http.Header{"Content-Type": {"application/json"}, "Request-Id": {"req_conflict"}}
	return &recorder{code: http.StatusConflict, head: head, body: *bytes.NewBufferString(body)}
}

// answers tells what the line makes of the truth.
func (w *wire) answers(ctx context.Context, who string, p plan, truth *recorder) (*http.Response, error) {
	if p.answer == answersNothing {
		t := w.b.line(&turn{who: who, what: "hang", hangs: true})
		select {
		case <-t.awake:
		case <-ctx.Done():
			w.b.leave(t)
		}
	}
	w.b.wait(who, "answer "+answerNames[p.answer])
	if w.p.dead {
		return nil, errBroken
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p.lie(truth)
}

// lie is what comes out of the line in place of the truth.
func (p plan) lie(truth *recorder) (*http.Response, error) {
	json := http.Header{"Content-Type": {"application/json"}, "Request-Id": {"req_line"}}
	text := func(code int, head http.Header, body string) (*http.Response, error) {
		return (&recorder{code: code, head: head, body: *bytes.NewBufferString(body)}).response(), nil
	}
	switch p.answer {
	case answersTruth:
		return truth.response(), nil
	case answersHalf:
		r := truth.response()
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(truth.body.Bytes()[:truth.body.Len()/2]), failing{}))
		return r, nil
	case answersGarbage:
		return text(truth.code, json, `{"id": "re_`)
	case answersHTML:
		return text(truth.code, http.Header{"Content-Type": {"text/html"}}, "<html>")
	case answers500:
		return text(500, json, `{"error":{"type":"api_error","message":"Something went wrong."}}`)
	case answers503:
		return text(503, http.Header{"Content-Type": {"text/html"}}, "<html>unavailable")
	case answers429:
		if p.runs == runsNever || truth.head.Get("Content-Type") != "" && truth.code == http.StatusConflict {
			return text(429, json, `{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Too many requests"}}`)
		}
	}
	return nil, errBroken
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// noConn stands for a connection on which a request was begun.
type noConn struct{ net.Conn }

// request is one HTTP request as it leaves.
type request struct {
	http  *http.Request
	body  []byte
	key   string // idempotency key
	write bool
}

// recorder is a ResponseWriter in memory.
type recorder struct {
	code int
	head http.Header
	body bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.head }
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

func (r *recorder) response() *http.Response {
	return &http.Response{
		Status: strconv.Itoa(r.code), StatusCode: r.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.head, Body: io.NopCloser(strings.NewReader(r.body.String())), ContentLength: int64(r.body.Len()),
	}
}

func (r *recorder) String() string { return fmt.Sprintf("%d %s", r.code, r.body.String()) }

// wallClock is time as the world has it, and as this machine has it.
type wallClock struct {
	leap time.Duration // on top of the bubble's time, for everybody
	skew time.Duration // on top of that, for us
}

// epoch is where the simulated time begins: not far from the end of a month.
var epoch = time.Date(2026, 11, 28, 21, 0, 0, 0, time.UTC)

var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *wallClock) world() time.Time { return epoch.Add(time.Since(bubble) + c.leap) }
func (c *wallClock) ours() time.Time  { return c.world().Add(c.skew) }
