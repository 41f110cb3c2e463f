package gateway

import (
	"net/http"
	"strings"
	"testing"
)

func TestTraceparentIsTakenOnlyAsTheStandardHasIt(t *testing.T) {
	const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, tt := range []struct {
		name  string
		value []string
		taken bool
	}{
		{"as it should be", []string{"00-" + id + "-" + span + "-01"}, true},
		{"flags that nobody knows yet", []string{"00-" + id + "-" + span + "-ff"}, true},
		{"a later version, with more behind", []string{"cc-" + id + "-" + span + "-01-what-comes"}, true},
		{"a later version, as long as this one", []string{"cc-" + id + "-" + span + "-01"}, true},
		{"more behind it than its version has", []string{"00-" + id + "-" + span + "-01-more"}, false},
		{"more behind a later one without a dash", []string{"cc-" + id + "-" + span + "-01.more"}, false},
		{"the version that is none", []string{"ff-" + id + "-" + span + "-01"}, false},
		{"capitals", []string{"00-" + strings.ToUpper(id) + "-" + span + "-01"}, false},
		{"no trace", []string{"00-" + strings.Repeat("0", 32) + "-" + span + "-01"}, false},
		{"no span", []string{"00-" + id + "-" + strings.Repeat("0", 16) + "-01"}, false},
		{"another digit", []string{"00-" + id[:31] + "g-" + span + "-01"}, false},
		{"cut short", []string{"00-" + id + "-" + span + "-0"}, false},
		{"other dashes", []string{"00_" + id + "-" + span + "-01"}, false},
		{"empty", []string{""}, false},
		{"absent", nil, false},
		{"twice", []string{"00-" + id + "-" + span + "-01", "00-" + id + "-" + span + "-01"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := traceOf(http.Header{"Traceparent": tt.value, "Tracestate": {"a=1"}})
			if (got.ID != "") != tt.taken {
				t.Fatalf("%+v", got)
			}
			if !tt.taken {
				if got != (Trace{}) || got.parent() != "" {
					t.Errorf("a part of it was taken: %+v", got)
				}
				return
			}
			if got.ID != id || got.Parent != span || len(got.Span) != 16 || got.State != "a=1" || len(got.parent()) != 55 || got.parent()[:3] != "00-" {
				t.Errorf("%+v, answered %q", got, got.parent())
			}
		})
	}
}

func TestTracestateKeepsWholeMembersThatFit(t *testing.T) {
	long := "a=" + strings.Repeat("x", 500)
	for _, tt := range []struct {
		name  string
		value []string
		want  string
	}{
		{"one", []string{"a=1,b=2"}, "a=1,b=2"},
		{"several headers are one list", []string{"a=1", "b=2"}, "a=1,b=2"},
		{"the first members that fit", []string{long + ",b=2,c=" + strings.Repeat("y", 20)}, long + ",b=2"},
		{"a member that fits exactly", []string{"a=" + strings.Repeat("x", 510) + ",b=2"}, "a=" + strings.Repeat("x", 510)},
		{"one that does not fit at all", []string{"a=" + strings.Repeat("x", 600)}, ""},
		{"what is no text", []string{"a=1,b=\x00"}, ""},
		{"none", nil, ""},
	} {
		if got := traceState(tt.value); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
