package process

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// send makes one request without following where it is sent, and returns the answer's status.
func send(t *testing.T, method, url, body string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// plant puts a secret into every place of a call to the gateway where one can be by mistake.
func plant(t *testing.T, gateway, key, secret string) {
	t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte(secret + ":"))
	agent := "Bearer " + key
	for _, c := range []struct {
		method, path, form string
		headers            []string
	}{
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", "Bearer " + secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", "Basic " + basic}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "Cookie", "keybrake_session=" + secret}},
		{"GET", "/v1/charges?customer=" + secret, "", []string{"Authorization", agent}},
		{"GET", "/v1/charges?" + secret + "=1", "", []string{"Authorization", agent}},
		{"GET", "/v1/products?ids[]=" + secret, "", []string{"Authorization", agent}},
		{"GET", "/v1/charges/" + secret, "", []string{"Authorization", agent}},
		{"GET", "/v1/" + secret, "", []string{"Authorization", agent}},
		{"GET", "/" + secret + "/v1/charges", "", []string{"Authorization", agent}},
		{"POST", "/v1/refunds", "charge=" + secret + "&amount=100", []string{"Authorization", agent}},
		{"POST", "/v1/refunds", "charge=ch_1&metadata[note]=" + secret, []string{"Authorization", agent}},
		{"POST", "/v1/refunds", secret + "=1", []string{"Authorization", agent}},
		{"POST", "/v1/refunds", "metadata[" + secret + "]=1", []string{"Authorization", agent}},
		{"POST", "/v1/refunds", "charge=ch_1&amount=100", []string{"Authorization", agent, "Idempotency-Key", secret}},
		{"POST", "/v1/refunds", `{"charge": "` + secret + `"}`, []string{"Authorization", agent, "Content-Type", "application/json"}},
		{"POST", "/v1/refunds", secret, []string{"Authorization", agent, "Content-Type", secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "User-Agent", "agent " + secret, "X-Agent-Run-Id", "run " + secret, "X-Stripe-Client-User-Agent", secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "Stripe-Version", secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "Stripe-Account", secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "Stripe-Context", secret}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "X-Forwarded-For", secret, "Referer", "https://example.com/" + secret, secret, "1"}},
		{"GET", "/v1/charges?limit=1", "", []string{"Authorization", agent, "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate", "a=" + secret}},
		{"POST", "/keybrake/v1/webhooks/" + secret, "{}", []string{"Stripe-Signature", "t=1,v1=" + secret}},
		{"GET", "/keybrake/v1/self?" + secret, "", []string{"Authorization", agent}},
	} {
		if status := send(t, c.method, gateway+c.path, c.form, c.headers...); status >= 500 {
			t.Errorf("%s %s: %d", c.method, strings.ReplaceAll(c.path, secret, "…"), status)
		}
	}
}

// plantAdmin does the same at the operators' listener: the API, the sign-in and the links.
func plantAdmin(t *testing.T, admin, token, secret string) {
	t.Helper()
	operator := "Bearer " + token
	for _, c := range []struct {
		want               int // 0: some refusal, or what a secret in its own place gets
		method, path, body string
		headers            []string
	}{
		{0, "GET", "/admin/v1/keys", "", []string{"Authorization", "Bearer " + secret}},
		{0, "GET", "/metrics", "", []string{"Authorization", "Bearer " + secret}},
		{0, "GET", "/admin/v1/keys/" + secret, "", []string{"Authorization", operator}},
		{200, "GET", "/admin/v1/keys?match=" + secret, "", []string{"Authorization", operator}},
		{0, "GET", "/admin/v1/" + secret + "?" + secret, "", []string{"Authorization", operator, "User-Agent", secret, "Referer", secret}},
		{0, "POST", "/admin/v1/kill", `{"keys": ["` + secret + `"], "reason": "it leaked: ` + secret + `"}`, []string{"Authorization", operator, "Content-Type", "application/json", "Idempotency-Key", secret}},
		{200, "POST", "/admin/v1/kill", `{"upstream": "stripe-test", "read_only": true, "reason": "it leaked: ` + secret + `"}`, []string{"Authorization", operator, "Content-Type", "application/json"}},
		{0, "POST", "/admin/v1/keys", `{"name": "` + secret + `", "preset": "` + secret + `", "policy": "` + secret + `"}`, []string{"Authorization", operator, "Content-Type", "application/json"}},
		{0, "POST", "/login", "token=" + url.QueryEscape(secret), nil},
		{200, "GET", "/login?next=/" + secret, "", []string{"Cookie", "keybrake_session=" + secret}},
		{0, "GET", "/welcome?link=" + secret, "", nil},
		{0, "POST", "/welcome", "link=" + url.QueryEscape(secret) + "&name=mallory", []string{"User-Agent", "Mozilla " + secret}},
	} {
		status := send(t, c.method, admin+c.path, c.body, c.headers...)
		if c.want != 0 && status != c.want || status >= 500 {
			t.Errorf("%s %s: %d, want %d", c.method, strings.ReplaceAll(c.path, secret, "…"), status, c.want)
		}
	}
}

// forms are a secret in every form that a careless writer might give it. What is left of one that was cut is one too.
func forms(secret string) map[string][]byte {
	cut := secret[:len(secret)-4]
	return map[string][]byte{
		"as it is": []byte(secret), "cut": []byte(cut), "in base64": []byte(base64.StdEncoding.EncodeToString([]byte(secret))),
		"as a user of basic authentication": []byte(base64.StdEncoding.EncodeToString([]byte(secret + ":"))),
		"in hex":                            []byte(hex.EncodeToString([]byte(secret))), "in lower case": []byte(strings.ToLower(secret)),
	}
}

// TestNoSecretLeavesByLogOrExport sends every secret that a server has to every place of requests at both of its ports, while it
// logs as much as it can, and looks for them in all that it says and hands out.
func TestNoSecretLeavesByLogOrExport(t *testing.T) {
	h := newHome(t)
	s := h.serve("--log-format", "json", "--log-level", "debug")
	first := regexp.MustCompile(`keybrake_link_[0-9A-Za-z]+`).FindString(s.out.String())
	const upstreamSecret, webhookSecret = "sk_test_canaryOfTheUpstream0001", "whsec_canaryOfTheWebhook00000001"
	for _, c := range [][]string{
		{"upstream", "add", "stripe-test", "--secret-env", "SECRET", "--base-url", h.Sandbox},
		{"upstream", "webhook", "stripe-test", "--secret-env", "WEBHOOK"},
	} {
		if r := h.runEnv([]string{"SECRET=" + upstreamSecret, "WEBHOOK=" + webhookSecret}, c...); r.Exit != 0 {
			t.Fatalf("%v: %s%s", c, r.Out, r.Err)
		}
	}
	key := h.newKey("agent-support-refunds-p1")
	var invite struct{ Link string }
	var token struct{ Token string }
	h.must(nil, "operator", "add", "ines", "--role", "admin")
	h.must(&invite, "operator", "invite", "ines", "-o", "json")
	h.must(&token, "token", "create", "ines-laptop", "--operator", "ines", "-o", "json")
	_, link, _ := strings.Cut(invite.Link, "link=")
	secrets := map[string]string{
		"the upstream's secret": upstreamSecret, "the webhook's secret": webhookSecret, "a vault key": key, "the admin token": s.Token,
		"a token to sign in with": token.Token, "an invitation": link, "the first admin's link": first,
	}
	for what, secret := range secrets {
		if len(secret) < 24 {
			t.Fatalf("%s is %q: this test proves nothing", what, secret)
		}
		plant(t, s.Gateway, key, secret)
	}
	for _, secret := range secrets { // the last, since it stops writes
		plantAdmin(t, s.Admin, s.Token, secret)
	}
	h.must(nil, "key", "rotate", "agent-support-refunds-p1", "-o", "json")
	places := map[string][]byte{"the export": []byte(h.run("audit", "export").Out), "the export as CSV": []byte(h.run("audit", "export", "--format", "csv").Out)}
	s.signal(syscall.SIGTERM)
	<-s.done
	places["the log"] = []byte(s.log.String())
	for place, want := range map[string]string{"the log": `"verdict":"deny"`, "the export": `"keybrake_scope_denied"`, "the export as CSV": "it leaked: [secret]"} {
		if !bytes.Contains(places[place], []byte(want)) {
			t.Errorf("this test proves nothing: %s has no %s", place, want)
		}
	}
	for line := range bytes.Lines(places["the log"]) {
		if !json.Valid(line) {
			t.Errorf("a line of the log is no JSON: %s", line)
		}
	}
	for what, secret := range secrets {
		for form, b := range forms(secret) {
			for place, content := range places {
				if at := bytes.Index(content, b); at >= 0 {
					t.Errorf("%s is in %s %s: %q", what, place, form, content[max(0, at-120):min(len(content), at+len(b)+40)])
				}
			}
		}
	}
}
