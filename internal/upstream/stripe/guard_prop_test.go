package stripe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/policy"
)

// tree is a random JSON value that remembers which of its members were planted. It is the tests' own model:
// written out without the planted members it is what the guard has to leave.
type tree struct {
	text    string // a scalar as written; empty for a hash or list
	list    bool
	members []treeMember
}

type treeMember struct {
	name    string // as written, with quotes
	value   *tree
	planted bool
}

// write appends the tree; gap is put wherever JSON allows space.
func (n *tree) write(b *bytes.Buffer, planted bool, gap func() string) {
	if n.text != "" {
		b.WriteString(n.text)
		return
	}
	open, end := "{", "}"
	if n.list {
		open, end = "[", "]"
	}
	b.WriteString(open + gap())
	first := true
	for _, m := range n.members {
		if m.planted && !planted {
			continue
		}
		if !first {
			b.WriteString("," + gap())
		}
		first = false
		if !n.list {
			b.WriteString(m.name + gap() + ":" + gap())
		}
		m.value.write(b, planted, gap)
		b.WriteString(gap())
	}
	b.WriteString(end)
}

// harmless are names that the guard attaches nothing to, and values that look like what it looks for.
var (
	harmlessNames  = []string{`"id"`, `"object"`, `"data"`, `"amount"`, `"clientsecret"`, `"client_secret_"`, `"Ünï"`, `"a\"b"`, `"\u0041"`, `""`}
	harmlessValues = []string{`"ch_1"`, `"charge"`, `"task_test_1"`, `"a \"quoted\" {[,:]} text"`, `"\u00e9\ud83d\ude00"`, `"é"`, `""`, `0`, `-12.5e+3`,
		`2000`, `true`, `false`, `null`, `"cus_X in a text"`, `"\\"`}
	secretNames = []string{`"client_secret"`, `"client\u005fsecret"`, `"secret"`, `"signing_secret"`, `"cvc"`}
	spaces      = []string{"", "", "", " ", "\n  ", "\t", "\r\n"}
)

// drawTree makes a random tree; plant, if set, may add members to each hash.
func drawTree(t *rapid.T, depth int, plant func(*rapid.T, *tree)) *tree {
	kind := rapid.IntRange(0, 3).Draw(t, "kind")
	if depth == 0 {
		kind = rapid.IntRange(2, 3).Draw(t, "top kind")
	}
	if kind < 2 || depth > 5 {
		return &tree{text: rapid.SampledFrom(harmlessValues).Draw(t, "scalar")}
	}
	n := &tree{list: kind == 2 && depth > 0}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		n.members = append(n.members, treeMember{
			name: rapid.SampledFrom(harmlessNames).Draw(t, "name"), value: drawTree(t, depth+1, plant),
		})
	}
	if !n.list && plant != nil {
		plant(t, n)
	}
	return n
}

func insert(t *rapid.T, n *tree, m treeMember) {
	i := rapid.IntRange(0, len(n.members)).Draw(t, "place")
	n.members = append(n.members[:i:i], append([]treeMember{m}, n.members[i:]...)...)
}

func plantSecrets(t *rapid.T, n *tree) {
	for range rapid.IntRange(0, 3).Draw(t, "secrets") {
		value := &tree{text: `"canary"`}
		if rapid.Bool().Draw(t, "nested") {
			value = &tree{members: []treeMember{{name: `"x"`, value: &tree{text: `"canary"`}}, {name: `"client_secret"`, value: &tree{text: `"canary"`}}}}
		}
		insert(t, n, treeMember{name: rapid.SampledFrom(secretNames).Draw(t, "secret"), value: value, planted: true})
	}
}

func gaps(t *rapid.T) func() string {
	return func() string { return rapid.SampledFrom(spaces).Draw(t, "space") }
}

func TestPlantedSecretsAreGoneAndAllElseStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawTree(t, 0, plantSecrets)
		var in, want, got bytes.Buffer
		n.write(&in, true, gaps(t))
		n.write(&want, false, func() string { return "" })
		g := (&Adapter{}).Guard(aRead(), anyCustomer, answer(200, in.String()))
		if err := json.Compact(&got, g.Body); err != nil {
			t.Fatalf("%s became %s, which is no JSON: %v", in.Bytes(), g.Body, err)
		}
		if got.String() != want.String() {
			t.Fatalf("%s\nbecame %s\nwant   %s", in.Bytes(), got.Bytes(), want.Bytes())
		}
		if bytes.Contains(g.Body, []byte("canary")) {
			t.Fatalf("a secret survived in %s", g.Body)
		}
		if again := (&Adapter{}).Guard(aRead(), anyCustomer, answer(200, string(g.Body))); !bytes.Equal(again.Body, g.Body) || again.Withheld != 0 {
			t.Fatalf("guarding twice changed %s to %s", g.Body, again.Body)
		}
	})
}

// customerForms are the ways in which an answer names a customer; % is the id.
var customerForms = []struct{ name, value string }{
	{`"customer"`, `"%"`},
	{`"cust\u006fmer"`, `"%"`},
	{`"customer_account"`, `"%"`},
	{`"customer"`, `{"id":"%","object":"customer"}`},
	{`"customer"`, `{"object":"customer","deleted":true,"id":"%"}`},
	{`"related_customer"`, `"%"`},
	{`"anything"`, `{"object":"customer","x":[{}],"id":"%"}`},
	{`"related_object"`, `{"type":"customer","id":"%"}`},
}

func TestAForeignCustomerAnywhereTripsTheGuard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		foreign := 0
		plant := func(t *rapid.T, n *tree) {
			for range rapid.IntRange(0, 2).Draw(t, "customers") {
				form := rapid.SampledFrom(customerForms).Draw(t, "form")
				id := rapid.SampledFrom([]string{"cus_A", "cus_B", "cus_A", "cus_X", "bob"}).Draw(t, "id")
				if id == "cus_X" || id == "bob" {
					foreign++
				}
				insert(t, n, treeMember{name: form.name, value: &tree{text: strings.ReplaceAll(form.value, "%", id)}})
			}
		}
		var in bytes.Buffer
		drawTree(t, 0, plant).write(&in, true, gaps(t))
		for name, call := range map[string]bool{"read": false, "write": true} {
			c := tied(aRead())
			if call {
				c = tied(aWrite())
			}
			g := (&Adapter{}).Guard(c, onlyA, answer(200, in.String()))
			if g.Tripped != (foreign > 0) {
				t.Fatalf("%s: tripped %v with %d foreign customers in %s", name, g.Tripped, foreign, in.Bytes())
			}
			if foreign == 0 && !bytes.Equal(g.Body, in.Bytes()) {
				t.Fatalf("%s: %s became %s", name, in.Bytes(), g.Body)
			}
			if call && g.Tripped && len(g.Body) > 400 {
				t.Fatalf("more than the bare facts: %s", g.Body)
			}
		}
		if g := (&Adapter{}).Guard(tied(aWrite()), onlyA, answer(402, `{"error":{"type":"card_error","x":`+in.String()+`}}`)); foreign > 0 &&
			(g.Tripped || !bytes.Contains(g.Body, []byte(messageWithheld))) {
			t.Fatalf("an error with a foreign customer passed: %s", g.Body)
		}
	})
}

func TestEveryCustomerThatAnAnswerNamesIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[policy.CustomerID]bool{}
		plant := func(t *rapid.T, n *tree) {
			for range rapid.IntRange(0, 2).Draw(t, "customers") {
				form := rapid.SampledFrom(customerForms).Draw(t, "form")
				id := rapid.SampledFrom([]string{"cus_A", "cus_B", "bob"}).Draw(t, "id")
				want[policy.CustomerID(id)] = true
				insert(t, n, treeMember{name: form.name, value: &tree{text: strings.ReplaceAll(form.value, "%", id)}})
			}
			if rapid.Bool().Draw(t, "metadata") { // there names and values are the users' own
				insert(t, n, treeMember{name: `"metadata"`, value: &tree{text: `{"customer":"cus_free","x":{"object":"customer","id":"cus_free"}}`}})
			}
		}
		var in bytes.Buffer
		drawTree(t, 0, plant).write(&in, true, gaps(t))
		out := (&Adapter{}).Outcome(aRead(), answer(200, in.String()))
		got := map[policy.CustomerID]bool{}
		for _, id := range out.Customers {
			if got[id] {
				t.Fatalf("%s twice", id)
			}
			got[id] = true
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%v, want %v of %s", got, want, in.Bytes())
		}
	})
}

func TestManyCustomersInAnAnswerAreBounded(t *testing.T) {
	var in strings.Builder
	for i := range 3 * maxNamed {
		fmt.Fprintf(&in, `,{"customer":"cus_%d"}`, i)
	}
	out := (&Adapter{}).Outcome(aRead(), answer(200, `{"data":[`+in.String()[1:]+`]}`))
	if len(out.Customers) != maxNamed || out.Customers[0] != "cus_0" {
		t.Errorf("%d customers, the first is %s", len(out.Customers), out.Customers[0])
	}
}

func TestTheReaderAgreesWithEncodingJSON(t *testing.T) {
	tests := []string{``, ` `, `{`, `}`, `{}`, `[]`, `[1,]`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{a:1}`, `"a`, `"\x"`, `"\u12"`, `"\u12zz"`, `01`, `-`, `1.`, `1e`, `.5`,
		`1e5`, `-0`, `tru`, `nul`, `nullx`, `[1 2]`, `{"a":1 "b":2}`, `{,}`, `[,]`, "\"\n\"", "\"\x7f\"", "\"\xff\"", `{"a":1}}`, `[[]`, ` "x" `, "\ufeff{}"}
	for _, in := range tests {
		if got, want := validJSON([]byte(in)), json.Valid([]byte(in)); got != want {
			t.Errorf("%q: valid %v, encoding/json says %v", in, got, want)
		}
		if _, got := named([]byte(in)); got != json.Valid([]byte(in)) {
			t.Errorf("%q: read for its customers %v", in, got)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,true,null,"\u00e9\ud83d\ude00\n"],"client_secret":"x"}`, `[{"customer":null}]`, `{"id":"a","id":"b"}`, `"\ud800"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ok := validJSON(in)
		if want := json.Valid(in); ok != want && (ok || !tooDeepForUs(in)) {
			t.Fatalf("valid %v, encoding/json says %v", ok, want)
		}
		if _, read := named(in); read != ok {
			t.Fatalf("valid %v, read for its customers %v", ok, read)
		}
		g := (&Adapter{}).Guard(aRead(), anyCustomer, answer(200, string(in)))
		if !ok {
			return
		}
		if !json.Valid(g.Body) {
			t.Fatalf("%q became %q, which is no JSON", in, g.Body)
		}
		checkTop(t, in)
	})
}

// checkTop compares findJSON with encoding/json for the members of the outermost hash.
func checkTop(t *testing.T, in []byte) {
	var top map[string]json.RawMessage
	if json.Unmarshal(in, &top) != nil {
		return
	}
	for name, raw := range top {
		if strings.ContainsRune(name, '\ufffd') {
			continue // encoding/json replaces what is no UTF-8; the guard compares bytes
		}
		if k, got := findJSON(in, Field{name}); k == 0 || !bytes.Equal(got, raw) {
			t.Fatalf("member %s of %q: %q, want %q", strconv.Quote(name), in, got, raw)
		}
	}
}

// tooDeepForUs reports whether the nesting alone can be why we refuse.
func tooDeepForUs(in []byte) bool {
	return bytes.Count(in, []byte("["))+bytes.Count(in, []byte("{")) > maxAnswerDepth
}

// intent is a payment intent of usual size.
var intent = []byte(`{"id":"pi_3MtwBwLkdIwHu7ix28a3tqPa","object":"payment_intent","amount":2000,"amount_capturable":0,"amount_details":{"tip":{}},` +
	strings.Repeat(`"a_member_of_some_length":{"enabled":true,"value":"some text of usual length","nested":{"n":123456,"x":null}},`, 25) +
	`"currency":"usd","customer":"cus_A","metadata":{"order":"6735"},"status":"requires_payment_method","transfer_group":null}`)

func BenchmarkGuard(b *testing.B) {
	for name, p := range map[string]struct {
		body []byte
		list bool
	}{"any": {intent, false}, "list": {intent, true}} {
		b.Run(name, func(b *testing.B) {
			policy := anyCustomer
			if p.list {
				policy = onlyA
			}
			call, in := aRead(), answer(200, string(p.body))
			b.SetBytes(int64(len(p.body)))
			b.ReportAllocs()
			for b.Loop() {
				if g := (&Adapter{}).Guard(call, policy, in); g.Tripped || len(g.Body) != len(in.Body) {
					b.Fatal("changed")
				}
			}
		})
	}
}

func BenchmarkNamed(b *testing.B) {
	for name, read := range map[string]func([]byte) bool{
		"valid": validJSON, "named": func(in []byte) bool { _, ok := named(in); return ok },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(intent)))
			b.ReportAllocs()
			for b.Loop() {
				if !read(intent) {
					b.Fatal("not valid")
				}
			}
		})
	}
}

func TestTheScanItselfDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if !validJSON(intent) {
			t.Fatal("not valid")
		}
		g := guard{jsonReader: jsonReader{b: intent}, judge: true, list: onlyA.Customers.List}
		if !g.run() || g.foreign != "" {
			t.Fatal("tripped")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
