package contract

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stripe/stripe-mock/param"

	"github.com/keybrake/keybrake/test/requests"
)

// recorder stands before the upstream and remembers what arrives there, by the caller's User-Agent: the
// gateway passes that header on, with its look-ups too.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	arrivals map[string][]arrival
}

// arrival is a request as the upstream reads it.
type arrival struct {
	Method, Path string
	Params       any
}

func startRecorder(t *testing.T, upstream http.Handler) *recorder {
	r := &recorder{arrivals: map[string][]arrival{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the gateway broke off
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		a := arrival{Method: req.Method, Path: req.URL.EscapedPath(), Params: readParams(req)}
		r.mu.Lock()
		agent := req.UserAgent()
		r.arrivals[agent] = append(r.arrivals[agent], a)
		r.mu.Unlock()
		req.Body = io.NopCloser(bytes.NewReader(body))
		upstream.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// of returns what arrived of one agent.
func (r *recorder) of(agent string) []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrivals[agent]
}

// readParams reads a request's parameters as stripe-mock does; an unreadable request is its error's text.
func readParams(r *http.Request) any {
	tree, err := param.ParseParams(r)
	if err != nil {
		return err.Error()
	}
	return numbered(tree)
}

// numbered turns hashes with the keys 0, 1, 2 ... into lists: "a[0]=" and "a[]=" are the same.
func numbered(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = numbered(v[i])
		}
		return v
	case map[string]any:
		list := make([]any, len(v))
		for k := range v {
			v[k] = numbered(v[k])
			if i, err := strconv.Atoi(k); err == nil && i >= 0 && i < len(list) {
				list[i] = v[k]
			} else {
				list = nil
			}
		}
		if len(list) > 0 {
			return list
		}
	}
	return v
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// newRequest makes the HTTP request of a call. The agent's name is its User-Agent and, for a POST, its
// idempotency key.
func newRequest(t *testing.T, base, bearer, agent string, r requests.Request) *http.Request {
	t.Helper()
	target, body, kind := base+r.Path, "", ""
	switch {
	case r.Multipart:
		body, kind = multipartBody(t, r)
	case r.InBody && strings.HasPrefix(r.Path, "/v2/"):
		body, kind = r.JSON, "application/json"
	case r.InBody:
		body, kind = r.Form(), "application/x-www-form-urlencoded"
	case len(r.Params) > 0:
		target += "?" + r.Form()
	}
	req, err := http.NewRequest(r.Method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("User-Agent", agent)
	if r.Context != "" {
		req.Header.Set("Stripe-Context", r.Context)
	}
	if r.Method == http.MethodPost {
		req.Header.Set("Idempotency-Key", agent)
	}
	return req
}

func multipartBody(t *testing.T, r requests.Request) (body, kind string) {
	t.Helper()
	var b strings.Builder
	w := multipart.NewWriter(&b)
	for _, p := range r.Params {
		var part io.Writer
		var err error
		if p.Name == "file" {
			part, err = w.CreateFormFile("file", "evidence.txt")
		} else {
			part, err = w.CreateFormField(p.Name)
		}
		if err == nil {
			_, err = io.WriteString(part, p.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func send(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		return answer{Body: err.Error()} // stripe-mock breaks off what it cannot answer
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}
