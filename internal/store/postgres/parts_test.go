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
	// Both were silent for long: a takes c for lost, and is back itself. They say every second that they are there.
	for lost := false; !lost; query(t, url, `SELECT NOT open FROM nodes WHERE name = 'c'`, &lost) {
		exec(t, url, `UPDATE nodes SET ended = 1 WHERE name IN ('a', 'c')`)
		must(t, a.CloseLost())
	}
	call(c)
	call(a)

	got, parts := deeds(t, a)
	for _, want := range []string{"a node.join a", "b node.join b", "c node.join c", "b node.leave b", "a node.lost c"} {
		if !slices.Contains(got, want) {
			t.Errorf("there is no record %q in %q", want, got)
		}
	}
	if slices.Contains(got, "a node.lost a") {
		t.Errorf("a node closed its own part as that of a lost one, and went on: %q", got)
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
	url := postgrestest.Database(t)
	db := node(t, postgres.Options{URL: url, Node: "a"})
	joined := []string{"a node.join a"} // as a node does that opens a store
	exec(t, url, `UPDATE nodes SET open = false`)
	refused := errors.New("refused")
	if err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if got, _ := deeds(t, db); !slices.Equal(got, joined) {
		t.Errorf("after the refusal: %q", got)
	}
	storetest.Key(t, db, "key_1")
	if got, _ := deeds(t, db); !slices.Equal(got, append(joined, joined...)) {
		t.Errorf("after the next action: %q", got)
	}
}

// TestNodesAreToldApartWhateverTheirName: two of one name are on one store while one takes the other's place.
func TestNodesAreToldApartWhateverTheirName(t *testing.T) {
	for what, name := range map[string]string{
		"quoted": `the "good" one`, "with a backslash": `back\slash`, "long": strings.Repeat("long ", 80), "long in bytes": strings.Repeat("\U0001F6D1", 300),
		"not UTF-8": "\xff\xfe", "with a zero byte": "a\x00b",
	} {
		t.Run(what, func(t *testing.T) {
			url := postgrestest.Database(t)
			before := opened(t, postgres.Options{URL: url, Node: name})
			after := node(t, postgres.Options{URL: url, Node: name})
			must(t, before.Close())
			storetest.Key(t, after, "key_1")
			_, err := after.Log(t.Context(), &audit.Record{Kind: audit.KindSystem})
			must(t, err)
			_, parts := deeds(t, after)
			if len(parts) != 2 || parts[0].Ended != audit.ActionNodeLeave || parts[1].Ended != "" {
				t.Errorf("parts %+v", parts)
			}
		})
	}
}

// TestAPartWhoseNodeIsForgottenStaysOpen: a program from before there were parts forgets a node a day after its end, whether its
// part is closed or not. The record verifies, and that part has no end in it.
func TestAPartWhoseNodeIsForgottenStaysOpen(t *testing.T) {
	url := postgrestest.Database(t)
	dead, alive := opened(t, postgres.Options{URL: url, Node: "a"}), node(t, postgres.Options{URL: url, Node: "b"})
	storetest.Key(t, dead, "key_1")
	dead.Die()
	exec(t, url, `DELETE FROM nodes WHERE id = '`+dead.Node()+`'`)
	must(t, alive.CloseLost())
	storetest.Key(t, alive, "key_2")
	got, parts := deeds(t, alive)
	if !slices.Equal(got, []string{"a node.join a", "b node.join b"}) || len(parts) != 2 || parts[0].Ended != "" {
		t.Errorf("%q, parts %+v", got, parts)
	}
}

// TestANodeThatIsBrokenDoesNotCloseItsPart: it writes nothing any more, and another one closes it.
func TestANodeThatIsBrokenDoesNotCloseItsPart(t *testing.T) {
	url := postgrestest.Database(t)
	db := opened(t, postgres.Options{URL: url, Node: "a"})
	if err := db.Update(t.Context(), store.LaneControl, func(store.Tx) error { panic("an invariant") }); !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	must(t, db.Close())
	other := node(t, postgres.Options{URL: url, Node: "b"})
	must(t, other.CloseLost())
	if got, _ := deeds(t, other); !slices.Equal(got, []string{"a node.join a", "b node.join b", "b node.lost a"}) {
		t.Errorf("%q", got)
	}
}
