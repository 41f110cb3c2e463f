package stripe

import (
	"encoding/json"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// codeConstants reads every constant of type policy.Code from the packages that declare them, so that a
// new code without a rendering fails here.
func codeConstants(t *testing.T) map[policy.Code]string {
	t.Helper()
	codes := make(map[policy.Code]string)
	for _, file := range []string{"../../policy/decision.go", "../failure.go"} {
		f, err := goparser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) != 1 {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[policy.Code(s)] = spec.Names[0].Name
			return true
		})
	}
	if len(codes) < 28 {
		t.Fatalf("found %d codes only: the sources have moved", len(codes))
	}
	return codes
}

func TestEveryCodeHasARendering(t *testing.T) {
	codes := codeConstants(t)
	for code, name := range codes {
		if _, ok := renderings[code]; !ok {
			t.Errorf("%s (%s) has no rendering", name, code)
		}
	}
	for code := range renderings {
		if _, ok := codes[code]; !ok {
			t.Errorf("a rendering for %q, which no package declares", code)
		}
	}
}

func TestEveryRenderingIsWhatTheSDKsNeed(t *testing.T) {
	for code := range renderings {
		res := refuse(upstream.Denial{Code: code, Message: "no", AuditID: "aud_1", RequestID: "req_kb1"})
		var body map[string]map[string]any
		if err := json.Unmarshal(res.Body, &body); err != nil || body["error"] == nil {
			t.Errorf("%s: body %s has no top-level error: %v", code, res.Body, err)
			continue
		}
		if got := res.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", code, got)
		}
		if res.Header.Get("Request-Id") != "req_kb1" || res.Header.Get("Keybrake-Audit-Id") != "aud_1" {
			t.Errorf("%s: ids are missing in %v", code, res.Header)
		}
		if res.Status < 400 || res.Status > 599 || res.Status == http.StatusPaymentRequired || res.Status == http.StatusTooManyRequests {
			t.Errorf("%s: status %d reads as a decline, a throttle or no error at all", code, res.Status)
		}
		machine, _ := body["error"]["keybrake"].(map[string]any)
		if machine["code"] != string(code) || machine["doc"] != "docs/policies.md#"+string(code) || machine["audit_id"] != "aud_1" {
			t.Errorf("%s: machine form %v", code, machine)
		}
	}
}

func TestRefuse(t *testing.T) {
	tests := map[string]struct {
		denial             upstream.Denial
		status             int
		kind, code, retry  string
		param, machineCode string
	}{
		"an unknown key is 401":                         {denial: upstream.Denial{Code: policy.CodeKeyInvalid}, status: 401, kind: "invalid_request_error", code: "keybrake_key_invalid", retry: "false"},
		"a killed key is 401":                           {denial: upstream.Denial{Code: policy.CodeKeyKilled}, status: 401, kind: "invalid_request_error", code: "keybrake_key_killed", retry: "false"},
		"out of scope is 401 by default":                {denial: upstream.Denial{Code: policy.CodeScopeDenied}, status: 401, kind: "invalid_request_error", code: "keybrake_scope_denied", retry: "false"},
		"out of scope is 403 by setting":                {denial: upstream.Denial{Code: policy.CodeScopeDenied, ScopeStatus: 403}, status: 403, kind: "invalid_request_error", code: "keybrake_scope_denied", retry: "false"},
		"a strange setting does not open a status":      {denial: upstream.Denial{Code: policy.CodeScopeDenied, ScopeStatus: 200}, status: 401, kind: "invalid_request_error", code: "keybrake_scope_denied", retry: "false"},
		"an unknown route reads as out of scope":        {denial: upstream.Denial{Code: policy.CodeUnknownRoute}, status: 401, kind: "invalid_request_error", code: "keybrake_scope_denied", retry: "false", machineCode: "keybrake_route_unknown"},
		"an ungranted account reads as out of scope":    {denial: upstream.Denial{Code: policy.CodeAccountDenied, ScopeStatus: 403}, status: 403, kind: "invalid_request_error", code: "keybrake_scope_denied", retry: "false", machineCode: "keybrake_account_denied"},
		"a full cap is 403":                             {denial: upstream.Denial{Code: policy.CodeCapExceeded}, status: 403, kind: "invalid_request_error", code: "keybrake_cap_exceeded", retry: "false"},
		"an unmeterable call is 403":                    {denial: upstream.Denial{Code: policy.CodeUnmeterable}, status: 403, kind: "invalid_request_error", code: "keybrake_unmeterable", retry: "false"},
		"a customer that is not allowed is 403":         {denial: upstream.Denial{Code: policy.CodeCustomerDenied}, status: 403, kind: "invalid_request_error", code: "keybrake_customer_denied", retry: "false"},
		"a parameter rule names the parameter":          {denial: upstream.Denial{Code: policy.CodeParamDenied, Param: "reason"}, status: 403, kind: "invalid_request_error", code: "keybrake_param_denied", retry: "false", param: "reason"},
		"a malformed call is 400":                       {denial: upstream.Denial{Code: policy.CodeMalformed, Param: "amount"}, status: 400, kind: "invalid_request_error", code: "keybrake_request_malformed", retry: "false", param: "amount"},
		"an unknown version is 400":                     {denial: upstream.Denial{Code: policy.CodeVersion}, status: 400, kind: "invalid_request_error", code: "keybrake_version_unknown", retry: "false"},
		"a reused idempotency key has no code":          {denial: upstream.Denial{Code: policy.CodeIdemMismatch}, status: 400, kind: "idempotency_error", retry: "false", machineCode: "keybrake_idempotency_mismatch"},
		"a key in flight leaves the retry to the SDK":   {denial: upstream.Denial{Code: policy.CodeIdemInUse}, status: 409, kind: "idempotency_error", code: "idempotency_key_in_use"},
		"a pending outcome stops the SDK":               {denial: upstream.Denial{Code: policy.CodeOutcomePending, Retry: true}, status: 409, kind: "idempotency_error", code: "keybrake_outcome_pending", retry: "false"},
		"unavailable may be repeated":                   {denial: upstream.Denial{Code: upstream.CodeUnavailable}, status: 503, kind: "api_error", code: "keybrake_unavailable", retry: "true"},
		"unreachable may be repeated":                   {denial: upstream.Denial{Code: upstream.CodeUnreachable}, status: 502, kind: "api_error", code: "keybrake_upstream_unreachable", retry: "true"},
		"a refused credential may not":                  {denial: upstream.Denial{Code: upstream.CodeCredential, Retry: true}, status: 502, kind: "api_error", code: "keybrake_upstream_credential", retry: "false"},
		"an unknown outcome with an idempotency key":    {denial: upstream.Denial{Code: upstream.CodeOutcomeUnknown, Retry: true}, status: 504, kind: "api_error", code: "keybrake_upstream_unknown", retry: "true"},
		"an unknown outcome without an idempotency key": {denial: upstream.Denial{Code: upstream.CodeOutcomeUnknown}, status: 504, kind: "api_error", code: "keybrake_upstream_unknown", retry: "false"},
		"a look-up that finds nothing reads as Stripe":  {denial: upstream.Denial{Code: upstream.CodeResourceMissing, Param: "charge"}, status: 404, kind: "invalid_request_error", code: "resource_missing", retry: "false", param: "charge"},
		"a code nobody knows is a denial":               {denial: upstream.Denial{Code: "keybrake_new", Retry: true}, status: 403, kind: "invalid_request_error", code: "keybrake_new", retry: "false"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.denial.Message = "It was <refused> & why."
			res := (&Adapter{}).Refuse(tt.denial)
			if res.Status != tt.status {
				t.Errorf("status %d, want %d", res.Status, tt.status)
			}
			if got := res.Header.Get("Stripe-Should-Retry"); got != tt.retry {
				t.Errorf("Stripe-Should-Retry %q, want %q", got, tt.retry)
			}
			var body struct {
				Error struct {
					Type, Code, Message, Param string
					Keybrake                   struct{ Code string }
				}
			}
			if err := json.Unmarshal(res.Body, &body); err != nil {
				t.Fatal(err)
			}
			want := tt.machineCode
			if want == "" {
				want = tt.code
			}
			got := []string{body.Error.Type, body.Error.Code, body.Error.Message, body.Error.Param, body.Error.Keybrake.Code}
			if diff := cmp.Diff([]string{tt.kind, tt.code, tt.denial.Message, tt.param, want}, got); diff != "" {
				t.Errorf("error object (-want +got):\n%s", diff)
			}
			if !strings.Contains(string(res.Body), "<refused> &") {
				t.Errorf("the message is escaped beyond reading: %s", res.Body)
			}
		})
	}
}

func TestRefuseGivesTheFiguresOfAFullCap(t *testing.T) {
	fail := &policy.CapFailure{
		Cap:  policy.Cap{Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD, Limit: 100_000_000},
		Held: 20_000_000, Settled: 80_000_000, Asked: 20_010_000, Left: 0,
		ResetsAtUnix: 1_774_310_400, AskedInCurrency: money.Amount{Minor: 2001, Currency: "usd"},
	}
	res := refuse(upstream.Denial{Code: policy.CodeCapExceeded, Message: "m", Rule: "caps.refunds/day", AuditID: "a", Cap: fail})
	var got struct {
		Error struct {
			Keybrake map[string]any `json:"keybrake"`
		} `json:"error"`
	}
	if err := json.Unmarshal(res.Body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"code": "keybrake_cap_exceeded", "rule": "caps.refunds/day", "audit_id": "a", "doc": "docs/policies.md#keybrake_cap_exceeded",
		"cap": map[string]any{
			"resource": "refunds", "per": "day", "unit": "usd", "limit": "100.00", "held": "20.00", "settled": "80.00",
			"left": "0.00", "asked": "20.01", "resets_at": "2026-03-24T00:00:00Z",
			"asked_amount": map[string]any{"amount": float64(2001), "currency": "usd"},
		},
	}
	if diff := cmp.Diff(want, got.Error.Keybrake); diff != "" {
		t.Errorf("machine form (-want +got):\n%s", diff)
	}
}

func TestAFullCapSaysWhatOfTheAskedAmountIsNotKnown(t *testing.T) {
	for name, test := range map[string]struct {
		asked money.Amount
		want  string // the end of the cap's figures
	}{
		"nothing is named":               {money.Amount{}, `"asked": null, "asked_amount": null,`},
		"an amount without its currency": {money.Amount{Minor: 2000}, `"asked": null, "asked_amount": {"amount": 2000, "currency": null},`},
		"an amount that has no dollars":  {money.Amount{Minor: 2000, Currency: "isk"}, `"asked": null, "asked_amount": {"amount": 2000, "currency": "isk"},`},
	} {
		res := refuse(upstream.Denial{Code: policy.CodeCapExceeded, Cap: &policy.CapFailure{
			Cap: policy.Cap{Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD}, AskedInCurrency: test.asked,
		}})
		if got := strings.Join(strings.Fields(string(res.Body)), " "); !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got, "{ ", "{"), " }", "}"), test.want) {
			t.Errorf("%s: no %s in %s", name, test.want, got)
		}
	}
}

func TestRefuseCountsCallsInWholeNumbersAndSaysWhatNeverResets(t *testing.T) {
	fail := &policy.CapFailure{Cap: policy.Cap{Resource: "*", Per: policy.PerTotal, Unit: policy.UnitCalls, Limit: 30}, Settled: 30, Asked: 1}
	res := refuse(upstream.Denial{Code: policy.CodeCapExceeded, Cap: fail})
	for _, want := range []string{`"limit": 30`, `"settled": 30`, `"asked": 1`, `"resets_at": null`, `"unit": "calls"`, `"per": "total"`} {
		if !strings.Contains(string(res.Body), want) {
			t.Errorf("no %s in %s", want, res.Body)
		}
	}
}
