package crash

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheAuditorNamesWhatIsWrongWithDoctoredBooks shows that the other tests can fail: books that were changed between
// a kill and the next start are found wrong, each in the way in which they were changed.
func TestTheAuditorNamesWhatIsWrongWithDoctoredBooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newSeason(w, 1)
	for w.kills < 3 {
		s.round()
	}
	s.last()
	p := w.newPrincipal("agent-crash-doctored-r0", "refunds: write", own, rule{resource: "refunds", per: "day", cents: 100_00})
	w.know(t, newRefund(p, "d1", w.newCharge(p, 100_00), 7_00, "d1"), 200)
	w.command("POST", "faults", `{"kind":"hang","method":"POST","path":"/v1/refunds","after":true}`)
	lost := newRefund(p, "d2", w.newCharge(p, 100_00), 9_00, "d2")
	w.calls = append(w.calls, lost)
	done := make(chan struct{})
	go func() { defer close(done); w.send(lost) }()
	w.awaitHanging(1)
	w.acts = append(w.acts, w.pull(w.keys[0]))
	w.kill()
	<-done
	if found := w.doctored(t, func(*sql.Tx) error { return nil }); len(found) > 0 {
		t.Fatalf("nothing was changed, and the auditor says %q", found)
	}
	for name, c := range doctorings {
		t.Run(name, func(t *testing.T) {
			found := w.doctored(t, c.change)
			for _, want := range c.want {
				if !strings.Contains(strings.Join(found, "\n"), want) {
					t.Errorf("nothing is said of %q, only %q", want, found)
				}
			}
		})
	}
}

// doctorings are changes to the books after which the auditor must say something.
var doctorings = map[string]struct {
	change func(*sql.Tx) error
	want   []string
}{
	"a reservation is removed": {
		run(`DELETE FROM reservations WHERE id = (SELECT min(id) FROM reservations WHERE state = 2)`),
		[]string{", and there is none", "its reservations add up to"},
	},
	"an account is lowered": {
		run(`UPDATE accounts SET settled = settled - 10000 WHERE settled >= 10000 AND unit = 1 AND per = 3`),
		[]string{"its reservations add up to"},
	},
	"an account is removed": {
		run(`DELETE FROM accounts WHERE settled > 0 AND per = 3`), []string{"is gone, its reservations add up to"},
	},
	"an audit record is removed": {
		run(`DELETE FROM audit WHERE seq = 10`), []string{"record 10 is missing"},
	},
	"an audit record is changed": {
		run(`UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), '"seq":10,', '"seq":10 ,') AS BLOB) WHERE seq = 10`),
		[]string{"record 10, or the hash of the one before it, is not as it was written"},
	},
	"the end of the log is cut off": {
		run(`DELETE FROM audit WHERE seq > (SELECT max(seq) FROM audit) - 3`), []string{"has no intent record"},
	},
	"a brake is lifted by nobody": {
		run(`DROP TRIGGER IF EXISTS brakes_out; DELETE FROM brakes`), []string{"was acknowledged (stop: true), and the books say false"},
	},
	"an unknown outcome is released on a guess": {
		rewrite(9_00, 3, 0), []string{"was released, and Stripe moved 900 cents", "its outcome records do not say so"},
	},
	"less is counted than moved": {
		rewrite(7_00, 2, 1_00), []string{"counts 100 cents, Stripe gave back 700", "moved at Stripe on refunds per day"},
	},
	"more is counted than moved": {
		rewrite(7_00, 2, 8_00), []string{"counts 800 cents, Stripe gave back 700"},
	},
	"a hold is doubled": {twice, []string{"hold the same call (d2) twice"}},
}

func run(query string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec(query)
		return err
	}
}

// rewrite gives the newest reservation that counts so many cents another state and amount, and its account with it:
// books that agree with themselves.
func rewrite(from int64, state int, to int64) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		var id int64
		var text []byte
		if err := tx.QueryRow(fmt.Sprintf(`SELECT id, moving FROM reservations WHERE CAST(moving AS TEXT) LIKE '%%"n":[%d]%%' ORDER BY id DESC`, from)).Scan(&id, &text); err != nil {
			return err
		}
		var moving map[string]any
		if err := json.Unmarshal(text, &moving); err != nil {
			return err
		}
		moving["n"] = []int64{to}
		moving["h"].([]any)[0].(map[string]any)["n"] = to * 10_000
		text, err := json.Marshal(moving)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE reservations SET moving = ?, state = ? WHERE id = ?`, text, state, id); err != nil {
			return err
		}
		column := "settled"
		if from == 9_00 {
			column = "held"
		}
		_, err = tx.Exec(fmt.Sprintf(`UPDATE accounts SET %s = %s + ? WHERE key = (SELECT key FROM reservations WHERE id = ?)`, column, column), (to-from)*10_000, id)
		return err
	}
}

// twice holds the newest reservation once more, and raises its account.
func twice(tx *sql.Tx) error {
	if _, err := tx.Exec(`INSERT INTO reservations (id, key, state, at, fixed, moving)
		SELECT id + 1, key, state, at, fixed, moving FROM reservations ORDER BY id DESC LIMIT 1`); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE accounts SET held = held + 9000000 WHERE key = (SELECT key FROM reservations ORDER BY id DESC LIMIT 1)`)
	return err
}

// doctored audits a copy of the store in which something was changed.
func (w *world) doctored(t *testing.T, change func(*sql.Tx) error) []string {
	t.Helper()
	c := *w
	c.t, c.dir, c.books = t, t.TempDir(), books{}
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(w.store() + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.dir, "kb.db"+suffix), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", "file:"+c.store())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := change(tx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return c.audit(false, true)
}

// know sends a call that must be answered so.
func (w *world) know(t *testing.T, c *call, status int) *try {
	t.Helper()
	w.calls = append(w.calls, c)
	got := w.send(c)
	if got.status != status {
		t.Fatalf("call %s: %+v", c.id, got)
	}
	return got
}
