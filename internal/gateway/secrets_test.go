package gateway_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestClientSecretsAreWithheldUnlessThePolicyAllowsThem(t *testing.T) {
	w := newWorld(t)
	closed, _ := w.key(moneyPolicy(allPerDay))
	open, _ := w.key(moneyPolicy(allPerDay) + "client_secrets: allow\n")
	own := w.Seeded.Customers[0]
	made := w.intent(closed, "amount=100&currency=usd&customer="+own.ID)
	for _, c := range []struct{ name, method, path, form string }{
		{"creating", "POST", "/v1/payment_intents", "amount=100&currency=usd&customer=" + own.ID},
		{"reading", "GET", "/v1/payment_intents/" + made, ""},
		{"listing", "GET", "/v1/payment_intents", "customer=" + own.ID},
		{"updating", "POST", "/v1/payment_intents/" + made, "description=x"},
		{"expanding", "GET", "/v1/charges/" + own.Charges[0], "expand[]=payment_intent"},
		{"a decline", "POST", "/v1/payment_intents", "amount=100&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true"},
		{"a required action", "POST", "/v1/payment_intents", "amount=100&currency=usd&payment_method=pm_card_authenticationRequired&confirm=true&return_url=https%3A%2F%2Fexample.com%2F"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.call(closed, c.method, c.path, c.form)
			if strings.Contains(r.Raw, "_secret_") || strings.Contains(r.Raw, `"client_secret"`) {
				t.Errorf("shown: %s", r.Raw)
			}
			if shown := w.call(open, c.method, c.path, c.form); !strings.Contains(shown.Raw, "_secret_") {
				t.Errorf("this test proves nothing: %s", shown.Raw)
			}
		})
	}
}

func TestWhatAnIntentWithASecretOutsideMayStillMoveStaysCounted(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(moneyPolicy(allPerDay) + "client_secrets: allow\n")
	r := w.call(key, "POST", "/v1/payment_intents", "amount=3000&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true").want(t, 402, "card_declined")
	w.wantUSD(k.ID, "*", 0, 3000)
	e, _ := r.Body["error"].(map[string]any)
	pi, _ := e["payment_intent"].(map[string]any)
	id, _ := pi["id"].(string)
	w.call(key, "POST", "/v1/payment_intents/"+id+"/cancel", "").want(t, 200, "")
	w.wantUSD(k.ID, "*", 0, 0)
}

// canary is a text that must not be found anywhere, in any form that a careless writer might give it.
func canaryForms(canary string) map[string][]byte {
	return map[string][]byte{
		"as it is":     []byte(canary),
		"base64":       []byte(base64.StdEncoding.EncodeToString([]byte(canary))),
		"URL encoding": []byte(url.QueryEscape(canary)),
		"hex":          []byte(hex.EncodeToString([]byte(canary))),
	}
}

// plant sends calls that have secrets in every place where one can be put.
func (w *world) plant(key, otherKey, unknown, card, cvc, secret string) {
	w.t.Helper()
	own := w.Seeded.Customers[0]
	for _, call := range []struct {
		key, method, path, form string
		headers                 []string
	}{
		{key, "POST", "/v1/refunds", "charge=" + own.Charges[0] + "&amount=100&metadata[note]=canary-metadata-value", nil},
		{key, "POST", "/v1/payment_methods", "type=card&card[number]=" + card + "&card[cvc]=" + cvc, nil},
		{key, "POST", "/v1/customers/" + own.ID, "source[number]=" + card, nil},
		{key, "POST", "/v1/refunds", card + "=1", nil},
		{key, "POST", "/v1/refunds", "charge=" + own.Charges[0] + "&" + otherKey + "=1", nil},
		{key, "POST", "/v1/refunds", "charge=" + own.Charges[0] + "&amount=1&key=" + otherKey, nil},
		{key, "GET", "/v1/charges/" + otherKey, "", nil},
		{key, "GET", "/v1/charges", "customer=" + own.ID, []string{"User-Agent", "agent " + otherKey, "X-Agent-Run-Id", key}},
		{key, "GET", "/v1/charges", "customer=" + own.ID, []string{"Stripe-Version", otherKey}},
		{key, "GET", "/v1/" + key, "", nil},
		{otherKey, "GET", "/v1/charges", "", nil},
		{unknown, "GET", "/v1/charges", "", nil},
		{flip(key), "GET", "/v1/charges", "", nil},
		{key, "POST", "/v1/refunds", "charge=" + own.Charges[0] + "&amount=1", []string{"Idempotency-Key", "k " + otherKey}},
	} {
		r := w.call(call.key, call.method, call.path, call.form, call.headers...)
		if strings.Contains(r.Raw, secret) {
			w.t.Errorf("%s %s shows the upstream's secret", call.method, call.path)
		}
	}
}

func TestNoSecretIsFoundInStoreLogOrExport(t *testing.T) {
	const secret = "sk_test_canaryUpstreamSecret00000001"
	front := &late{}
	w := buildWorld(t, setup{secret: secret, upstream: front})
	front.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.Sandbox.ServeHTTP(rw, r) }))
	key, _ := w.key(listPolicy(w, ""))
	own := w.Seeded.Customers[0]
	const card, cvc, otherKey = "4000056655665556", "cvc7319canary", "sk_live_canaryAgentsOwnStripeKey0001"
	unknown := "vault_key_test_canaryThatNobodyKnows00000000001"
	created := w.call(key, "POST", "/v1/payment_intents", "amount=100&currency=usd&customer="+own.ID).want(t, 200, "")
	w.plant(key, otherKey, unknown, card, cvc, secret)
	for _, fault := range []sandbox.Fault{
		{Kind: sandbox.FaultError, Status: 401}, {Kind: sandbox.FaultGarbage}, {Kind: sandbox.FaultCut}, {Kind: sandbox.FaultRedirect},
	} {
		must(t, w.Sandbox.Inject(fault))
		w.call(key, "GET", "/v1/charges", "customer="+own.ID)
	}
	w.outcome()
	places := map[string][]byte{"log": []byte(w.Log.String()), "export": w.export()}
	for _, suffix := range []string{"", "-wal", ".mark"} {
		b, err := os.ReadFile(w.Path + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		places["store"+suffix] = b
	}
	if !bytes.Contains(places["store"], []byte("refunds.create")) && !bytes.Contains(places["store-wal"], []byte("refunds.create")) {
		t.Fatal("this test proves nothing: the store has no records")
	}
	secrets := map[string]string{
		"upstream secret": secret, "vault key": key, "unknown vault key": unknown, "misspelled vault key": flip(key), "card number": card,
		"security code": cvc, "another Stripe key": otherKey, "client secret": clientSecretOf(w, created.str("id")),
	}
	for what, canary := range secrets {
		for form, b := range canaryForms(canary) {
			for place, content := range places {
				if at := bytes.Index(content, b); at >= 0 {
					t.Errorf("the %s (%s) is in the %s: %q", what, form, place, content[max(0, at-60):min(len(content), at+len(b)+20)])
				}
			}
		}
	}
	for _, place := range []string{"log", "export"} {
		if bytes.Contains(places[place], []byte("canary-metadata-value")) {
			t.Errorf("metadata is in the %s", place)
		}
	}
}

// clientSecretOf asks the sandbox itself.
func clientSecretOf(w *world, intent string) string {
	w.t.Helper()
	open, _ := w.key(moneyPolicy(allPerDay) + "client_secrets: allow\n")
	secret := w.call(open, "GET", "/v1/payment_intents/"+intent, "").str("client_secret")
	if secret == "" {
		w.t.Fatal("the sandbox has no client secret")
	}
	return secret
}

// export is the audit log as an operator gets it, in both forms.
func (w *world) export() []byte {
	w.t.Helper()
	var out bytes.Buffer
	_, err := audit.Export(&out, sequence(w.entries()), audit.ExportOptions{
		After: audit.NewChain(audit.FirstChain), At: time.Now(), Signer: w.signer,
	})
	must(w.t, err)
	must(w.t, audit.ExportCSV(&out, sequence(w.entries()), nil))
	return out.Bytes()
}
