package vault

import (
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzAuthorization takes any text for the Authorization header: nothing is taken for a key but the very key, in one of
// the two forms that Stripe's SDKs send.
func FuzzAuthorization(f *testing.F) {
	r := newRig(f)
	key, text := r.add(f, "agent-fuzz-auth-1", nil)
	basic := base64.StdEncoding.EncodeToString([]byte(text + ":"))
	for _, seed := range []string{
		"", "Bearer", "Bearer " + text, "bearer  " + text + " ", "Basic " + basic, "Basic " + basic + "=", "Digest " + text, text,
		"Bearer " + text[:len(text)-1], "Bearer " + text + "," + text, "Basic " + base64.StdEncoding.EncodeToString([]byte(text+":x")),
		"Basic " + base64.StdEncoding.EncodeToString([]byte(":"+text)), "Bearer " + strings.ToUpper(text), "Bearer sk_test_1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		presented, _ := PresentedFrom([]string{header})
		got, _, failure := r.Authenticate(Attempt{Presented: presented, Now: noon, From: here})
		if got == nil && failure == nil {
			t.Fatalf("%q: neither a key nor a reason", header)
		}
		if failure != nil && strings.Contains(failure.Message, text) {
			t.Fatalf("%q: the reason shows the key", header)
		}
		if got == nil {
			return
		}
		scheme, rest, _ := strings.Cut(header, " ")
		rest = strings.Trim(rest, " ")
		bearer := strings.EqualFold(scheme, "Bearer") && rest == text
		decoded, err := base64.StdEncoding.DecodeString(rest)
		basic := strings.EqualFold(scheme, "Basic") && err == nil && strings.TrimSuffix(string(decoded), ":") == text
		if got.ID != key.ID || !bearer && !basic {
			t.Fatalf("%q is taken for %s", header, got.Name)
		}
		if _, ok := PresentedFrom([]string{header, header}); ok {
			t.Fatalf("%q is taken twice", header)
		}
	})
}
