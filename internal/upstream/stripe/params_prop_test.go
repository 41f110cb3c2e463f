package stripe

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
	"pgregory.net/rapid"
)

var name = rapid.StringMatching(`[a-z][a-z_]{0,6}`)

// anyText is text as metadata and names have it: UTF-8 without control characters.
var anyText = rapid.StringOfN(rapid.RuneFrom([]rune("abzABZ019 _-.~+&=;%#?/\\\"'[]é日\U0001F600\n")), 0, 12, -1)

var anyKey = rapid.Custom(func(t *rapid.T) string {
	return strings.NewReplacer("[", "(", "]", ")", "\n", " ").Replace(anyText.Filter(func(s string) bool { return s != "" }).Draw(t, "key"))
})

// drawNode makes a tree as Parse would: sorted keys, no empty hashes or arrays (a form cannot say them), and
// no hash that would read as an array.
func drawNode(t *rapid.T, depth int, json bool) *Node {
	kinds := []NodeKind{Text, Text}
	if json {
		kinds = append(kinds, Number, Bool, Null)
	}
	if depth > 0 {
		kinds = append(kinds, Hash, Array)
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case Number:
		return &Node{Kind: Number, Text: fmt.Sprint(rapid.Int64().Draw(t, "number"))}
	case Bool:
		return &Node{Kind: Bool, Text: rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool")}
	case Null:
		return &Node{Kind: Null}
	case Hash:
		return drawHash(t, depth, json)
	case Array:
		n := &Node{Kind: Array}
		for range rapid.IntRange(1, 12).Draw(t, "elements") {
			n.Members = append(n.Members, Member{Value: drawNode(t, depth-1, json)})
		}
		return n
	default:
		return &Node{Text: anyText.Draw(t, "text")}
	}
}

func drawHash(t *rapid.T, depth int, json bool) *Node {
	n := &Node{Kind: Hash}
	for range rapid.IntRange(1, 4).Draw(t, "members") {
		n.put(name.Draw(t, "name"), drawNode(t, depth-1, json))
	}
	if rapid.Bool().Draw(t, "with metadata") {
		m := &Node{Kind: Hash}
		for range rapid.IntRange(1, 3).Draw(t, "metadata") {
			m.put("k"+anyKey.Draw(t, "key"), &Node{Text: anyText.Draw(t, "value")})
		}
		n.put("metadata", m)
	}
	return n
}

func TestPropertyAFormIsReadBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Params{root: *drawHash(t, 4, false)}
		text := string(p.Encode())
		back, refusal := parseForm(text)
		if refusal != nil {
			t.Fatalf("%s: %s", text, refusal.Message)
		}
		if diff := cmp.Diff(p.root, back.root); diff != "" {
			t.Fatalf("%s (-written +read):\n%s", text, diff)
		}
		if again := string(back.Encode()); again != text {
			t.Fatalf("%s is written again as %s", text, again)
		}
	})
}

func TestPropertyJSONIsReadBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Params{root: *drawHash(t, 4, true), json: true}
		text := p.Encode()
		back, refusal := parseJSON(text)
		if refusal != nil {
			t.Fatalf("%s: %s", text, refusal.Message)
		}
		if diff := cmp.Diff(p.root, back.root); diff != "" {
			t.Fatalf("%s (-written +read):\n%s", text, diff)
		}
	})
}

// TestPropertyTheOrderOfParametersDoesNotMatter: a retry that shuffles its parameters is the same call.
func TestPropertyTheOrderOfParametersDoesNotMatter(t *testing.T) {
	a := newAdapter(t)
	pairs := []string{"amount=100", "currency=usd", "customer=cus_1", "metadata[a]=1", "metadata%5Bb%5D=2", "confirm=True", "expand[0]=customer"}
	want := mustParse(t, a, post("/v1/payment_intents", strings.Join(pairs, "&")))
	rapid.Check(t, func(t *rapid.T) {
		call, refusal := a.Parse(post("/v1/payment_intents", strings.Join(rapid.Permutation(pairs).Draw(t, "order"), "&")), "")
		if refusal != nil {
			t.Fatal(refusal.Message)
		}
		if call.Fingerprint != want.Fingerprint || string(call.Body) != string(want.Body) {
			t.Fatalf("%s is not %s", call.Body, want.Body)
		}
	})
}

func TestTheFingerprintTellsCallsApart(t *testing.T) {
	a := newAdapter(t)
	seen := map[[32]byte]string{}
	for name, raw := range map[string]*upstream.RawCall{
		"a refund":                    post("/v1/refunds", "charge=ch_1&amount=1"),
		"another amount":              post("/v1/refunds", "charge=ch_1&amount=2"),
		"no amount":                   post("/v1/refunds", "charge=ch_1"),
		"another charge":              post("/v1/refunds", "charge=ch_2&amount=1"),
		"another account":             with(post("/v1/refunds", "charge=ch_1&amount=1"), "Stripe-Account", "acct_1"),
		"another operation":           post("/v1/charges/ch_1/refunds", "amount=1"),
		"another id in the path":      post("/v1/charges/ch_2/refunds", "amount=1"),
		"a plan":                      post("/v1/plans/a", "nickname=x"),
		"an id that looks like two":   post("/v1/plans/a%2Fb", "nickname=x"),
		"a value that looks like two": post("/v1/refunds", "charge=ch_1&reason=a%26amount%3D1"),
	} {
		call := mustParse(t, a, raw)
		if old, ok := seen[call.Fingerprint]; ok {
			t.Errorf("%s and %s have one fingerprint", name, old)
		}
		seen[call.Fingerprint] = name
	}
}

func TestACallIsRebuiltFromWhatWasJudged(t *testing.T) {
	a := newAdapter(t)
	raw := post("/stripe/v1/payment_intents", "currency=USD&amount=100&confirm=TRUE&payment_method_types[]=card&payment_method_types[]=link&metadata%5Ba+b%5D=x%20y")
	raw.Header = http.Header{
		"Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"}, "User-Agent": {"Stripe/v1 NodeBindings/23.1.0"},
		"X-Stripe-Client-User-Agent": {"{}"}, "Idempotency-Key": {"stripe-node-retry-1"}, "Authorization": {"Bearer vault_key_test_x"},
		"Cookie": {"a=b"}, "X-Forwarded-For": {"10.0.0.1"}, "X-Stripe-Client-Telemetry": {"{}"}, "Accept-Encoding": {"gzip"}, "Host": {"evil"},
	}
	call := mustParse(t, a, raw)
	const body = "amount=100&confirm=true&currency=usd&metadata%5Ba%20b%5D=x%20y&payment_method_types%5B0%5D=card&payment_method_types%5B1%5D=link"
	if string(call.Body) != body {
		t.Errorf("body %s", call.Body)
	}
	want := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Stripe-Version": {DefaultVersion},
		"User-Agent": {"Stripe/v1 NodeBindings/23.1.0"}, "X-Stripe-Client-User-Agent": {"{}"},
	}
	if diff := cmp.Diff(want, call.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if call.Path != "/v1/payment_intents" || call.Query != "" || call.IdempotencyKey != "stripe-node-retry-1" || call.AttachFor != attachV1 {
		t.Errorf("%+v", call)
	}
	v, ok := call.Operation.Params.Lookup("metadata[a b]")
	if !ok || len(v) != 1 || v[0] != "x y" {
		t.Errorf("metadata[a b] is %q", v)
	}
	if v, _ := call.Operation.Params.Lookup("payment_method_types"); !cmp.Equal(v, []string{"card", "link"}) {
		t.Errorf("payment_method_types is %q", v)
	}
}

func TestADeleteIsSentWithAQueryWhereverItsParametersWere(t *testing.T) {
	a := newAdapter(t)
	inBody := mustParse(t, a, formCall("DELETE", "/v1/subscription_items/si_1", "", "clear_usage=True"))
	inQuery := mustParse(t, a, formCall("DELETE", "/v1/subscription_items/si_1", "clear_usage=true", ""))
	if inBody.Query != "clear_usage=true" || inBody.Body != nil || inBody.Fingerprint != inQuery.Fingerprint || inBody.AttachFor != 0 {
		t.Errorf("%+v and %+v", inBody, inQuery)
	}
}

func TestV2BodiesStayJSON(t *testing.T) {
	a := newAdapter(t)
	raw := with(post("/v2/core/accounts", `{"display_name":"é<b>","identity":{"country":"us"},"include":["identity"],"n":12}`), "Content-Type", "application/json")
	call := mustParse(t, a, raw)
	if string(call.Body) != `{"display_name":"é\u003cb\u003e","identity":{"country":"us"},"include":["identity"],"n":12}` {
		t.Errorf("body %s", call.Body)
	}
	if call.AttachFor != attachV2 || call.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", call)
	}
	if empty := mustParse(t, a, formCall("POST", "/v2/core/accounts/acct_1/close", "", "")); string(empty.Body) != "{}" {
		t.Errorf("an empty body is sent as %q", empty.Body)
	}
}

func TestTheVersionIsOneThatIsKnown(t *testing.T) {
	for _, c := range []struct{ asked, pinned, sent string }{
		{"", "", DefaultVersion},
		{"", "2025-01-01.acacia", "2025-01-01.acacia"},
		{"2025-01-01.acacia", "2025-01-01.acacia", "2025-01-01.acacia"},
		{"2026-10-28.endive", "2025-01-01.acacia", "2026-10-28.endive"},
		{"2027-01-01.dahlia", "", "2027-01-01.dahlia"},
		{"2026-08-26", "", ""},
		{"2026-08-26.preview", "", ""},
		{"2026-08-26.fuchsia", "", ""},
		{"2026-8-26.dahlia", "", ""},
		{"2026-08-26.dahlia ", "", ""},
	} {
		got, refusal := pickVersion(c.asked, c.pinned)
		if got != c.sent || (refusal == nil) != (c.sent != "") {
			t.Errorf("%q under %q: %q %v, want %q", c.asked, c.pinned, got, refusal, c.sent)
		}
		if refusal != nil && refusal.Code != policy.CodeVersion {
			t.Error(refusal.Code)
		}
	}
}
