package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/vault"
)

func TestEveryListingIsReadPageByPage(t *testing.T) {
	w := newWorld(t)
	w.Scopes = []Scope{{Resource: "charges"}, {Resource: "refunds"}, {Resource: "payouts"}}
	ctx := t.Context()
	for i := range 3 {
		name := fmt.Sprintf("agent-support-refunds-r%d", i)
		w.key(t, name)
		w.operator(t, fmt.Sprintf("ada%d", i), vault.RoleAuditor)
		w.signedIn(t, fmt.Sprintf("ada%d", i))
		w.token(t, TokenRequest{Name: fmt.Sprintf("ci%d", i), Role: "stop"})
		if _, err := w.client.Kill(ctx, KillRequest{Target: Target{Keys: []string{name}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"up1", "up2"} {
		if _, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: name, Secret: "rk_test_51" + name + "CanaryCanary"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.client.SetRates(ctx, RateInputs{Rates: []RateInput{{"EUR", "1.09"}, {"GBP", "1.3"}, {"JPY", "0.0067"}}}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"keys", "standings", "upstreams", "operators", "tokens", "sessions", "rates", "brakes", "permissions", "presets", "audit",
	} {
		t.Run(path, func(t *testing.T) {
			page := func(limit, after string) (List[map[string]any], error) {
				return call[List[map[string]any]](ctx, w.client, http.MethodGet, path, url.Values{"limit": {limit}, "after": {after}}, nil)
			}
			all, err := page("1000", "")
			if err != nil || len(all.Items) < 3 || all.Next != "" {
				t.Fatalf("%d items, next %q, %v", len(all.Items), all.Next, err)
			}
			var cut []map[string]any
			for after, more := "", true; more; more = after != "" {
				part, err := page("2", after)
				if err != nil || len(part.Items) > 2 {
					t.Fatalf("%d items after %q: %v", len(part.Items), after, err)
				}
				cut, after = append(cut, part.Items...), part.Next
			}
			if diff := cmp.Diff(all.Items, cut); diff != "" {
				t.Errorf("pages are not the whole (-whole +pages):\n%s", diff)
			}
			var p *Problem
			for _, limit := range []string{"0", "-1", "1001", "many"} {
				if _, err := page(limit, ""); !errors.As(err, &p) || p.Status != 422 || p.Field("query.limit") == "" {
					t.Errorf("limit=%s: %v", limit, err)
				}
			}
			if _, err := page("2", "nowhere"); !errors.As(err, &p) || p.Status != 400 || p.Field("query.after") == "" {
				t.Errorf("after=nowhere: %v", err)
			}
		})
	}
	if got, err := w.client.Operators(context.Background()); err != nil || len(got.Items) != 3 {
		t.Errorf("%d operators, %v", len(got.Items), err)
	}
}
