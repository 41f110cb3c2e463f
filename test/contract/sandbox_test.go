package contract

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
	"github.com/keybrake/keybrake/test/openapi"
)

// TestEverySandboxOperationAnswersThroughKeybrakeAsItDoesDirectly runs two sandboxes of the same seed and clock side
// by side, one asked directly, one through a fully open key. Both get the same calls, so both make the same ids.
func TestEverySandboxOperationAnswersThroughKeybrakeAsItDoesDirectly(t *testing.T) {
	d, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := newTwins(t, d)
	ops := sandbox.Operations()
	slices.SortStableFunc(ops, func(a, b string) int { return order(a) - order(b) })
	for name := range merged(refusals, denied) {
		if !slices.Contains(ops, name) {
			t.Errorf("%s is no operation of the sandbox", name)
		}
	}
	succeeded := 0
	for _, name := range ops {
		method, template, _ := strings.Cut(name, " ")
		before := len(w.wrong)
		if reason, ok := denied[name]; ok {
			w.denies(method, template, reason)
			continue
		}
		a := w.operation(method, template)
		reason, known := refusals[name]
		switch {
		case a.Status == http.StatusOK && known:
			t.Errorf("%s succeeds now: take it off the refusals", name)
		case a.Status == http.StatusOK:
			succeeded++
		case known:
			t.Logf("%s is refused here, alike on both sides: %s", name, reason)
		default:
			t.Errorf("%s is refused, so it shows little: %d %s; bring its object into the right state (forms_test.go)", name, a.Status, a.Body)
		}
		for _, why := range w.wrong[before:] {
			t.Errorf("%s: %s", name, why)
		}
		if w.apart {
			t.Fatal("one did what the other did not: the twins are no longer the same")
		}
	}
	t.Logf("%d sandbox operations tried, %d of them with success; %d calls compared", len(ops), succeeded, w.compared)
}

// order puts what makes objects first and what takes them away last, and API v2 behind.
func order(name string) int {
	switch {
	case strings.Contains(name, " /v2/"):
		return 3
	case strings.HasPrefix(name, "DELETE"):
		return 2
	case strings.HasPrefix(name, "POST") && !strings.Contains(name, "{"):
		return 0
	}
	return 1
}
