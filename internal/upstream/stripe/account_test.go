package stripe

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

func TestTheAccountIsToldByAnAnswerAndByARefusal(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"the account itself": {200, `{"id":"acct_1AbC","object":"account"}`, "acct_1AbC"},
		"a refusal that names it": {403, `{"error":{"message":"The provided key 'rk_test_***' does not have the required permissions for this endpoint on account 'acct_1AbC'. ` +
			`Having the 'rak_x_read' permission would allow this request to continue.","type":"invalid_request_error"}}`, "acct_1AbC"},
		"a refusal that does not":  {403, `{"error":{"message":"This is a restricted API key."}}`, ""},
		"a refusal without a body": {403, ``, ""},
		"another object":           {200, `{"id":"cus_1","object":"customer"}`, ""},
		"a page":                   {200, `<html>`, ""},
		"a failure that names one": {500, `{"id":"acct_1AbC","error":{"message":"on account 'acct_1AbC'"}}`, ""},
	} {
		if got := AccountOf(c.status, []byte(c.body)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestTheSandboxTellsTheAccountOfEachSecret(t *testing.T) {
	s := sandbox.New(sandbox.Options{Seed: 1})
	defer s.Close()
	s.AddRestrictedKey("rk_test_narrow", map[string]sandbox.Access{"charges": sandbox.Read})
	ask := func(secret string) string {
		r := httptest.NewRequest(http.MethodGet, AccountPath, nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return AccountOf(w.Code, w.Body.Bytes())
	}
	wide, narrow, unknown := ask("sk_test_wide"), ask("rk_test_narrow"), ask("rk_test_unknown")
	if wide == "" || narrow != wide || unknown != "" {
		t.Errorf("%q, %q and %q", wide, narrow, unknown)
	}
}
