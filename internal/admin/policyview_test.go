package admin

import (
	"strings"
	"testing"
)

func TestAPolicyIsCheckedWithoutAnythingBeingMade(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	height := func() int64 {
		t.Helper()
		s, err := w.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Height
	}
	before := height()
	for name, tt := range map[string]struct {
		req     PolicyCheckRequest
		problem string // part of the first; empty: none
		changes int
		widens  bool
	}{
		"a new key from a preset": {PolicyCheckRequest{KeyRequest: KeyRequest{
			Preset: "refund-support", PolicyEdit: PolicyEdit{Customers: []string{"any"}, Caps: []string{"refunds/day=50"}}}}, "", 7, false},
		"nothing said": {PolicyCheckRequest{}, "say what the key may do", 0, false},
		"a name that is none": {PolicyCheckRequest{KeyRequest: KeyRequest{
			Name: "Agent One", Preset: "refund-support", PolicyEdit: PolicyEdit{Customers: []string{"any"}}}}, "name", 0, false},
		"a lower cap on a key": {PolicyCheckRequest{Key: k.ID, KeyRequest: KeyRequest{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=50"}}}}, "", 1, false},
		"a higher one":         {PolicyCheckRequest{Key: k.ID, KeyRequest: KeyRequest{PolicyEdit: PolicyEdit{Caps: []string{"refunds/day=500"}}}}, "", 1, true},
		"a write without a cap": {PolicyCheckRequest{KeyRequest: KeyRequest{
			Name: "agent-a-b-c", PolicyEdit: PolicyEdit{Policy: "scopes:\n  refunds: write\ncustomers: any\n"}}}, "refunds", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.client.CheckPolicy(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			if tt.problem == "" && len(got.Problems) > 0 || tt.problem != "" && (len(got.Problems) == 0 || !strings.Contains(got.Problems[0].Message, tt.problem)) {
				t.Fatalf("problems %+v, want %q", got.Problems, tt.problem)
			}
			if len(got.Changes) != tt.changes || got.Widens != tt.widens || (got.View == nil) != (tt.problem != "") {
				t.Errorf("%+v", got)
			}
		})
	}
	if got := height(); got != before {
		t.Errorf("%d records more", got-before)
	}
}

func TestAProblemHasItsPlace(t *testing.T) {
	w := newWorld(t)
	got, err := w.client.CheckPolicy(t.Context(), PolicyCheckRequest{KeyRequest: KeyRequest{
		Name: "agent-a-b-c", PolicyEdit: PolicyEdit{Policy: "scopes:\n  refund: read\ncustomers: any\n", PolicyFile: "p.yaml"}}})
	if err != nil || len(got.Problems) != 1 || got.Problems[0].Line != 2 || !strings.Contains(got.Problems[0].Message, "refunds") {
		t.Errorf("%+v, %v", got.Problems, err)
	}
}

func TestAKeyIsShownInParts(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	got, err := w.client.Key(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	v := got.View
	if v.Scopes[0] != (Grant{"refunds", "write"}) || v.Customers != "list" || len(v.List) != 2 || v.Enforcement != "enforce" || v.RotateEvery != "90d" ||
		len(v.Caps) != 1 || v.Caps[0].Limit.String() != "100.00" {
		t.Errorf("%+v", v)
	}
}
