package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNearestNames(t *testing.T) {
	for in, want := range map[string]Resource{
		"refund": "refunds", "Refunds": "refunds", "erfunds": "refunds", "customer": "customers",
		"payment_intent": "payment_intents", "paymentintents": "payment_intents", "prices ": "prices",
		"zebra": "", "": "", "x": "", strings.Repeat("refunds", 30): "",
	} {
		if got, ok := vocabulary.NearestResource(in); got != want || ok != (want != "") {
			t.Errorf("the name nearest to %q is %q, %v; want %q", in, got, ok, want)
		}
	}
	if got, _ := vocabulary.NearestOperation("refund.create"); got != "refunds.create" {
		t.Errorf("got %q", got)
	}
}

func TestNearIsOneLetterOrAThirdOfThem(t *testing.T) {
	for name, test := range map[string]struct {
		in, candidate string
		near          bool
	}{
		"one letter of two":                {"im", "in", true},
		"both letters of two":              {"xy", "in", false},
		"two letters of seven":             {"reXXnds", "refunds", true},
		"three letters of seven":           {"reXXXds", "refunds", false},
		"two letters of seven are missing": {"refun", "refunds", true},
		"two letters are too many":         {"refunds", "refun", true},
	} {
		if got, ok := nearest(test.in, []string{test.candidate}); ok != test.near || (ok && got != test.candidate) {
			t.Errorf("%s: %q, %t", name, got, ok)
		}
	}
	if got, _ := nearest("cas", []string{"car", "cat"}); got != "car" {
		t.Errorf("of equally near names the second is taken: %s", got)
	}
}

func TestDistance(t *testing.T) {
	for name, test := range map[string]struct {
		a, b string
		want int
	}{
		"nothing":                 {"", "", 0},
		"equal":                   {"refunds", "refunds", 0},
		"one letter more":         {"refund", "refunds", 1},
		"one letter changed":      {"refunds", "retunds", 1},
		"two neighbours swapped":  {"refunds", "erfunds", 1},
		"the classical example":   {"kitten", "sitting", 3},
		"everything":              {"abc", "xyz", 3},
		"letters against nothing": {"abc", "", 3},
	} {
		if got := distance(test.a, test.b, 10); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	long := strings.Repeat
	for name, test := range map[string]struct {
		a, b string
		want int
	}{
		"within the limit":                          {"abcdef", "abcdxy", 2},
		"past the limit":                            {"abcdef", "uvwxyz", 3},
		"past the limit by the length of the one":   {"abcdef", "a", 3},
		"past the limit by the length of the other": {"a", "abcdef", 3},
		"as long as names may be":                   {long("a", 100), long("a", 99) + "b", 1},
		"a first name that is longer":               {long("a", 101), long("a", 100), 3},
		"a second name that is longer":              {long("a", 100), long("a", 101), 3},
	} {
		if got := distance(test.a, test.b, 2); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	word := rapid.StringMatching(`[abc]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b, 20)
		if d != distance(b, a, 20) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("the distance of %q and %q is %d, back it is %d", a, b, d, distance(b, a, 20))
		}
	})
}

func TestVocabularyKnowsWhoReachesCustomers(t *testing.T) {
	for name, test := range map[string]struct {
		resource Resource
		access   Access
		want     bool
	}{
		"a read of charges does":                {"charges", Read, true},
		"no access to charges does not":         {"charges", None, false},
		"products never do":                     {"products", Write, false},
		"meter events do only where they write": {"billing.meter_events", Read, false},
		"meter events do where they write":      {"billing.meter_events", Write, true},
		"a resource that does not exist":        {"zebra", Write, false},
	} {
		if got := vocabulary.reaches(test.resource, test.access); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
