package admin

import (
	"strings"
	"testing"
)

func TestSeveralKeysEndInOneDeed(t *testing.T) {
	w := newWorld(t)
	gone, stays := []KeyCreated{w.key(t, "agent-a-runner42"), w.key(t, "agent-b-runner42")}, w.key(t, "agent-a-runner43")
	before := len(w.records(t))
	out, err := w.client.RevokeKeys(t.Context(), Revocation{Match: "agent-*-runner42", Reason: "the runner left"})
	if err != nil || len(out.Items) != 2 || len(out.Failed) != 0 || out.Items[0].Name != "agent-a-runner42" {
		t.Fatalf("%+v, %v", out, err)
	}
	records := w.records(t)[before:]
	if len(records) != 1 || records[0].Reason != "the runner left" || !strings.Contains(records[0].Diff, gone[0].ID) || !strings.Contains(records[0].Diff, gone[1].ID) {
		t.Errorf("%+v", records)
	}
	check := func() {
		t.Helper()
		if w.passes(t, gone[0].Key, false) || w.passes(t, gone[1].Key, false) || !w.passes(t, stays.Key, true) {
			t.Error("others than those that matched were ended, or not all of them")
		}
	}
	check()
	w.restart(t)
	check()
	out, err = w.client.RevokeKeys(t.Context(), Revocation{Keys: []string{gone[0].ID, "nobody", stays.ID}})
	if err != nil || len(out.Items) != 1 || out.Items[0].ID != stays.ID || len(out.Failed) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	for name, req := range map[string]Revocation{"nothing": {}, "both": {Keys: []string{"a"}, Match: "b"}, "no glob": {Match: "["}} {
		if _, err := w.client.RevokeKeys(t.Context(), req); !said(err, 400, "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err := w.client.RevokeKeys(t.Context(), Revocation{Match: "nobody-*"}); err != nil || len(out.Items) != 0 || len(out.Failed) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

// A store that does not take it has ended no key.
func TestSeveralKeysEndAllOrNone(t *testing.T) {
	w := newWorld(t)
	keys := []KeyCreated{w.key(t, "agent-a-runner42"), w.key(t, "agent-b-runner42")}
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.RevokeKeys(t.Context(), Revocation{Match: "agent-*"}); !said(err, 503, "nothing was changed") {
		t.Error(err)
	}
	w.start(t)
	for _, k := range keys {
		if !w.passes(t, k.Key, true) {
			t.Errorf("%s was ended", k.Name)
		}
	}
}
