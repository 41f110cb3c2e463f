package stripe

import (
	"bytes"
	"encoding/json"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzGuard takes any bytes for Stripe's answer to a read and to a write, under a customer list. What is let through
// names no customer outside the list by any of the fields that name one, and no client secret, to a reader of its own.
func FuzzGuard(f *testing.F) {
	for _, seed := range []string{
		`{"id":"ch_1","object":"charge","customer":"cus_A"}`, `{"id":"ch_1","object":"charge","customer":"cus_X"}`,
		`{"object":"customer","id":"cus_X"}`, `{"id":"cus_X","object":"customer"}`, `{"customer":{"id":"cus_X","object":"customer"}}`,
		`{"customer":"cus_A","customer":"cus_X"}`, `{"cust\u006fmer":"cus_X"}`, `{"customer":"cus\u005fX"}`, `{"customer_account":"acct_X"}`,
		`{"data":[{"customer":"cus_A"},{"customer":"cus_X"}]}`, `{"customer":"cus_A","client_secret":"pi_1_secret_x"}`,
		`{"error":{"payment_intent":{"customer":"cus_X","client_secret":"y"}}}`, `{"customer":["cus_X"]}`, `{"customer":null}`, `{"customer":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, status := range []int{200, 402} {
			for _, call := range []bool{false, true} {
				c := aRead()
				if call {
					c = aWrite()
				}
				g := (&Adapter{}).Guard(c, onlyA, answer(status, string(in)))
				if g.Tripped {
					onlyBareFacts(t, call, g.Body)
					continue
				}
				if why := foreignIn(g.Body); why != "" {
					t.Fatalf("%d, write %v: %q became %q, which shows %s", status, call, in, g.Body, why)
				}
			}
		}
	})
}

// onlyBareFacts checks what is left of the answer to a write that tripped the guard: that it happened, and nothing more. A
// read's is replaced by a denial as a whole.
func onlyBareFacts(t *testing.T, writes bool, body []byte) {
	var left map[string]json.RawMessage
	if !writes {
		return
	}
	if err := json.Unmarshal(body, &left); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	for name := range left {
		if !slices.Contains([]string{"id", "object", "status", "amount", "currency"}, name) {
			t.Fatalf("a tripped write shows %s: %s", name, body)
		}
	}
}

// foreignIn reads an answer with encoding/json, member by member, so that doubled ones are all seen.
func foreignIn(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	why := ""
	var value func() (text string, ok bool)
	value = func() (string, bool) {
		tok, err := d.Token()
		if err != nil {
			return "", false
		}
		switch tok := tok.(type) {
		case string:
			return tok, true
		case json.Delim:
			kind, id := "", ""
			for d.More() {
				name := ""
				if tok == '{' {
					key, err := d.Token()
					if err != nil {
						return "", false
					}
					name, _ = key.(string)
				}
				text, ok := value()
				if !ok {
					return "", false
				}
				switch {
				case name == "client_secret" && text != "":
					why = "a client secret"
				case name == "customer" && foreignText(text):
					why = "the customer " + text
				case name == "object":
					kind = text
				case name == "id":
					id = text
				}
			}
			if kind == "customer" && foreignText(id) {
				why = "the customer " + id
			}
			_, err := d.Token()
			return "", err == nil
		}
		return "", true
	}
	if _, ok := value(); !ok {
		return "" // no JSON: nobody's fields
	}
	return why
}

func foreignText(id string) bool {
	return strings.HasPrefix(id, "cus_") && id != "cus_A" && id != "cus_B"
}

// FuzzAmount takes any text for an amount and a currency: what is counted is what a plain reader of numbers reads, and
// what is sent is what was counted.
func FuzzAmount(f *testing.F) {
	for _, s := range [][2]string{
		{"100", "usd"}, {"1e3", "usd"}, {"+1", "usd"}, {" 1", "usd"}, {"0x10", "usd"}, {"1.0", "usd"}, {"01", "usd"}, {"-1", "usd"},
		{"999999999999", "jpy"}, {"1000000000000", "jpy"}, {"١٢", "usd"}, {"", "usd"}, {"1", "USD"}, {"1", "us"}, {"1", "uſd"}, {"1_0", "eur"}, {"1", "u\x00d"},
	} {
		f.Add(s[0], s[1])
	}
	a := newAdapter(f)
	f.Fuzz(func(t *testing.T, amount, currency string) {
		call, refusal := a.Parse(post("/v1/payment_intents", "amount="+url.QueryEscape(amount)+"&currency="+url.QueryEscape(currency)), "")
		if refusal != nil {
			return
		}
		if len(call.Operation.Effects) != 1 || !call.Operation.Effects[0].Known {
			t.Fatalf("%q %q: counted as %+v", amount, currency, call.Operation.Effects)
		}
		counted := call.Operation.Effects[0].Amount
		plain, ok := new(big.Int).SetString(amount, 10)
		if !ok || plain.String() != amount || plain.Cmp(big.NewInt(counted.Minor)) != 0 || counted.Minor < 0 {
			t.Fatalf("%q is counted as %d", amount, counted.Minor)
		}
		if string(counted.Currency) != strings.ToLower(currency) || len(counted.Currency) != 3 {
			t.Fatalf("%q is counted in %q", currency, counted.Currency)
		}
		sent, err := url.ParseQuery(string(call.Body))
		if err != nil || len(sent) != 2 || len(sent["amount"]) != 1 || sent.Get("amount") != amount || sent.Get("currency") != string(counted.Currency) {
			t.Fatalf("%q %q is sent as %s", amount, currency, call.Body)
		}
	})
}
