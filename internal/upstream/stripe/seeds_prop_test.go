package stripe

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/upstream"
)

// requestSeeds are the requests of the contract test: method, path and form.
func requestSeeds(t testing.TB) [][3]string {
	text, err := os.ReadFile("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	var seeds [][3]string
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), " ", 3); parts[0] != "#" {
			seeds = append(seeds, [3]string(append(parts, "", "")[:3]))
		}
	}
	if len(seeds) < 1000 {
		t.Fatalf("%d seeds", len(seeds))
	}
	return seeds
}

func TestEverySeedIsLetThrough(t *testing.T) {
	a := newAdapter(t)
	for _, s := range requestSeeds(t) {
		if _, refusal := a.Parse(seedCall(s[0], s[1], []string{s[2]}), ""); refusal != nil {
			t.Errorf("%s %s %s: %s", s[0], s[1], s[2], refusal.Message)
		}
	}
}

// seedCall puts a seed's parameters where its method has them.
func seedCall(method, path string, pairs []string) *upstream.RawCall {
	form := strings.Join(pairs, "&")
	if method == http.MethodPost {
		return formCall(method, path, "", form)
	}
	return formCall(method, path, form, "")
}

// oddValues are values that readers take for different things.
var oddValues = []string{"", "0", "-1", "007", "1e3", "1.50", "TRUE", "False", "USD", "null", "%00", "%0A", "a%2Fb", "cus_1", "customer_1", "999999999999999999999", "%F0%9F%98%80"}

// TestPropertyAnAlteredRequestIsReadAgainAsItWasRead alters the contract test's requests as a byte-wise fuzzer seldom
// does: parameter by parameter.
func TestPropertyAnAlteredRequestIsReadAgainAsItWasRead(t *testing.T) {
	a, seeds := newReader(t), requestSeeds(t)
	rapid.Check(t, func(r *rapid.T) {
		seed := rapid.SampledFrom(seeds).Draw(r, "seed")
		method := rapid.SampledFrom([]string{seed[0], seed[0], seed[0], "GET", "POST", "DELETE"}).Draw(r, "method")
		pairs := strings.Split(seed[2], "&")
		if seed[2] == "" {
			pairs = nil
		}
		for range rapid.IntRange(0, 4).Draw(r, "changes") {
			pairs = altered(r, pairs, strings.Split(rapid.SampledFrom(seeds).Draw(r, "other")[2], "&"))
		}
		a.sameDecision(r, seedCall(method, seed[1], pairs))
	})
}

// altered makes one change: a pair is dropped, doubled, moved, given another value or name, or taken from
// another request.
func altered(r *rapid.T, pairs, others []string) []string {
	kind := rapid.IntRange(0, 5).Draw(r, "kind")
	if kind == 0 || len(pairs) == 0 {
		return append(pairs, rapid.SampledFrom(others).Draw(r, "taken"))
	}
	i := rapid.IntRange(0, len(pairs)-1).Draw(r, "at")
	name, value, _ := strings.Cut(pairs[i], "=")
	switch kind {
	case 1:
		return slices.Delete(pairs, i, i+1)
	case 2:
		return append(pairs, pairs[i])
	case 3:
		pairs[i] = name + "=" + rapid.SampledFrom(oddValues).Draw(r, "value")
	case 4:
		from, to := "[0]", rapid.SampledFrom([]string{"[]", "[1]", "[00]", "[a]", "", "%5B0%5D", "[0][0]"}).Draw(r, "spelling")
		pairs[i] = strings.Replace(name, from, to, 1) + "=" + value
	case 5:
		pairs[i] = rapid.SampledFrom([]string{"[" + name, name + "]", name + "[x]", name + "[]", strings.ToUpper(name), "_" + name}).Draw(r, "name") + "=" + value
	}
	return pairs
}

// TestPropertyTheSpellingOfARequestDoesNotMatter: another order, and brackets in percent codes, are the same call.
func TestPropertyTheSpellingOfARequestDoesNotMatter(t *testing.T) {
	a, seeds := newAdapter(t), requestSeeds(t)
	rapid.Check(t, func(r *rapid.T) {
		seed := rapid.SampledFrom(seeds).Draw(r, "seed")
		pairs := strings.Split(seed[2], "&")
		if seed[2] == "" {
			return
		}
		want, _ := a.Parse(seedCall(seed[0], seed[1], pairs), "") // it is let through: see above
		pairs = rapid.Permutation(pairs).Draw(r, "order")
		for i := range pairs {
			if name, value, _ := strings.Cut(pairs[i], "="); rapid.Bool().Draw(r, "escaped") {
				pairs[i] = strings.NewReplacer("[", "%5b", "]", "%5D").Replace(name) + "=" + value
			}
		}
		got, refusal := a.Parse(seedCall(seed[0], seed[1], pairs), "")
		if refusal != nil {
			r.Fatalf("%v: %s", pairs, refusal.Message)
		}
		if got.Fingerprint != want.Fingerprint || string(got.Body) != string(want.Body) || got.Query != want.Query {
			r.Fatalf("%v is sent as %s%s, not %s%s", pairs, got.Query, got.Body, want.Query, want.Body)
		}
	})
}
