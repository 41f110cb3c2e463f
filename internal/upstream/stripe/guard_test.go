package stripe

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// secretBits is put after "_secret_" in the tests' client secrets.
const secretBits = "aBcDeFgHiJkLmNoP"

var (
	anyCustomer = &policy.Policy{Customers: policy.Customers{Any: true}}
	onlyA       = &policy.Policy{Customers: policy.Customers{List: []policy.CustomerID{"cus_A", "cus_B"}}}
)

// aRead and aWrite are calls as Parse would leave them; tied ones were resolved to an allowed customer.
func aRead() *upstream.Call {
	return &upstream.Call{Method: "GET", Path: "/v1/charges/ch_1", Operation: policy.Operation{Name: "charges.retrieve", Access: policy.Read}}
}

func aWrite() *upstream.Call {
	return &upstream.Call{Method: "POST", Path: "/v1/refunds", Body: []byte("charge=ch_1"), Operation: policy.Operation{Name: "refunds.create", Access: policy.Write}}
}

func tied(c *upstream.Call) *upstream.Call {
	c.Operation.Customer = policy.CustomerTie{Kind: policy.TieKnown, Customers: []policy.CustomerID{"cus_A"}}
	return c
}

func answer(status int, body string) *upstream.Answer {
	return &upstream.Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}, "Request-Id": {"req_1"}}, Body: []byte(body), Sent: true}
}

func TestGuardWithholdsSecrets(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"the only member":               {`{"client_secret":"x"}`, `{}`},
		"the first member":              {"{\n  \"client_secret\": \"x\",\n  \"id\": \"pi_1\"\n}", "{\n  \"id\": \"pi_1\"\n}"},
		"the last member":               {"{\n  \"id\": \"pi_1\",\n  \"client_secret\": \"x\"\n}", "{\n  \"id\": \"pi_1\"\n}"},
		"a member in the middle":        {`{"a":1,"client_secret":"x","b":2}`, `{"a":1,"b":2}`},
		"two at the beginning":          {`{"client_secret":"x","client_secret":"y","b":2}`, `{"b":2}`},
		"two in a row":                  {`{"a":1,"client_secret":"x","secret":"y","b":2}`, `{"a":1,"b":2}`},
		"nothing but secrets":           {`{"secret":"x","client_secret":"y"}`, `{}`},
		"in a list":                     {`{"data":[{"client_secret":"x"},{"id":"pi_2","client_secret":"y"}]}`, `{"data":[{},{"id":"pi_2"}]}`},
		"in an error":                   {`{"error":{"payment_intent":{"client_secret":"x","id":"pi_1"}}}`, `{"error":{"payment_intent":{"id":"pi_1"}}}`},
		"in an event":                   {`{"data":{"object":{"client_secret":"x"},"previous_attributes":{"client_secret":"y"}}}`, `{"data":{"object":{},"previous_attributes":{}}}`},
		"a value that is an object":     {`{"client_secret":{"client_secret":"x","a":[1]},"b":2}`, `{"b":2}`},
		"a value that is null":          {`{"client_secret":null,"b":2}`, `{"b":2}`},
		"a name with an escape":         {`{"client\u005fsecret":"x","b":2}`, `{"b":2}`},
		"a name that only resembles it": {`{"client_secrets":"x","xclient_secret":1}`, `{"client_secrets":"x","xclient_secret":1}`},
		"a signing secret":              {`{"object":"webhook_endpoint","secret":"x"}`, `{"object":"webhook_endpoint"}`},
		"secret in metadata is theirs":  {`{"metadata":{"secret":"recipe"}}`, `{"metadata":{"secret":"recipe"}}`},
		"in a URL": {`{"url":"https://hooks.stripe.com/x?payment_intent_client_secret=pi_1_secret_` + secretBits + `&y=1"}`,
			`{"url":"https://hooks.stripe.com/x?payment_intent_client_secret=[withheld]&y=1"}`},
		"in a text with escapes": {`{"url":"a\u0026b=pi_1_secret_` + secretBits + `"}`, `{"url":"[withheld]"}`},
		"hidden by an escape":    {`{"url":"pi_1\u005fsecret_` + secretBits + `"}`, `{"url":"[withheld]"}`},
		"a masked key in an error": {`{"error":{"message":"Invalid API Key provided: rk_live_****abcd."}}`,
			`{"error":{"message":"Invalid API Key provided: [withheld]."}}`},
		"a key in a text":                   {`{"m":"use sk_test_1234abcd, please"}`, `{"m":"use [withheld], please"}`},
		"words that only contain it":        {`{"m":"task_test_1 risk_live_2 my_secret_a"}`, `{"m":"task_test_1 risk_live_2 my_secret_a"}`},
		"a card number":                     {`{"object":"issuing.card","number":"4242424242424242","exp_year":2030}`, `{"object":"issuing.card","number":"[withheld]","exp_year":2030}`},
		"a card number, expiry first":       {`{"exp_month":1,"x":{"client_secret":"y"},"number":4242424242424242}`, `{"exp_month":1,"x":{},"number":"[withheld]"}`},
		"a card's code":                     {`{"cvc":"123","last4":"4242"}`, `{"last4":"4242"}`},
		"an invoice number is no card":      {`{"object":"invoice","number":"123456789012"}`, `{"object":"invoice","number":"123456789012"}`},
		"nothing to withhold, odd spacing":  {" { \"a\" : [ 1 , true,null ] }\n", " { \"a\" : [ 1 , true,null ] }\n"},
		"a text that is no JSON is cleaned": {`<p>rk_test_abc</p>`, `<p>[withheld]</p>`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := (&Adapter{}).Guard(aRead(), anyCustomer, answer(200, tt.in))
			if got := string(g.Body); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if g.Tripped {
				t.Error("tripped without a customer list")
			}
			if strings.HasPrefix(tt.in, "{") && !json.Valid(g.Body) {
				t.Error("the result is not JSON")
			}
		})
	}
}

func TestGuardLetsClientSecretsPassOnlyByPolicy(t *testing.T) {
	p := &policy.Policy{Customers: policy.Customers{Any: true}, ClientSecrets: true}
	in := `{"client_secret":"pi_1_secret_` + secretBits + `","secret":"whsec_1","cvc":"123"}`
	want := `{"client_secret":"pi_1_secret_` + secretBits + `"}`
	g := (&Adapter{}).Guard(aRead(), p, answer(200, in))
	if string(g.Body) != want || g.Withheld != 2 {
		t.Errorf("got %s, %d withheld; want %s, 2", g.Body, g.Withheld, want)
	}
}

func TestGuardLetsPassWhatAnAdmittedOperationHandsOut(t *testing.T) {
	call := aWrite()
	call.Operation.Name = "ephemeral_keys.create"
	in := `{"secret":"ek_test_1","signing_secret":"whsec_1","cvc":"123","note":"sk_test_1 ek_live_2","client_secret":"a"}`
	for name, tt := range map[string]struct {
		p    policy.Policy
		want string
	}{
		"admitted, secrets allowed":        {policy.Policy{ClientSecrets: true, Unmetered: []policy.OperationName{"ephemeral_keys.create"}}, `{"secret":"ek_test_1","signing_secret":"whsec_1","note":"[withheld] ek_live_2","client_secret":"a"}`},
		"everything admitted":              {policy.Policy{ClientSecrets: true, Unmetered: []policy.OperationName{"*"}}, `{"secret":"ek_test_1","signing_secret":"whsec_1","note":"[withheld] ek_live_2","client_secret":"a"}`},
		"admitted, secrets withheld":       {policy.Policy{Unmetered: []policy.OperationName{"*"}}, `{"note":"[withheld] [withheld]"}`},
		"another admitted, secrets passed": {policy.Policy{ClientSecrets: true, Unmetered: []policy.OperationName{"account_links.create"}}, `{"note":"[withheld] [withheld]","client_secret":"a"}`},
	} {
		t.Run(name, func(t *testing.T) {
			tt.p.Customers.Any = true
			if g := (&Adapter{}).Guard(call, &tt.p, answer(200, in)); string(g.Body) != tt.want {
				t.Errorf("got  %s\nwant %s", g.Body, tt.want)
			}
		})
	}
}

func TestGuardReturnsTheSameBytesWhereNothingIsWithheld(t *testing.T) {
	a := answer(200, `{"id":"ch_1","customer":"cus_foreign","metadata":{"a":"b"}}`)
	g := (&Adapter{}).Guard(aRead(), anyCustomer, a)
	if &g.Body[0] != &a.Body[0] || len(g.Body) != len(a.Body) {
		t.Error("the body was copied")
	}
}

func TestGuardJudgesCustomers(t *testing.T) {
	created := aWrite()
	created.Operation.CreatesCustomer = true
	none := aWrite()
	none.Operation.Customer.Kind = policy.TieNone
	tests := map[string]struct {
		call    *upstream.Call
		in      string
		foreign policy.CustomerID
		tripped bool
	}{
		"an allowed customer":                      {aRead(), `{"customer":"cus_A"}`, "", false},
		"a foreign customer":                       {aRead(), `{"customer":"cus_X"}`, "cus_X", true},
		"a custom id":                              {aRead(), `{"customer":"alice"}`, "alice", true},
		"an id with an escape":                     {aRead(), `{"customer":"cus\u005fA"}`, "", false},
		"an expanded customer":                     {aRead(), `{"customer":{"id":"cus_X","object":"customer"}}`, "cus_X", true},
		"an expanded customer, members turned":     {aRead(), `{"customer":{"object":"customer","id":"cus_B"}}`, "", false},
		"a deleted customer":                       {aRead(), `{"customer":{"deleted":true,"id":"cus_X","object":"customer"}}`, "cus_X", true},
		"a customer as the object itself":          {aRead(), `{"id":"cus_X","object":"customer"}`, "cus_X", true},
		"a list of customers":                      {aRead(), `{"object":"list","data":[{"id":"cus_A","object":"customer"},{"id":"cus_X","object":"customer"}]}`, "cus_X", true},
		"a list of an allowed customer's":          {aRead(), `{"object":"list","data":[{"customer":"cus_A"},{"customer":"cus_B"}]}`, "", false},
		"a foreign one last in a list":             {aRead(), `{"object":"list","data":[{"customer":"cus_A"},{"customer":"cus_X"}]}`, "cus_X", true},
		"a guest":                                  {aRead(), `{"id":"ch_1","customer":null}`, "", true},
		"a guest in a list":                        {aRead(), `{"data":[{"customer":"cus_A"},{"customer":null}]}`, "", true},
		"a guest's charge in a balance entry":      {aRead(), `{"object":"balance_transaction","source":{"object":"charge","customer":null}}`, "", true},
		"null below an allowed customer":           {aRead(), `{"discount":{"promotion_code":{"customer":null}},"customer":"cus_A"}`, "", false},
		"null beside a customer account":           {aRead(), `{"customer":null,"customer_account":"cus_A"}`, "", false},
		"a customer account that is null":          {aRead(), `{"customer":"cus_A","customer_account":null}`, "", false},
		"a foreign customer account":               {aRead(), `{"customer":null,"customer_account":"acct_X"}`, "acct_X", true},
		"an object that no look-up made a guest's": {tied(aRead()), `{"object":"refund","customer":null}`, "", false},
		"a foreign customer in a tied call":        {tied(aRead()), `{"object":"refund","customer":"cus_X"}`, "cus_X", true},
		"an event":                                 {aRead(), `{"object":"event","data":{"object":{"customer":"cus_A"},"previous_attributes":{"customer":"cus_X"}}}`, "cus_X", true},
		"an event of the second API":               {aRead(), `{"object":"v2.core.event","related_object":{"id":"cus_X","type":"customer"}}`, "cus_X", true},
		"an account of the second API":             {aRead(), `{"object":"v2.core.account","id":"acct_X"}`, "acct_X", true},
		"objects that have no customer":            {aRead(), `{"object":"list","data":[{"object":"price","id":"price_1"}]}`, "", false},
		"words in metadata":                        {aRead(), `{"customer":"cus_A","metadata":{"customer":"Smith","id":"7","object":"customer"}}`, "", false},
		"a settings hash called customer":          {aRead(), `{"configuration":{"customer":{"applied":true}}}`, "", false},
		"a list under the name":                    {aRead(), `{"customer":["cus_A","cus_X"]}`, "cus_X", true},
		"a foreign customer in a write":            {tied(aWrite()), `{"id":"re_1","customer":"cus_X"}`, "cus_X", true},
		"a guest in a write was judged before":     {none, `{"id":"tok_1","card":{"customer":null}}`, "", false},
		"the customer that the call created":       {created, `{"id":"cus_new","object":"customer","sources":{"data":[{"customer":"cus_new"}]}}`, "", false},
		"another beside the created one":           {created, `{"id":"cus_new","object":"customer","x":{"customer":"cus_X"}}`, "cus_X", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := (&Adapter{}).Guard(tt.call, onlyA, answer(200, tt.in))
			if g.Tripped != tt.tripped || g.Foreign != tt.foreign {
				t.Errorf("tripped %v by %q, want %v by %q", g.Tripped, g.Foreign, tt.tripped, tt.foreign)
			}
			if !tt.tripped && string(g.Body) != tt.in {
				t.Errorf("changed to %s", g.Body)
			}
		})
	}
}

func TestGuardCutsAnExecutedWriteToTheBareFacts(t *testing.T) {
	in := `{"object":"refund","id":"re_1","amount":2000,"currency":"usd","status":"succeeded","customer":"cus_X","receipt":"r","metadata":{"a":"b"}}`
	g := (&Adapter{}).Guard(tied(aWrite()), onlyA, answer(200, in))
	want := `{"id": "re_1", "object": "refund", "status": "succeeded", "amount": 2000, "currency": "usd"}`
	if string(g.Body) != want || g.Status != 200 || g.Header.Get("Keybrake-Guarded") != "true" || !g.Tripped {
		t.Errorf("status %d, header %v, tripped %v, body %s", g.Status, g.Header, g.Tripped, g.Body)
	}
}

func TestGuardOnlyMarksInShadowMode(t *testing.T) {
	shadow := &policy.Policy{Customers: onlyA.Customers, Enforcement: policy.Shadow}
	in := `{"id":"re_1","customer":"cus_X","amount":5,"receipt":"r"}`
	for name, call := range map[string]*upstream.Call{"read": aRead(), "write": aWrite()} {
		if g := (&Adapter{}).Guard(call, shadow, answer(200, in)); !g.Tripped || g.Foreign != "cus_X" || string(g.Body) != in {
			t.Errorf("%s: tripped %v by %q, %s", name, g.Tripped, g.Foreign, g.Body)
		}
	}
	failed := `{"error":{"type":"card_error","message":"No.","customer":"cus_X"}}`
	if g := (&Adapter{}).Guard(aWrite(), shadow, answer(402, failed)); string(g.Body) != failed {
		t.Errorf("an error became %s", g.Body)
	}
}

func TestGuardOfErrorsUnderACustomerList(t *testing.T) {
	bare := `{"error":{"type":"card_error","code":"card_declined","decline_code":"do_not_honor","message":` + `"` + messageWithheld + `"}}`
	tests := map[string]struct{ in, want string }{
		"an embedded foreign object is withheld": {
			`{"error":{"type":"card_error","code":"card_declined","decline_code":"do_not_honor","message":"Declined.","payment_intent":{"id":"pi_9","customer":"cus_X"}}}`, bare},
		"a message that names what the agent did not": {
			`{"error":{"type":"card_error","code":"card_declined","decline_code":"do_not_honor","message":"The payment method pm_1ABC belongs to cus_9XYZ."}}`, bare},
		"a message about the agent's own id passes": {
			`{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such charge: 'ch_1'; a similar object exists in live mode"}}`,
			`{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such charge: 'ch_1'; a similar object exists in live mode"}}`},
		"an id in the place of a code does not pass": {
			`{"error":{"type":"card_error","code":"cus_9XYZ","message":"x","customer":"cus_9XYZ"}}`,
			`{"error":{"type":"card_error","message":"` + messageWithheld + `"}}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := (&Adapter{}).Guard(tied(aWrite()), onlyA, answer(402, tt.in))
			var got, want any
			if err := json.Unmarshal(g.Body, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || g.Status != 402 || g.Tripped {
				t.Errorf("status %d, tripped %v (-want +got):\n%s", g.Status, g.Tripped, diff)
			}
		})
	}
}

func TestGuardOfWhatCannotBeRead(t *testing.T) {
	deep := strings.Repeat("[", maxAnswerDepth+1) + strings.Repeat("]", maxAnswerDepth+1)
	gzip := answer(200, `{"id":"x"}`)
	gzip.Header.Set("Content-Encoding", "gzip")
	tests := map[string]struct {
		call    *upstream.Call
		p       *policy.Policy
		answer  *upstream.Answer
		tripped bool
		want    string
	}{
		"a page in a read under a list":                {aRead(), onlyA, answer(200, "<html>"), true, "{}"},
		"a deep answer under a list":                   {aRead(), onlyA, answer(200, deep), true, "{}"},
		"a deep answer passes where nothing is secret": {aRead(), anyCustomer, answer(200, deep), false, deep},
		"a deep answer that may hold a secret":         {aRead(), anyCustomer, answer(200, strings.Replace(deep, "[]", `[{"client_secret":1}]`, 1)), true, "{}"},
		"an encoded answer":                            {aRead(), anyCustomer, gzip, true, "{}"},
		"two values":                                   {aRead(), onlyA, answer(200, `{"customer":"cus_A"} {}`), true, "{}"},
		"a page after a write under a list":            {aWrite(), onlyA, answer(200, "<html>"), false, "{}"},
		"a page without a list passes":                 {aWrite(), anyCustomer, answer(502, "<html>"), false, "<html>"},
		"an empty answer shows nothing":                {aRead(), onlyA, answer(200, ""), false, ""},
		"the zero policy allows no customer":           {aRead(), &policy.Policy{}, answer(200, `{"customer":"cus_A"}`), true, `{"customer":"cus_A"}`},
		"no policy allows no customer":                 {aRead(), nil, answer(200, `{"customer":"cus_A"}`), true, `{"customer":"cus_A"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := (&Adapter{}).Guard(tt.call, tt.p, tt.answer)
			if g.Tripped != tt.tripped || string(g.Body) != tt.want {
				t.Errorf("tripped %v, body %s; want %v, %s", g.Tripped, g.Body, tt.tripped, tt.want)
			}
		})
	}
}

func TestGuardPassesHeadersFromAClosedList(t *testing.T) {
	a := answer(200, `{}`)
	for _, name := range []string{"Idempotency-Key", "Set-Cookie", "Server", "Stripe-Should-Retry", "Original-Request", "Content-Length",
		"Idempotent-Replayed", "Stripe-Version", "Stripe-Notice", "Retry-After", "Access-Control-Allow-Origin", "Strict-Transport-Security"} {
		a.Header.Set(name, "v")
	}
	g := (&Adapter{}).Guard(aRead(), anyCustomer, a)
	want := http.Header{
		"Content-Type": {"application/json"}, "Request-Id": {"req_1"}, "Stripe-Should-Retry": {"v"}, "Original-Request": {"v"},
		"Idempotent-Replayed": {"v"}, "Stripe-Version": {"v"}, "Stripe-Notice": {"v"}, "Retry-After": {"v"},
	}
	if diff := cmp.Diff(want, g.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}
