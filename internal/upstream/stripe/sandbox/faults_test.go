package sandbox_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func (r *rig) inject(f sandbox.Fault) {
	r.t.Helper()
	if err := r.s.Inject(f); err != nil {
		r.t.Fatal(err)
	}
}

// awaitHanging returns when n calls hang; the test's own deadline bounds it.
func (r *rig) awaitHanging(n int) {
	for r.s.Hanging() != n {
		runtime.Gosched()
	}
}

func TestFaultsHitTheEffectOrNot(t *testing.T) {
	const lost = 0 // no answer came
	for _, tc := range []struct {
		name    string
		fault   sandbox.Fault
		status  int // of the first answer
		moved   int64
		retry   int // of the same key again
		replay  string
		finally int64
	}{
		{"429 before everything", sandbox.Fault{Kind: sandbox.FaultRateLimit}, 429, 0, 200, "", 100},
		{"500 before the effect", sandbox.Fault{Kind: sandbox.FaultError}, 500, 0, 200, "", 100},
		{"500 before the effect, remembered", sandbox.Fault{Kind: sandbox.FaultError, Memory: sandbox.MemoryError}, 500, 0, 500, "true", 0},
		{"503 after the effect", sandbox.Fault{Kind: sandbox.FaultError, After: true, Status: 503}, 503, 100, 503, "true", 100},
		{"500 after the effect, the truth remembered", sandbox.Fault{Kind: sandbox.FaultError, After: true, Memory: sandbox.MemoryAnswer}, 500, 100, 200, "true", 100},
		{"500 after the effect, nothing remembered", sandbox.Fault{Kind: sandbox.FaultError, After: true, Memory: sandbox.MemoryNone}, 500, 100, 200, "", 200},
		{"cut before the effect", sandbox.Fault{Kind: sandbox.FaultCut}, lost, 0, 200, "", 100},
		{"cut after the effect", sandbox.Fault{Kind: sandbox.FaultCut, After: true}, lost, 100, 200, "true", 100},
		{"cut in the body", sandbox.Fault{Kind: sandbox.FaultCutBody}, lost, 100, 200, "true", 100},
		{"a forgotten key", sandbox.Fault{Kind: sandbox.FaultForget}, 200, 100, 200, "", 200},
		{"redirect before the effect", sandbox.Fault{Kind: sandbox.FaultRedirect}, 302, 0, 200, "", 100},
		{"redirect after the effect", sandbox.Fault{Kind: sandbox.FaultRedirect, After: true}, 302, 100, 200, "true", 100},
		{"latency", sandbox.Fault{Kind: sandbox.FaultLatency, Latency: time.Millisecond}, 200, 100, 200, "true", 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			tc.fault.Path = "/v1/refunds"
			r.inject(tc.fault)
			body := "charge=" + r.seed.Customers[0].Charges[1] + "&amount=100"
			out, err := r.try("POST", "/v1/refunds", body, "Idempotency-key", "k")
			if (err != nil) != (tc.status == lost) {
				t.Fatalf("error %v", err)
			}
			if err == nil {
				r.want(out.status, tc.status, "status")
			}
			r.want(r.moved(sandbox.EffectRefund), tc.moved, "moved at first")
			r.want(r.s.Arrivals(), 1, "arrivals")
			again := r.do("POST", "/v1/refunds", body, "Idempotency-key", "k")
			r.want(again.status, tc.retry, "status of the same key again")
			r.want(again.header.Get("Idempotent-Replayed"), tc.replay, "replayed")
			r.want(r.moved(sandbox.EffectRefund), tc.finally, "moved in the end")
		})
	}
}

func TestAnswersCanBeSpoiled(t *testing.T) {
	r := newRig(t)
	r.inject(sandbox.Fault{Kind: sandbox.FaultContentType})
	out := r.do("GET", "/v1/balance", "")
	r.want(out.header.Get("Content-Type"), "text/html; charset=utf-8", "type")
	r.inject(sandbox.Fault{Kind: sandbox.FaultGarbage})
	if out := r.do("GET", "/v1/balance", ""); out.status != 200 || out.body != nil {
		t.Errorf("garbage: %d %s", out.status, out.raw)
	}
	r.inject(sandbox.Fault{Kind: sandbox.FaultTruncate})
	if out := r.do("GET", "/v1/balance", ""); out.status != 200 || out.body != nil || !strings.HasPrefix(out.raw, "{") {
		t.Errorf("truncated: %d %s", out.status, out.raw)
	}
	r.inject(sandbox.Fault{Kind: sandbox.FaultRedirect, Location: "https://example.invalid/x"})
	r.want(r.do("GET", "/v1/balance", "").header.Get("Location"), "https://example.invalid/x", "location")
	r.want(r.ok("GET", "/v1/balance", "").str("object"), "balance", "afterwards")
}

func TestFaultsMatchMethodPathAndCount(t *testing.T) {
	r := newRig(t)
	ch := r.seed.Customers[0].Charges[1]
	statuses := func(n int, method, target string) (got []int) {
		for range n {
			got = append(got, r.do(method, target, "").status)
		}
		return got
	}
	equal := func(got []int, want ...int) {
		t.Helper()
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Errorf("statuses %v, want %v", got, want)
				return
			}
		}
	}
	r.inject(sandbox.Fault{Kind: sandbox.FaultError, Method: "GET", Path: "/v1/charges/*", Skip: 1, Times: 2})
	equal(statuses(2, "GET", "/v1/charges"), 200, 200)
	equal(statuses(4, "GET", "/v1/charges/"+ch), 200, 500, 500, 200)
	r.inject(sandbox.Fault{Kind: sandbox.FaultError, Path: "/v1/balance", Skip: 2})
	equal(statuses(4, "GET", "/v1/balance"), 200, 200, 500, 200)
	r.inject(sandbox.Fault{Kind: sandbox.FaultError, Path: "/v1/charges/**", Times: sandbox.Always, Status: 502})
	equal(statuses(2, "GET", "/v1/charges/"+ch+"/refunds"), 502, 502)
	equal(statuses(1, "GET", "/v1/balance"), 200)
	r.s.ClearFaults()
	equal(statuses(1, "GET", "/v1/charges/"+ch), 200)
	for _, bad := range []sandbox.Fault{{Kind: "fire"}, {}, {Kind: sandbox.FaultError, Status: 200}, {Kind: sandbox.FaultError, Skip: -1},
		{Kind: sandbox.FaultLatency, Latency: -1}, {Kind: sandbox.FaultError, Memory: "all"}, {Kind: sandbox.FaultCut, Times: -2}} {
		if err := r.s.Inject(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestHangingEndsByReleaseOrWhenTheClientGoes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		after bool
		moved int64
	}{{"before the effect", false, 0}, {"after the effect", true, 100}} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			body := "charge=" + r.seed.Customers[0].Charges[1] + "&amount=100"
			r.inject(sandbox.Fault{Kind: sandbox.FaultHang, Path: "/v1/refunds", After: tc.after, Times: 2})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				req, err := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/refunds", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+testKey)
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if res, err := r.client.Do(req); err == nil {
					res.Body.Close()
					t.Error("an answer came though it hangs")
				}
			})
			r.awaitHanging(1)
			cancel()
			wg.Wait()
			r.awaitHanging(0)
			r.want(r.moved(sandbox.EffectRefund), tc.moved, "moved for a client that went")
			wg.Go(func() { r.ok("POST", "/v1/refunds", body) })
			r.awaitHanging(1)
			r.s.Release()
			wg.Wait()
			r.want(r.moved(sandbox.EffectRefund), tc.moved+100, "moved after release")
		})
	}
}

func TestFaultsCanBeSetOverHTTP(t *testing.T) {
	r := newRig(t)
	r.ok("POST", "/_sandbox/faults", `{"kind":"error","path":"/v1/balance","times":-1,"status":503}`)
	r.want(r.do("GET", "/v1/balance", "").status, 503, "with the fault")
	r.want(r.ok("GET", "/_sandbox/healthz", "").num("faults"), int64(1), "faults counted")
	r.ok("DELETE", "/_sandbox/faults", "")
	r.ok("GET", "/v1/balance", "")
	r.ok("POST", "/_sandbox/faults", `{"kind":"latency","latency_ms":1}`)
	r.ok("POST", "/_sandbox/release", "")
	for _, bad := range []string{`{"kind":"fire"}`, `{"sort":"error"}`, `{`} {
		r.want(r.do("POST", "/_sandbox/faults", bad).status, 400, bad)
	}
	r.want(r.do("POST", "/_sandbox/keys", `{"key":"sk_test_x","permissions":{}}`).status, 400, "a key that is not restricted")
	r.want(r.do("POST", "/_sandbox/keys", `{"key":"rk_test_x","permissions":{"charges":"all"}}`).status, 400, "an unknown access")
	r.want(r.do("GET", "/_sandbox/nothing", "").status, 404, "unknown route")
	r.want(r.do("POST", "/_sandbox/nothing/x", "{}").status, 404, "unknown thing")
	r.want(r.do("POST", "/_sandbox/refunds/re_none", `{"status":"failed"}`).status, 400, "unknown refund")
	r.want(r.ok("POST", "/_sandbox/seed", "").str("account"), r.seed.Account, "seed again")
	r.ok("POST", "/_sandbox/reset", "")
	r.want(len(r.ok("GET", "/v1/customers", "").ids()), 0, "customers after a reset")
	r.want(r.s.Seed().Customers[0].ID, r.seed.Customers[0].ID, "ids after a reset")
}
