package sandbox

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRackReadsNames(t *testing.T) {
	for _, tc := range []struct{ name, form, want string }{
		{"plain names", "a=1&b=2", `{"a":"1","b":"2"}`},
		{"the last duplicate wins", "a=1&a=2", `{"a":"2"}`},
		{"a semicolon separates", "a=1;b=2", `{"a":"1","b":"2"}`},
		{"nesting", "a[b][c]=1&a[b][d]=2", `{"a":{"b":{"c":"1","d":"2"}}}`},
		{"an array by empty brackets", "a[]=1&a[]=2", `{"a":["1","2"]}`},
		{"an array by numbers, in their order", "a[2]=c&a[0]=a&a[1]=b", `{"a":["a","b","c"]}`},
		{"an array of objects", "a[][x]=1&a[][y]=2&a[][x]=3", `{"a":[{"x":"1","y":"2"},{"x":"3"}]}`},
		{"a leading bracket", "[a]=1", `{"a":"1"}`},
		{"a closing bracket", "]a=1", `{"a":"1"}`},
		{"a trailing bracket", "a]=1", `{"a":"1"}`},
		{"an open bracket belongs to the name", "a[=1", `{"a[":"1"}`},
		{"a name of brackets", "[]=1", `{}`},
		{"no name", "=1", `{}`},
		{"empty pairs", "&&a=1&", `{"a":"1"}`},
		{"no value", "a&b=", `{"a":null,"b":null}`},
		{"text after a bracket goes on nesting", "a[b]c=1", `{"a":{"b":{"c":"1"}}}`},
		{"escapes", "%61=%31+%32", `{"a":"1 2"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &node{kind: nodeMap}
			if err := parseForm(tc.form, n); err != nil {
				t.Fatal(err)
			}
			got := string(n.json(nil))
			if len(n.keys) == 0 {
				got = "{}" // an empty map reads as an empty list
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRackRefusesWhatItCannotRead(t *testing.T) {
	for _, tc := range []struct {
		name, form string
		want       error
	}{
		{"a broken escape", "a=%z1", errBadEncoding},
		{"a broken escape in a name", "%=1", errBadEncoding},
		{"text, then an object", "a=1&a[b]=2", errTypeClash},
		{"text, then a list", "a=1&a[]=2", errTypeClash},
		{"a list, then an object", "a[]=1&a[b]=2", errTypeClash},
		{"too deep", "a" + strings.Repeat("[b]", maxDepth) + "=1", errTooDeep},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := parseForm(tc.form, &node{kind: nodeMap}); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// Flat forms without brackets mean the same to Rack as to net/url, but for duplicates.
func TestFlatFormsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringMatching(`[a-z_. %&;=+é]{1,8}`), rapid.String()).Draw(t, "form")
		v := url.Values{}
		for k, s := range want {
			v.Set(k, s)
		}
		n := &node{kind: nodeMap}
		if err := parseForm(v.Encode(), n); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for i, k := range n.keys {
			got[k] = n.vals[i].str
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// The order and spelling of parameters must not matter to idempotency.
func TestCanonicalFormIgnoresOrderAndSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,4}(\[[a-z]{1,3}\])?`), 1, 8, func(s string) string {
			base, _, _ := strings.Cut(s, "[")
			return base
		}).Draw(t, "names")
		var parts []string
		for _, n := range names {
			parts = append(parts, n+"=1")
		}
		shuffled := rapid.Permutation(parts).Draw(t, "shuffled")
		a, b := &node{kind: nodeMap}, &node{kind: nodeMap}
		if err := parseForm(strings.Join(parts, "&"), a); err != nil {
			t.Fatal(err)
		}
		if err := parseForm(strings.NewReplacer("[", "%5B", "]", "%5d").Replace(strings.Join(shuffled, ";")), b); err != nil {
			t.Fatal(err)
		}
		if x, y := string(a.canonical(nil)), string(b.canonical(nil)); x != y {
			t.Fatalf("%s and %s differ", x, y)
		}
	})
}

func FuzzParseForm(f *testing.F) {
	for _, s := range []string{"a=1&b[c]=2", "[a]=1;b[]=2", "a[][b]=1&a[][b]=2", "%=1", "a[=1]", "a[0]=1&a[5]=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := &node{kind: nodeMap}
		if err := parseForm(s, n); err != nil {
			return
		}
		again := &node{kind: nodeMap}
		if err := parseForm(s, again); err != nil || string(n.canonical(nil)) != string(again.canonical(nil)) {
			t.Errorf("%q reads differently twice (%v)", s, err)
		}
		n.json(nil)
	})
}

func FuzzRequest(f *testing.F) {
	s := New(Options{})
	f.Add("POST", "/v1/refunds", "charge=x&amount=5")
	f.Add("GET", "/v1/charges", "limit=3&expand[]=data.customer")
	f.Add("POST", "/v1/payment_intents", "amount=500&currency=usd&confirm=true&payment_method_data[card][number]=4242424242424242")
	f.Add("POST", "/v1/invoices/create_preview", "customer=c&invoice_items[0][amount]=1")
	f.Fuzz(func(t *testing.T, method, path, form string) {
		p := &node{kind: nodeMap}
		if err := parseForm(form, p); err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		c := &call{s: s.platform, p: p, at: s.opts.Now(), path: path, who: &credential{full: true}}
		x, fail := s.route(c, method, "")
		if fail != nil {
			return
		}
		ans := s.run(&inbound{c, x})
		if ans.status == 0 || len(ans.body) == 0 || ans.body[0] != '{' {
			t.Errorf("%s %s %q: status %d, body %q", method, path, form, ans.status, ans.body)
		}
	})
}
