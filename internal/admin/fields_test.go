package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/vault"
)

func TestWhatIsWrongWithARequestIsSaidByFieldAndAllAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.key(t, "agent-support-refunds-taken")
	w.key(t, "agent-support-refunds-other")
	w.operator(t, "ada", vault.RoleAuditor)
	create := func(req KeyRequest) func() error {
		return func() error { _, err := w.client.CreateKey(ctx, req); return err }
	}
	for _, c := range []struct {
		name   string
		do     func() error
		status int
		want   []string
	}{
		{"a cap, customers and an expiry that cannot be read", create(KeyRequest{
			Name: "agent-support-refunds-a", Preset: "refund-support",
			PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=100", "refunds/fortnight=1"}, Customers: []string{"any", "cus_A"}, Expires: "soon"},
		}), 400, []string{"body.caps[1]", "body.customers", "body.expires"}},
		{"several parts of a policy, and a span beside it", create(KeyRequest{
			Name:       "agent-support-refunds-b",
			PolicyEdit: PolicyEdit{Policy: "scopes: {refunds: write, refund: read}\ncaps:\n  - {resource: refunds, per: day, usd: 1.234}\ncustomers: any\n", RotateEvery: "often"},
		}), 400, []string{"body.policy.caps[0].usd", "body.policy.scopes.refund", "body.rotate_every"}},
		{"a name that is taken", create(KeyRequest{
			Name: "agent-support-refunds-taken", Preset: "refund-support", PolicyEdit: PolicyEdit{Customers: []string{"any"}, Caps: []string{"refunds/day=1"}},
		}), 409, []string{"body.name"}},
		{"a name that is none, an upstream that there is not, and a policy that cannot be read", create(KeyRequest{
			Name: "Agent One", Upstream: "nowhere", PolicyEdit: PolicyEdit{Policy: "scopes: {refund: read}\n"},
		}), 400, []string{"body.policy.name", "body.upstream", "body.policy.scopes.refund"}},
		{"a name that is none, without a policy", create(KeyRequest{Name: "Agent One"}), 400, []string{"body.name", "body.policy"}},
		{"an edit that widens, to a name that is taken", func() error {
			_, err := w.client.UpdateKey(ctx, "agent-support-refunds-other", KeyUpdate{Name: "agent-support-refunds-taken", PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=1000"}}})
			return err
		}, 400, []string{"body.name", "body.reason"}},
		{"an upstream of which nothing is right", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "no name", Secret: "canary", BaseURL: "ftp://x", Version: "latest", RotateEvery: "often"})
			return err
		}, 400, []string{"body.base_url", "body.name", "body.rotate_every", "body.secret", "body.version"}},
		{"a version without a reason, and a span", func() error {
			_, err := w.client.UpdateUpstream(ctx, "stripe-test", UpstreamUpdate{Version: "2026-01-28.preview", RotateEvery: "often"})
			return err
		}, 400, []string{"body.reason", "body.rotate_every", "body.version"}},
		{"an account of which nothing is right", func() error {
			_, err := w.client.CreateOperator(ctx, OperatorRequest{Name: "no name", Role: "auditor", Email: "nobody"})
			return err
		}, 400, []string{"body.email", "body.name"}},
		{"a higher role without a reason, and an email", func() error {
			email := "nobody"
			_, err := w.client.UpdateOperator(ctx, "ada", OperatorUpdate{Role: "responder", Email: &email})
			return err
		}, 400, []string{"body.email", "body.reason"}},
		{"a token of which nothing is right", func() error {
			_, err := w.client.CreateToken(ctx, TokenRequest{Name: "no name", Role: "stop", Expires: "soon"})
			return err
		}, 400, []string{"body.expires", "body.name"}},
		{"rates of which none is right", func() error {
			_, err := w.client.SetRates(ctx, RateInputs{Rates: []RateInput{{"EURO", "much"}, {"GBP", "1.3"}, {"GBP", "1.3"}}})
			return err
		}, 400, []string{"body.rates[0].currency", "body.rates[0].rate", "body.rates[2].currency"}},
		{"a search of which nothing is right", func() error {
			_, err := call[List[any]](ctx, w.client, http.MethodGet, "audit?since=x&until=y&min_usd=much&max_usd=more&operation=refund.create&resource=refund&key=nobody", nil, nil)
			return err
		}, 400, []string{"query.key", "query.max_usd", "query.min_usd", "query.operation", "query.resource", "query.since", "query.until"}},
		{"a replay of which nothing is right", func() error {
			_, err := w.client.Replay(ctx, ReplayRequest{Since: "x", PolicyEdit: PolicyEdit{Policy: "scopes: {refund: read}\n"}})
			return err
		}, 400, []string{"body.policy.scopes.refund", "body.since"}},
		{"a resumption of nothing for no reason", func() error {
			_, err := w.client.Resume(ctx, ResumeRequest{})
			return err
		}, 400, []string{"body", "body.reason"}},
		{"a reason that is a story", func() error {
			_, err := w.client.RevokeKey(ctx, "agent-support-refunds-other", strings.Repeat("é", maxReason+1))
			return err
		}, 422, []string{"body.reason"}},
		{"a resumption of which nothing is right", func() error {
			_, err := w.client.Resume(ctx, ResumeRequest{Reason: strings.Repeat("x", maxReason+1)})
			return err
		}, 422, []string{"body.reason"}},
		{"no policy", create(KeyRequest{Name: "agent-support-refunds-c"}), 400, []string{"body.policy"}},
		{"a member that nobody knows, and one that is missing", func() error {
			_, err := call[Operator](ctx, w.client, http.MethodPost, "operators", nil, map[string]string{"name": "ada", "rolle": "admin"})
			return err
		}, 422, []string{"body", "body.rolle"}},
		{"a secret of no kind", func() error {
			_, err := w.client.AddUpstream(ctx, UpstreamRequest{Name: "other", Secret: "canary"})
			return err
		}, 400, []string{"body.secret"}},
		{"a page that is gone", func() error {
			_, err := w.client.Keys(ctx, KeyFilter{After: "key_gone"})
			return err
		}, 400, []string{"query.after"}},
		{"a time that cannot be read", func() error {
			_, err := call[List[any]](ctx, w.client, http.MethodGet, "audit?until=tomorrow", nil, nil)
			return err
		}, 400, []string{"query.until"}},
		{"the second rate", func() error {
			_, err := w.client.SetRates(ctx, RateInputs{Rates: []RateInput{{"EUR", "1.09"}, {"GBP", "much"}}})
			return err
		}, 400, []string{"body.rates[1].rate"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p *Problem
			if err := c.do(); !errors.As(err, &p) || p.Status != c.status {
				t.Fatalf("got %v, want a problem with %d", err, c.status)
			}
			var got []string
			for _, f := range p.Fields {
				got = append(got, f.Location)
				if f.Message == "" || p.Field(f.Location) == "" || strings.Contains(f.Message, "canary") {
					t.Errorf("%s says %q", f.Location, f.Message)
				}
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(c.want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%v", diff, p)
			}
		})
	}
}

func TestACheckedPolicyNamesTheFieldOfEachProblem(t *testing.T) {
	w := newWorld(t)
	got, err := w.client.CheckPolicy(context.Background(), PolicyCheckRequest{KeyRequest: KeyRequest{
		Name: "agent-support-refunds-a", PolicyEdit: PolicyEdit{Policy: "scopes: {refunds: write}\ncustomers: any\ncaps:\n  - {resource: refunds, per: day, usd: 1.234}\n"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Problems) != 1 || got.Problems[0].Field != "caps[0].usd" || got.Problems[0].Line != 4 {
		t.Errorf("problems %+v", got.Problems)
	}
}
