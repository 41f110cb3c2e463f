package admin

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/vault"
)

// edited sends an edit as any client would, with or without a condition.
func (w *world) edited(t *testing.T, method, path, ifMatch, body string) (*http.Response, error) {
	t.Helper()
	kind := "application/json"
	if strings.HasSuffix(path, "import") {
		kind = "text/csv"
	}
	var more []header
	if ifMatch != "" {
		more = append(more, header{"If-Match", ifMatch})
	}
	resp, err := w.client.send(t.Context(), method, path, nil, kind, strings.NewReader(body), more...)
	if resp != nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func signing(letter string) string { return `{"secret":"whsec_` + strings.Repeat(letter, 32) + `"}` }

func euro(rate string) string { return `{"rates":[{"currency":"EUR","rate":"` + rate + `"}]}` }

func TestALostUpdateIsRefused(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	w.operator(t, "ada", vault.RoleAuditor)
	for path, c := range map[string]struct {
		read, method string
		edits        [3]string
	}{
		"keys/" + k.ID:                  {"", "PATCH", [3]string{`{"caps":["refunds/day=90"]}`, `{"caps":["refunds/day=80"]}`, `{"caps":["refunds/day=70"]}`}},
		"upstreams/stripe-test":         {"", "PATCH", [3]string{`{"rotate_every":"90d"}`, `{"rotate_every":"30d"}`, `{"rotate_every":"never"}`}},
		"upstreams/stripe-test/webhook": {"upstreams/stripe-test", "POST", [3]string{signing("a"), signing("b"), `{"secret":""}`}},
		"operators/ada":                 {"", "PATCH", [3]string{`{"email":"ada@example.com"}`, `{"email":"lovelace@example.com"}`, `{"email":""}`}},
		"rates":                         {"", "POST", [3]string{euro("1.09"), euro("1.08"), euro("1.07")}},
		"rates/import":                  {"rates", "POST", [3]string{"currency,rate\nEUR,1.09\n", "currency,rate\nEUR,1.08\n", "currency,rate\nEUR,1.07\n"}},
	} {
		t.Run(path, func(t *testing.T) {
			edits := c.edits
			read, err := w.client.send(t.Context(), http.MethodGet, cmp.Or(c.read, path), nil, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = read.Body.Close()
			tag := read.Header.Get("ETag")
			if !strings.HasPrefix(tag, `"`) {
				t.Fatalf("ETag %q", tag)
			}
			before := len(w.records(t))
			var p *Problem
			if _, err := w.edited(t, c.method, path, "", edits[0]); !errors.As(err, &p) || p.Status != 428 || p.Field("header.If-Match") == "" {
				t.Errorf("without a condition: %v", err)
			}
			if _, err := w.edited(t, c.method, path, "W/"+tag, edits[0]); !errors.As(err, &p) || p.Status != 412 {
				t.Errorf("with a weak tag: %v", err)
			}
			if now := len(w.records(t)); now != before {
				t.Fatalf("what was refused left %d records", now-before)
			}
			first, err := w.edited(t, c.method, path, `"other", `+tag, edits[0])
			if err != nil {
				t.Fatal(err)
			}
			next := first.Header.Get("ETag")
			if next == tag || next == "" {
				t.Errorf("the edit left the version %q, was %q", next, tag)
			}
			if _, err := w.edited(t, c.method, path, tag, edits[1]); !errors.As(err, &p) || p.Status != 412 || !strings.Contains(p.Detail, next) {
				t.Errorf("an edit of the version before: %v", err)
			}
			if _, err := w.edited(t, c.method, path, next, edits[1]); err != nil {
				t.Errorf("an edit of the present version: %v", err)
			}
			if _, err := w.edited(t, c.method, path, "*", edits[2]); err != nil {
				t.Errorf("an edit of whichever version: %v", err)
			}
			if now := len(w.records(t)); now != before+3 {
				t.Errorf("three edits left %d records", now-before)
			}
		})
	}
}

func TestAKeysVersionIsThatOfItsPolicyAndName(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	tag := func() string {
		d, err := w.client.Key(t.Context(), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		return d.ETag
	}
	first := tag()
	if _, err := w.client.RotateKey(t.Context(), k.ID, Rotation{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{k.ID}}}); err != nil {
		t.Fatal(err)
	}
	if now := tag(); now != first {
		t.Errorf("a rotation and a stop made the version %s of %s", now, first)
	}
	w.restart(t)
	if now := tag(); now != first {
		t.Errorf("a restart made the version %s of %s", now, first)
	}
	changed, err := w.client.UpdateKey(t.Context(), k.ID, KeyUpdate{Name: "agent-support-refunds-r2", IfMatch: first})
	if err != nil || changed.ETag == first || changed.ETag != tag() {
		t.Errorf("another name: %+v, %v", changed, err)
	}
}
