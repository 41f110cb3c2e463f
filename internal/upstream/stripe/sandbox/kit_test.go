package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// clock is a time that tests move by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// rig is a seeded sandbox behind real HTTP.
type rig struct {
	t      *testing.T
	s      *sandbox.Server
	url    string
	client *http.Client
	clock  *clock
	seed   sandbox.Seeded
}

func newRig(t *testing.T) *rig {
	t.Helper()
	c := &clock{at: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	s := sandbox.New(sandbox.Options{Seed: 1, Now: c.now})
	ts := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); ts.Close() })
	client := ts.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &rig{t: t, s: s, url: ts.URL, client: client, clock: c, seed: s.Seed()}
}

// reply is an HTTP answer, its JSON parsed where it is JSON.
type reply struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// at walks into the answer: "error.code", "data.0.id".
func (r *reply) at(path string) any {
	var v any = r.body
	for _, k := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[k]
		case []any:
			i := 0
			if _, err := fmt.Sscanf(k, "%d", &i); err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (r *reply) str(path string) string { s, _ := r.at(path).(string); return s }

func (r *reply) num(path string) int64 { n, _ := r.at(path).(float64); return int64(n) }

func (r *reply) ids() []string {
	var ids []string
	list, _ := r.at("data").([]any)
	for _, v := range list {
		ids = append(ids, v.(map[string]any)["id"].(string))
	}
	return ids
}

const testKey = "sk_test_rig"

// try sends a request; headers come in pairs. The error is the transport's.
func (r *rig) try(method, target, body string, headers ...string) (*reply, error) {
	req, err := http.NewRequest(method, r.url+target, strings.NewReader(body))
	if err != nil {
		r.t.Fatalf("make request: %v", err)
	}
	req.GetBody = nil // net/http would send again by itself
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header[headers[i]] = []string{headers[i+1]}
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	out := &reply{status: res.StatusCode, header: res.Header, raw: string(raw)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		_ = json.Unmarshal(raw, &out.body) // spoiled answers have no body
	}
	return out, nil
}

// do sends a request; a success is held against what Stripe says it answers.
func (r *rig) do(method, target, body string, headers ...string) *reply {
	r.t.Helper()
	out, err := r.try(method, target, body, headers...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, target, err)
	}
	path, _, _ := strings.Cut(target, "?")
	if out.status == http.StatusOK && out.body != nil && out.at("deleted") == nil {
		for _, wrong := range sandbox.Misshapen(method, path, []byte(out.raw)) {
			r.t.Errorf("%s %s answers%s", method, path, wrong)
		}
	}
	return out
}

// ok is do for a call that must succeed.
func (r *rig) ok(method, target, body string, headers ...string) *reply {
	r.t.Helper()
	out := r.do(method, target, body, headers...)
	if out.status != http.StatusOK || out.body == nil {
		r.t.Fatalf("%s %s %s: status %d: %s", method, target, body, out.status, out.raw)
	}
	return out
}

// refused is do for a call that must fail with a status and code.
func (r *rig) refused(status int, code, method, target, body string, headers ...string) *reply {
	r.t.Helper()
	out := r.do(method, target, body, headers...)
	if out.status != status || out.str("error.code") != code {
		r.t.Fatalf("%s %s %s: got %d %q, want %d %q: %s", method, target, body, out.status, out.str("error.code"), status, code, out.raw)
	}
	if out.str("error.type") == "" || out.str("error.message") == "" {
		r.t.Fatalf("%s %s: error without type or message: %s", method, target, out.raw)
	}
	return out
}

// moved is the sum of one kind of effect in US dollars' minor units.
func (r *rig) moved(kind sandbox.EffectKind) int64 {
	return r.s.Moved(kind, time.Time{})["usd"]
}

func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

func (r *rig) want(got, want any, what string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func itoa(n int64) string { return fmt.Sprint(n) }
