package audit

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

// signer is an Ed25519 key as the vault holds one.
type signer struct{ key ed25519.PrivateKey }

func newSigner(seed byte) signer {
	return signer{ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+seed)), 32)))}
}

func (s signer) Sign(message []byte) []byte { return ed25519.Sign(s.key, message) }
func (s signer) PublicKey() []byte          { return s.key.Public().(ed25519.PublicKey) }

func refund() *Record {
	return &Record{
		At: noon, Kind: KindIntent, Key: "key_abcdefghijklmnop", KeyName: "agent-support-refunds-runner42", Credential: "x7Kq",
		Upstream: "up_abcdefghijklmnop", Mode: "test", Operation: "refunds.create", Method: "POST", Route: "/v1/refunds",
		Customers: []policy.CustomerID{"cus_R7mQ2xLw04Kd"},
		Effects:   []Effect{{Bucket: "refunds", Amount: money.Amount{Minor: 2000, Currency: "usd"}, USD: 20 * money.Dollar}},
		Caps: []Cap{
			{Resource: "refunds", Per: "day", Unit: policy.UnitUSD, Limit: 100_000_000, Held: 20_000_000, Left: 80_000_000, ResetsAt: noon.Truncate(time.Hour).Add(12 * time.Hour)},
			{Resource: "*", Per: "hour", Unit: policy.UnitCalls, Limit: 30, Settled: 1, Left: 29},
		},
		Verdict: "allow", Reservation: 7, Request: "req_kb_1", UserAgent: "Stripe/v1 NodeBindings/22.6.0", RunID: "run-42", From: "10.4.17.22",
	}
}

func TestTheEncodedFormIsFixed(t *testing.T) {
	r := refund()
	r.Seq, r.Chain = 7, "1"
	const want = `{"seq":7,"chain":"1","at":"2026-11-23T12:00:00.123456Z","kind":"intent",` +
		`"key":"key_abcdefghijklmnop","key_name":"agent-support-refunds-runner42","credential":"x7Kq","upstream":"up_abcdefghijklmnop","mode":"test",` +
		`"from":"10.4.17.22","user_agent":"Stripe/v1 NodeBindings/22.6.0","run_id":"run-42","request":"req_kb_1",` +
		`"operation":"refunds.create","method":"POST","route":"/v1/refunds","customers":["cus_R7mQ2xLw04Kd"],` +
		`"effects":[{"bucket":"refunds","amount":2000,"currency":"usd","usd":"20.00"}],"verdict":"allow",` +
		`"caps":[{"resource":"refunds","per":"day","unit":"usd","limit":"100.00","held":"20.00","settled":"0.00","left":"80.00","resets_at":"2026-11-24T00:00:00Z"},` +
		`{"resource":"*","per":"hour","unit":"calls","limit":30,"held":0,"settled":1,"left":29}],"reservation":7}`
	if diff := cmp.Diff(want, string(r.AppendJSON(nil))); diff != "" {
		t.Error(diff)
	}
}

// records draws any record, texts from outside included.
func records() *rapid.Generator[*Record] {
	return rapid.Custom(func(t *rapid.T) *Record {
		hostile := rapid.OneOf(
			rapid.String(), rapid.StringMatching(`[0-9 -]{0,40}`), rapid.StringMatching(`(sk_live_|vault_key_test_|pi_1_secret_)?[A-Za-z0-9_]{0,400}`),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.StringMatching(`[=+@"\\<>&\x00-\x1f]{0,20}`), rapid.StringN(0, 12000, -1),
		)
		s := func(label string) string {
			if rapid.Bool().Draw(t, "has "+label) {
				return hostile.Draw(t, label)
			}
			return ""
		}
		n := func(label string) int64 { return rapid.Int64().Draw(t, label) }
		r := &Record{
			Seq: rapid.Int64Range(1, 1<<62).Draw(t, "seq"), Chain: "main-1", Kind: Kind(s("kind")), Ref: n("ref"),
			At:  time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at")).UTC(),
			Key: policy.KeyID(s("key")), KeyName: s("name"), Credential: s("credential"), Presented: s("presented"), Upstream: policy.UpstreamID(s("up")),
			Mode: s("mode"), Policy: s("policy"), Node: s("node"), Operation: policy.OperationName(s("op")), Method: s("method"),
			Route: s("route"), Object: s("object"), Account: policy.AccountID(s("account")), Verdict: s("verdict"),
			Shadowed: rapid.Bool().Draw(t, "shadowed"), Fate: s("fate"), Proof: s("proof"), Why: s("why"), Reservation: n("rsv"),
			Status: int(int32(n("status"))), UpstreamStatus: int(int32(n("ustatus"))), UpstreamRequest: s("ureq"), Request: s("req"),
			Repeat: s("repeat"), Replayed: rapid.Bool().Draw(t, "replayed"), Guarded: rapid.Bool().Draw(t, "guarded"),
			Withheld: int(int32(n("withheld"))), OursMicros: n("ours"), TheirsMicros: n("theirs"), UserAgent: s("ua"), RunID: s("run"),
			From: s("from"), Operator: s("operator"), Action: s("action"), Subject: s("subject"), Diff: s("diff"), Reason: s("reason"),
			InFlight: n("flight"), Count: n("count"),
		}
		r.Access, r.Tie, r.Guest = policy.Access(rapid.IntRange(0, 2).Draw(t, "access")), s("tie"), rapid.Bool().Draw(t, "guest")
		r.Pending, r.Alone, r.Created = rapid.Bool().Draw(t, "pending"), rapid.Bool().Draw(t, "alone"), policy.CustomerID(s("created"))
		for range rapid.IntRange(0, 3).Draw(t, "lists") {
			r.Needs = append(r.Needs, policy.Need{Resource: policy.Resource(s("need")), Access: policy.Read})
			r.Open = append(r.Open, Open{At: int(int32(n("place"))), Bucket: s("open"), Unbound: rapid.Bool().Draw(t, "unbound")})
			r.Params = append(r.Params, hostile.Draw(t, "param"))
			r.Finals = append(r.Finals, Final{Bucket: s("fbucket"), Object: s("fobject"), Amount: money.Amount{Minor: n("left"), Currency: money.Currency(s("fcur"))}})
			r.Customers = append(r.Customers, policy.CustomerID(hostile.Draw(t, "customer")))
			r.Effects = append(r.Effects, Effect{Bucket: s("bucket"), Object: s("eobject"), USD: money.USD(rapid.Int64Range(-1e15, 1e15).Draw(t, "usd")),
				Amount: money.Amount{Minor: n("minor"), Currency: money.Currency(s("currency"))}, Rate: money.RateID(s("rate")),
				Value: n("value"), MarginBP: n("margin"), Mode: policy.CountMode(rapid.IntRange(0, 2).Draw(t, "mode")), Ceiling: n("ceiling")})
			r.Failures = append(r.Failures, policy.Failure{Code: policy.Code(s("code")), Rule: s("rule"), Param: s("param"), Message: s("message"), Soft: rapid.Bool().Draw(t, "soft")})
			r.Caps = append(r.Caps, Cap{Resource: s("resource"), Per: s("per"), Unit: policy.Unit(rapid.IntRange(0, 2).Draw(t, "unit")),
				Limit: rapid.Int64Range(0, 1e15).Draw(t, "limit"), Left: rapid.Int64Range(0, 1e15).Draw(t, "left"),
				ResetsAt: time.Unix(rapid.Int64Range(1, 4e9).Draw(t, "resets"), 0).UTC()})
		}
		return r
	})
}

func TestAnyRecordIsOneLineOfJSONAndReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := records().Draw(t, "record")
		body := r.AppendJSON(nil)
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("not JSON: %q", body)
		}
		for _, c := range string(body) {
			if unprintable(c) {
				t.Fatalf("unprintable %U in %q", c, body)
			}
		}
		read, err := Decode(body)
		if err != nil {
			t.Fatalf("decode %s: %v", body, err)
		}
		if again := read.AppendJSON(nil); string(again) != string(body) {
			t.Fatalf("reads back as another:\n%s\n%s", body, again)
		}
	})
}

func TestADecodedRecordIsTheRecord(t *testing.T) {
	r := refund()
	r.Failures = []policy.Failure{{Code: policy.CodeCapExceeded, Rule: "caps.refunds/day", Param: "amount", Message: "no", Soft: true}}
	r.Shadowed, r.Replayed, r.Guarded, r.Withheld, r.Status, r.UpstreamStatus = true, true, true, 2, 200, 402
	r.Fate, r.Proof, r.Why, r.Repeat, r.OursMicros, r.TheirsMicros = "refused", "refused", "w", "first", 1, 2
	r.Operator, r.Action, r.Subject, r.Diff, r.Reason, r.InFlight, r.Count = "ann", "kill", "key_x", "-a\n+b", "\"why\\", 3, 4
	r.Ref, r.Node, r.Policy, r.Presented, r.Object, r.Account, r.UpstreamRequest = 5, "gw-b", "d1", "…", "ch_1", "acct_1", "req_1"
	r.Judged = Judged{
		Access: policy.Write, Tie: "known", Guest: true, Creates: true, Params: []string{"amount", "metadata[order]"}, ParamsCut: true,
		Needs: []policy.Need{{Resource: "transfers", Access: policy.Write}}, Open: []Open{{At: 1, Bucket: "transfers", Waived: true}},
	}
	r.Finals, r.Pending, r.Alone, r.Created = []Final{{"refunds", "re_1", money.Amount{Minor: 5, Currency: "usd"}}}, true, true, "cus_new"
	c := NewChain("1")
	e := c.Append(r)
	read, err := Decode(e.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, read, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if e.Seq != 1 || e.Call != 1 || e.Key != r.Key || !e.At.Equal(noon.Truncate(time.Microsecond)) {
		t.Errorf("entry %+v", e)
	}
}

func TestTextsAreBoundedBetweenCharacters(t *testing.T) {
	r := &Record{Kind: KindDenied, UserAgent: strings.Repeat("ü", 1000), RunID: strings.Repeat("x", maxRunID)}
	read, err := Decode(r.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(read.UserAgent) > maxAgent || !strings.HasSuffix(read.UserAgent, "ü…") || read.RunID != r.RunID {
		t.Errorf("user agent of %d bytes, run id of %d", len(read.UserAgent), len(read.RunID))
	}
}

func TestTheLongestRecordFits(t *testing.T) {
	long := strings.Repeat("\x01", 20_000)
	r := &Record{Chain: "1", Kind: KindIntent, Diff: long, Reason: long, Why: long, UserAgent: long, RunID: long, Route: long, KeyName: long}
	for range 100 {
		r.Customers = append(r.Customers, policy.CustomerID(long))
		r.Effects = append(r.Effects, Effect{Bucket: long, Object: long, Rate: money.RateID(long), Amount: money.Amount{Currency: money.Currency(long)}})
		r.Failures = append(r.Failures, policy.Failure{Code: policy.Code(long), Rule: long, Param: long, Message: long})
		r.Caps = append(r.Caps, Cap{Resource: long, Per: long})
	}
	if n := len(r.AppendJSON(nil)); n > MaxRecord {
		t.Errorf("%d bytes, limit %d", n, MaxRecord)
	}
}

func TestScrub(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":                                   "plain text",
		"use vault_key_test_... here":                  "use vault_key_test_... here",
		"key vault_key_live_…wxyz":                     "key vault_key_live_…wxyz",
		"a vault_key_live_0123456789abcdefABCDEF x":    "a [secret] x",
		"sk_live_0123456789abcdef":                     "[secret]",
		"SK_LIVE_0123456789abcdef":                     "[secret]",
		"k=rk_test_01234567, sk_test_89abcdef!":        "k=[secret], [secret]!",
		"keybrake_admin_0123456789":                    "[secret]",
		"/welcome?link=keybrake_link_0123456789":       "/welcome?link=[secret]",
		"cookie=keybrake_sess_0123456789;":             "cookie=[secret];",
		"pi_3Qv_secret_abcdefghijk":                    "pi_3Qv[secret]",
		"client_secret_x":                              "client_secret_x",
		"card 4242424242424242.":                       "card [card].",
		"card 4242 4242 4242 4242 ok":                  "card [card] ok",
		"card 4242-4242-4242-4242":                     "card [card]",
		"amex 378282246310005":                         "amex [card]",
		"x4000056655665556y":                           "x[card]y",
		"order 00004242424242424242000":                "order [card]",
		"not a card 9081798089107179":                  "not a card 9081798089107179",
		"at 2026-11-23 12:00:00, 1234567890":           "at 2026-11-23 12:00:00, 1234567890",
		"cus_R7mQ2xLw04Kd ch_3QvT8nKx0P req_hW8sN2dLq": "cus_R7mQ2xLw04Kd ch_3QvT8nKx0P req_hW8sN2dLq",
	} {
		if got := Scrub(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if twice := Scrub(want); twice != want {
			t.Errorf("%q scrubbed again: %q", want, twice)
		}
	}
}

// Wherever a secret or a card number enters a record, it does not come out of the encoder.
func TestNoFieldLetsASecretThrough(t *testing.T) {
	canaries := []string{"sk_live_CANARYcanaryCANARY12", "vault_key_test_CANARYcanaryCANARYcanaryCANARY123", "pi_1_secret_CANARYcanary12", "4242424242424242"}
	for _, canary := range canaries {
		texts := []func(*Record, string){
			func(r *Record, s string) { r.UserAgent = s }, func(r *Record, s string) { r.RunID = s },
			func(r *Record, s string) { r.Reason = s }, func(r *Record, s string) { r.Diff = s },
			func(r *Record, s string) { r.Why = s }, func(r *Record, s string) { r.Object = s },
			func(r *Record, s string) { r.KeyName = s }, func(r *Record, s string) { r.Subject = s },
			func(r *Record, s string) { r.Presented = s }, func(r *Record, s string) { r.From = s },
			func(r *Record, s string) { r.Account = policy.AccountID(s) },
			func(r *Record, s string) { r.Customers = []policy.CustomerID{policy.CustomerID(s)} },
			func(r *Record, s string) { r.Failures = []policy.Failure{{Message: s}} },
			func(r *Record, s string) { r.Failures = []policy.Failure{{Param: s, Rule: s}} },
		}
		for i, put := range texts {
			for _, form := range []string{"%s", "a \"%s\" b", "ü\x00%s\n", strings.Repeat("x ", 100) + "%s"} {
				r := refund()
				put(r, fmt.Sprintf(form, canary))
				if out := string(r.AppendJSON(nil)); strings.Contains(strings.ToLower(out), "canary") || strings.Contains(out, "424242") {
					t.Errorf("field %d, form %q lets %q through", i, form, canary)
				}
			}
		}
	}
}

func TestRecordIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		ID("1", 1): true, ID("node-7", 1<<62): true, "aud_1_0": false, "aud_1_01": false, "aud_1_-1": false, "aud_1": false,
		"aud__1": false, "1_1": false, "aud_A_1": false, "aud_1_1_1": false, "aud_1_99999999999999999999": false, "": false,
	} {
		chain, seq, err := ParseID(id)
		if (err == nil) != ok || ok && ID(chain, seq) != id {
			t.Errorf("%q: %q %d %v", id, chain, seq, err)
		}
	}
}

// sketched is a record's sketch, from all of it.
func sketched(r *Record) Sketch {
	s := Sketch{
		Kind: r.Kind, Upstream: r.Upstream, Operation: r.Operation, Object: r.Object, Access: r.Access,
		Status: r.Status, UpstreamStatus: r.UpstreamStatus, Proof: r.Proof, Count: r.Count,
	}
	if len(r.Customers) > 0 {
		s.Customer = r.Customers[0]
	}
	return s
}

func TestASketchSaysWhatTheRecordSays(t *testing.T) {
	call := refund()
	odd := refund()
	odd.Object, odd.Customers, odd.Why = `a "quoted\" one`, []policy.CustomerID{`cus_"1"`, "cus_2"}, `{"kind":"denied","count":7}`
	for name, r := range map[string]*Record{
		"an intent": call, "texts that look like fields": odd, "next to nothing": {Kind: KindSystem},
		"an outcome": {Kind: KindOutcome, Upstream: "up_1", Status: 200, UpstreamStatus: 503, Proof: "not_sent"},
		"a fold":     {Kind: KindFolded, Count: 1 << 40},
	} {
		body := r.AppendJSON(nil)
		whole, err := Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		var got Sketch
		if !got.Read(body) || got != sketched(whole) {
			t.Errorf("%s: %+v, want %+v", name, got, sketched(whole))
		}
		for cut := range body {
			if got.Read(body[:cut]) {
				t.Fatalf("%s: half of it, %q, is taken for a record", name, body[:cut])
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := refund()
	f.Add(r.AppendJSON(nil))
	f.Add([]byte(`{"seq":1,"caps":[{"unit":"usd","limit":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		new(Sketch).Read(b) // it may say no
		r, err := Decode(b)
		if err != nil {
			return
		}
		body := r.AppendJSON(nil)
		if !json.Valid(body) {
			t.Fatalf("%q reads as a record that writes %q", b, body)
		}
		again, err := Decode(body)
		if err != nil {
			t.Fatalf("%q cannot be read: %v", body, err)
		}
		want := sketched(again)
		var got Sketch
		if !got.Read(body) || got != want {
			t.Fatalf("the sketch of %q is %+v, want %+v", body, got, want)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	r := refund()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkRead(b *testing.B) {
	body := refund().AppendJSON(nil)
	b.Run("sketch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			new(Sketch).Read(body)
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = Decode(body)
		}
	})
}

func BenchmarkChainAppend(b *testing.B) {
	c, r := NewChain("1"), refund()
	b.ReportAllocs()
	for b.Loop() {
		c.Append(r)
	}
}
