package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestAVendorsMessageIsHandedOnAndOpensNothing(t *testing.T) {
	type message struct{ upstream, text, signature string }
	var got []message
	var fails error
	w := buildWorld(t, setup{config: func(c *gateway.Config) {
		c.Webhook = func(_ context.Context, upstream string, m []byte, signature string) error {
			got = append(got, message{upstream, string(m), signature})
			return fails
		}
	}})
	send := func(method, path, body string, signatures ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, strings.NewReader(body))
		must(t, err)
		for _, s := range signatures {
			req.Header.Add("Stripe-Signature", s)
		}
		resp, err := w.client.Do(req)
		must(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(text)
	}
	if status, _ := send("POST", "/keybrake/v1/webhooks/sandbox", "{}", "t=1,v1=00"); status != 200 || len(got) != 1 || got[0] != (message{"sandbox", "{}", "t=1,v1=00"}) {
		t.Fatalf("%d %+v", status, got)
	}
	for _, c := range []struct {
		name, method string
		signatures   []string
		body         string
		fails        error
		status       int
	}{
		{"not the vendor's", "POST", []string{"t=1"}, "{}", vault.ErrSignature, 400},
		{"could not be followed up", "POST", []string{"t=1"}, "{}", errors.New("later"), 503},
		{"not signed", "POST", nil, "{}", nil, 400},
		{"signed twice", "POST", []string{"t=1", "t=2"}, "{}", nil, 400},
		{"a read", "GET", []string{"t=1"}, "", nil, 404},
		{"too large", "POST", []string{"t=1"}, strings.Repeat(" ", 600<<10), nil, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			fails = c.fails
			if status, text := send(c.method, "/keybrake/v1/webhooks/x", c.body, c.signatures...); status != c.status || strings.Contains(text, "x") && c.status == 400 {
				t.Errorf("%d %q", status, text)
			}
		})
	}
	if n := w.Sandbox.Arrivals(); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}
