package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// deeds are a store's records as "node action of subject", with nodes by their names alone, after the chain was verified.
func deeds(t *testing.T, db *postgres.DB) (out []string, parts []*audit.Part) {
	t.Helper()
	short := func(label string) string { name, _, _ := strings.Cut(label, "/"); return name }
	var entries []audit.Entry
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachRecord(1, func(e audit.Entry) error {
			r, err := audit.Decode(e.Bytes)
			entries = append(entries, e)
			out = append(out, strings.TrimSpace(fmt.Sprint(short(r.Node), " ", r.Action, " ", short(r.Subject))))
			return err
		})
	}))
	report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), func(yield func(audit.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}, nil, storetest.NewSigner("test").PublicKey())
	if must(t, err); report.Problem != nil {
		t.Errorf("the chain: %s", report.Problem)
	}
	return out, report.Parts
}

func TestEachNodeHasAPartInTheRecord(t *testing.T) {
	url := postgrestest.Database(t)
	a := node(t, postgres.Options{URL: url, Node: "a"})
	version := storetest.Key(t, a, "key_1")
	b, c := opened(t, postgres.Options{URL: url, Node: "b"}), node(t, postgres.Options{URL: url, Node: "c"})
	call := func(db *postgres.DB) {
		t.Helper()
		next := admission(version, nil, 100)
		next.AllowRepeat = true
		_, err := db.Admit(t.Context(), next)
		must(t, err)
	}
	call(b)
	call(c)
	must(t, b.Close())
	// The others take c for lost, which goes on all the same.
	exec(t, url, `UPDATE nodes SET ended = 1 WHERE name = 'c'`)
	must(t, a.CloseLost())
	call(c)
	call(a)

	got, parts := deeds(t, a)
	for _, want := range []string{"a node.join a", "b node.join b", "c node.join c", "b node.leave b", "a node.lost c"} {
		if !slices.Contains(got, want) {
			t.Errorf("there is no record %q in %q", want, got)
		}
	}
	lost := slices.Index(got, "a node.lost c")
	if back := slices.Index(got[lost:], "c node.join c"); back < 0 || back > slices.Index(got[lost:], "c") {
		t.Errorf("what was lost did not join again before it wrote: %q", got[lost:])
	}
	states := map[string]string{}
	for _, p := range parts {
		states[p.Node] = p.Ended
	}
	if len(parts) != 3 || states[a.Label()] != "" || states[b.Label()] != audit.ActionNodeLeave || states[c.Label()] != "" {
		t.Errorf("parts %v", states)
	}
}

// TestAnActionThatIsRefusedBeginsNoPart: it is taken back as a whole, and the next one begins it.
func TestAnActionThatIsRefusedBeginsNoPart(t *testing.T) {
	db := node(t, postgres.Options{URL: postgrestest.Database(t), Node: "a"})
	refused := errors.New("refused")
	if err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	storetest.Key(t, db, "key_1")
	got, _ := deeds(t, db)
	if slices.Index(got, "a node.join a") != 0 || len(got) != 1 {
		t.Errorf("%q", got)
	}
}
