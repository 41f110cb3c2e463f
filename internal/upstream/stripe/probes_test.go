package stripe

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestEveryOperationHasAProbeThatIsReadAsIt(t *testing.T) {
	a := newAdapter(t)
	probes := a.catalog.Probes()
	if len(probes) != len(a.catalog.rows) {
		t.Fatalf("%d probes for %d operations", len(probes), len(a.catalog.rows))
	}
	for _, p := range probes {
		raw := with(formCall(p.Method, strings.Replace(p.Path, "{account}", "acct_1", 1), p.Query, string(p.Body)), "Content-Type", p.ContentType)
		call, _ := a.Parse(raw, "")
		if call == nil || call.Operation.Name != p.Operation {
			t.Errorf("%s %s is not read as %s: %+v", p.Method, p.Path, p.Operation, call)
		}
		if row := a.catalog.byName[p.Operation]; p.Access != row.Access || p.Closed != (row.Release == Preview || row.Host == HostMeterEvents) {
			t.Errorf("%s: %+v", p.Operation, p)
		}
	}
}

// TestProbesHaveNoEffect sends what may be sent to Stripe, with a secret that may do everything.
func TestProbesHaveNoEffect(t *testing.T) {
	sb := sandbox.New(sandbox.Options{Seed: 1})
	sb.Seed()
	srv := httptest.NewServer(sb)
	defer srv.Close()
	before := len(sb.Journal())
	sent, writes := 0, 0
	for _, p := range newAdapter(t).catalog.Probes() {
		if p.Closed || p.Access == policy.Write && p.Broken == "" {
			continue
		}
		call := &upstream.Call{Method: p.Method, Path: strings.Replace(p.Path, "{account}", nobody, 1)}
		if p.Method == http.MethodPost {
			call.Body = []byte(p.Broken)
		} else {
			call.Query = p.Broken
		}
		sent++
		status := send(t, srv, call).Status
		if p.Access == policy.Write {
			writes++
			if status < 400 || status >= 500 {
				t.Errorf("%s %s was answered with %d", p.Method, p.Path, status)
			}
		}
	}
	journal := sb.Journal()[before:]
	if len(journal) != sent || writes < 250 {
		t.Errorf("%d sent, %d of them writes, %d arrived", sent, writes, len(journal))
	}
	for _, e := range journal {
		if len(e.Effects) > 0 {
			t.Errorf("%s %s had the effects %v", e.Method, e.Path, e.Effects)
		}
	}
}
