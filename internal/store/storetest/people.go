package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/store"
)

func update(t testing.TB, db store.DB, f func(store.Tx) error) {
	t.Helper()
	must(t, db.Update(t.Context(), store.LaneControl, f))
}

func peopleStay(t *testing.T, open Open) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	ines := store.OperatorRow{ID: "opr_1", Name: "ines", Role: "admin", Email: "ines@example.com", Created: at}
	ben := store.OperatorRow{ID: "opr_2", Name: "ben", Role: "auditor", Issuer: "https://id.example", Subject: "7", Created: at, Disabled: at.Add(time.Second)}
	token := store.TokenRow{Digest: []byte("d1"), Name: "laptop", Operator: "opr_1", Role: "stop", Created: at, Expires: at.Add(time.Hour)}
	tool := store.TokenRow{Digest: []byte("d2"), Name: "pager", Role: "stop", Created: at}
	session := store.PassRow{Digest: []byte("s"), Kind: store.PassSession, Operator: "opr_1", Token: "laptop", Created: at, Seen: at, Expires: at.Add(time.Hour), From: "192.0.2.7", Agent: "Firefox"}
	db := open(t, nil)
	update(t, db, func(tx store.Tx) error {
		return errors.Join(tx.PutOperator(ines), tx.PutOperator(ben), tx.PutToken(token), tx.PutToken(tool), tx.PutPass(session))
	})
	ines.Role, session.Seen, token.Used = "responder", at.Add(time.Minute), at.Add(time.Minute)
	update(t, db, func(tx store.Tx) error {
		return errors.Join(tx.PutOperator(ines), tx.PutPass(session), tx.UseToken("laptop", token.Used))
	})
	must(t, db.Close())
	db = opened(t, open)
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		operators, err1 := tx.Operators()
		tokens, err2 := tx.Tokens()
		passes, err3 := tx.Passes()
		if d := cmp.Diff([]store.OperatorRow{ben, ines}, operators); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]store.TokenRow{token, tool}, tokens); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]store.PassRow{session}, passes); d != "" {
			t.Error(d)
		}
		return errors.Join(err1, err2, err3)
	}))
}

func operatorsAreOne(t *testing.T, open Open) {
	db := opened(t, open)
	update(t, db, func(tx store.Tx) error {
		return errors.Join(tx.PutOperator(store.OperatorRow{ID: "opr_1", Name: "ines", Role: "admin", Issuer: "i", Subject: "7"}),
			tx.PutOperator(store.OperatorRow{ID: "opr_2", Name: "ben", Role: "admin"}), tx.PutOperator(store.OperatorRow{ID: "opr_3", Name: "cleo", Role: "admin"}))
	})
	for name, o := range map[string]store.OperatorRow{
		"a name that is taken":    {ID: "opr_9", Name: "ines", Role: "admin"},
		"a subject that is taken": {ID: "opr_9", Name: "dora", Role: "admin", Issuer: "i", Subject: "7"},
		"another one's name":      {ID: "opr_2", Name: "cleo", Role: "admin"},
	} {
		err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.PutOperator(o) })
		if !errors.Is(err, store.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func passOnce(t *testing.T, open Open) {
	db := opened(t, open)
	update(t, db, func(tx store.Tx) error {
		return tx.PutPass(store.PassRow{Digest: []byte("x"), Kind: store.PassInvite, Operator: "opr_1"})
	})
	update(t, db, func(tx store.Tx) error { return tx.DeletePass([]byte("x")) })
	err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error { return tx.DeletePass([]byte("x")) })
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("taken twice: %v", err)
	}
}

func creationsFade(t *testing.T, open Open) {
	db := opened(t, open)
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	row := store.CreationRow{Digest: []byte("x"), Request: []byte("r"), Answer: []byte("{}"), At: at}
	look := func() (got store.CreationRow, err error) {
		err = db.View(t.Context(), func(tx store.Tx) (err error) { got, err = tx.Creation(row.Digest); return err })
		return got, err
	}
	if _, err := look(); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	update(t, db, func(tx store.Tx) error { return tx.PutCreation(row) })
	later := func(d time.Duration, digest string) {
		update(t, db, func(tx store.Tx) error {
			return tx.PutCreation(store.CreationRow{Digest: []byte(digest), Request: []byte("r"), Answer: []byte("{}"), At: at.Add(d)})
		})
	}
	later(store.CreationsKept-time.Second, "y")
	if got, err := look(); err != nil || cmp.Diff(row, got) != "" {
		t.Errorf("within the day: %+v, %v", got, err)
	}
	later(store.CreationsKept, "z")
	if _, err := look(); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a day later: %v", err)
	}
}
