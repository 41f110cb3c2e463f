package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/vault"
)

// refusedGoesOn: what is taken is told, and the rest of the action is as if nobody had asked.
func refusedGoesOn(t *testing.T, open Open) {
	db := opened(t, open)
	Key(t, db, "key_1")
	at := db.Now()
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		return errors.Join(
			tx.PutUpstream(store.UpstreamRow{ID: "up_1", Name: "stripe", Doc: []byte("{}")}),
			tx.PutOperator(store.OperatorRow{ID: "opr_1", Name: "ada", Created: at}),
			tx.PutToken(store.TokenRow{Name: "t", Digest: []byte{1}, Created: at}),
			tx.PutCreation(store.CreationRow{Digest: []byte{1}, Request: []byte{1}, Answer: []byte{1}, At: at}),
			tx.PutAlert(store.AlertRow{ID: "alr_1", Kind: "k", Subject: "s", First: at}),
		)
	}))
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		if _, err := tx.Append(&audit.Record{Kind: audit.KindOperator, Action: "before"}); err != nil {
			return err
		}
		for name, put := range map[string]func() error{
			"a live name": func() error {
				_, err := tx.PutKey(store.KeyRow{ID: "key_2", Name: "name-key_1", Live: true, Digest: "d", Policy: []byte("p"), Doc: []byte("{}")})
				return err
			},
			"an upstream's name": func() error {
				return tx.PutUpstream(store.UpstreamRow{ID: "up_2", Name: "stripe", Doc: []byte("{}")})
			},
			"an operator's name": func() error { return tx.PutOperator(store.OperatorRow{ID: "opr_2", Name: "ada", Created: at}) },
			"a token's name":     func() error { return tx.PutToken(store.TokenRow{Name: "t", Digest: []byte{2}, Created: at}) },
			"a token's digest":   func() error { return tx.PutToken(store.TokenRow{Name: "u", Digest: []byte{1}, Created: at}) },
			"a creation": func() error {
				return tx.PutCreation(store.CreationRow{Digest: []byte{1}, Request: []byte{1}, Answer: []byte{1}, At: at})
			},
			"an open alert": func() error { return tx.PutAlert(store.AlertRow{ID: "alr_2", Kind: "k", Subject: "s", First: at}) },
		} {
			if err := put(); !errors.Is(err, store.ErrExists) {
				t.Errorf("%s that is taken: %v", name, err)
			}
		}
		_, err := tx.PutKey(store.KeyRow{ID: "key_2", Name: "another", Live: true, Digest: "d", Policy: []byte("p"), Doc: []byte("{}")})
		return err
	}))
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		upstreams, err1 := tx.Upstreams()
		operators, err2 := tx.Operators()
		tokens, err3 := tx.Tokens()
		key, err4 := tx.Key("key_2")
		if len(upstreams) != 1 || len(operators) != 1 || len(tokens) != 1 || key.Name != "another" || key.Version != 1 {
			t.Errorf("%+v %+v %+v %+v", upstreams, operators, tokens, key)
		}
		return errors.Join(err1, err2, err3, err4)
	}))
	if rs := records(t, db); len(rs) != 1 || rs[0].Action != "before" {
		t.Errorf("%+v", rs)
	}
}

// byteOrder: lists are in the order of their names' bytes, whatever the machine's language.
func byteOrder(t *testing.T, open Open) {
	db := opened(t, open)
	names := []string{"Zebra", "_x", "a", "a b", "a-b", "aB", "ab", "z", "Ä", "é"}
	at := db.Now()
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		for i := range names {
			name := names[(i*7+3)%len(names)]
			err := errors.Join(
				tx.PutUpstream(store.UpstreamRow{ID: policy.UpstreamID("up_" + name), Name: name, Doc: []byte("{}")}),
				tx.PutOperator(store.OperatorRow{ID: "opr_" + name, Name: name, Created: at}),
				tx.PutToken(store.TokenRow{Name: name, Digest: []byte(name), Created: at}),
			)
			if err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		upstreams, err1 := tx.Upstreams()
		operators, err2 := tx.Operators()
		tokens, err3 := tx.Tokens()
		var u, o, k []string
		for i := range upstreams {
			u, o, k = append(u, upstreams[i].Name), append(o, operators[i].Name), append(k, tokens[i].Name)
		}
		for what, got := range map[string][]string{"upstreams": u, "operators": o, "tokens": k} {
			if !slices.Equal(got, names) {
				t.Errorf("%s: %q", what, got)
			}
		}
		return errors.Join(err1, err2, err3)
	}))
}

// keysInOrder: the oldest key comes first, however often keys change.
func keysInOrder(t *testing.T, open Open) {
	db := opened(t, open)
	want := []policy.KeyID{"key_z", "key_a", "key_m"}
	for _, id := range want {
		Key(t, db, id)
	}
	Key(t, db, "key_a")
	if v := Key(t, db, "key_z"); v != 2 {
		t.Errorf("the second version is %d", v)
	}
	var got []policy.KeyID
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		return tx.EachKey(func(k store.KeyRow) error {
			got = append(got, k.ID)
			// Whoever walks through the keys may ask for more.
			_, err := tx.Key(k.ID)
			return err
		})
	}))
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// oddText: what comes from outside may be any bytes. It is kept as text can be, and finds nothing that is not there.
func oddText(t *testing.T, open Open) {
	db := opened(t, open)
	const odd = "caf\xe9 \x00 \xff"
	at := db.Now()
	must(t, db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		return errors.Join(
			tx.SetMeta("odd", odd),
			tx.PutBrake(store.BrakeRow{Scope: store.ScopeAll, Mode: vault.Stopped, Reason: odd, Actor: odd, At: at}),
			tx.PutAlert(store.AlertRow{ID: "alr_1", Kind: "k", Subject: odd, Title: odd, Text: odd, First: at}),
			tx.PutMessage(store.MessageRow{ID: "msg_1", Target: odd, Body: []byte(odd), Created: at, Error: odd}),
			tx.PutPass(store.PassRow{Digest: []byte(odd), Kind: store.PassSession, Created: at, From: odd, Agent: odd}),
		)
	}))
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		meta, err1 := tx.Meta("odd")
		brakes, err2 := tx.Brakes()
		alerts, err3 := tx.Alerts(10)
		messages, err4 := tx.Messages("", 10)
		passes, err5 := tx.Passes()
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
			return err
		}
		for what, got := range map[string]string{
			"a setting": meta, "a reason": brakes[0].Reason, "an alert": alerts[0].Text, "a message's error": messages[0].Error, "a pass's agent": passes[0].Agent,
		} {
			if codec.Text(got) != codec.Text(odd) {
				t.Errorf("%s: %q", what, got)
			}
		}
		if string(messages[0].Body) != odd || string(passes[0].Digest) != odd {
			t.Errorf("bytes: %q, %q", messages[0].Body, passes[0].Digest)
		}
		if _, err := tx.Key("key_\x00\xff"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a key that there is not: %v", err)
		}
		page, err := tx.Query(store.RecordQuery{Key: "key_\x00\xff"})
		if len(page.Entries) > 0 {
			t.Errorf("%+v", page)
		}
		return err
	}))
	if _, err := db.Attached(t.Context(), "key_1", "acct_\x00", "\xff\x00"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an idempotency key that nobody used: %v", err)
	}
}

// manyPages: what is read for a function has no end that a page would hide.
func manyPages(t *testing.T, open Open) {
	db := opened(t, open)
	const n = 1203 // more than any engine reads at once
	version := Key(t, db, "key_1")
	for i := 0; i < n; i += 100 {
		done := make(chan error, 100)
		for range min(100, n-i) {
			go func() {
				a := Admission("key_1", version, nil, USD("refunds", 1))
				a.AllowRepeat = true
				_, err := db.Admit(t.Context(), a)
				done <- err
			}()
		}
		for range min(100, n-i) {
			must(t, <-done)
		}
	}
	must(t, db.View(t.Context(), func(tx store.Tx) error {
		for _, key := range []policy.KeyID{"", "key_1"} {
			var ids []ledger.ReservationID
			err := tx.ReservationsSince(key, time.Time{}, func(r *ledger.Reservation) error {
				ids = append(ids, r.ID)
				return nil
			})
			if err != nil || len(ids) != n || !slices.IsSorted(ids) {
				t.Errorf("%d reservations of %q, %v", len(ids), key, err)
			}
		}
		count := int64(0)
		err := tx.EachRecord(1, func(e audit.Entry) error {
			if count++; e.Seq != count {
				t.Errorf("record %d comes as number %d", e.Seq, count)
			}
			return nil
		})
		if count != n {
			t.Errorf("%d records", count)
		}
		return err
	}))
}
