package sqlite_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

func TestAFullDiskRefusesAndRecovers(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	caps := []policy.Cap{storetest.DayCap("refunds", 1_000_000)}
	if err := db.SetMaxPages(60); err != nil {
		t.Fatal(err)
	}
	var admitted int64
	var full error
	for range 10_000 {
		a := storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100))
		a.Reserve.Sent = []byte(strings.Repeat("x", 4096))
		got, err := db.Admit(t.Context(), a)
		if err != nil {
			full = err
			break
		}
		if got.Verdict == policy.Allow {
			admitted++
		}
	}
	if !errors.Is(full, store.ErrUnavailable) {
		t.Fatalf("the disk never filled, or not as such: %v", full)
	}
	if err := db.SetMaxPages(1 << 30); err != nil { // space comes back
		t.Fatal(err)
	}
	got, err := db.Admit(t.Context(), storetest.Admission("key_1", version, caps, storetest.USD("refunds", 100)))
	if err != nil || got.Verdict != policy.Allow {
		t.Fatalf("after space came back: %+v %v", got, err)
	}
	account, err := db.Peek(t.Context(), []ledger.AccountKey{{
		Key: "key_1", Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD,
		Label: ledger.Label(policy.PerDay, db.Now(), zone),
	}})
	if err != nil || account[0].Held != (admitted+1)*1_000_000 {
		t.Errorf("%d admissions hold %d; what failed must have left nothing (%v)", admitted+1, account[0].Held, err)
	}
}

func TestAReadOnlyStoreRefuses(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	if err := db.SetReadOnly(true); err != nil {
		t.Fatal(err)
	}
	_, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100)))
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := db.Check(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the store says that it is ready: %v", err)
	}
	if err := db.SetReadOnly(false); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 100))); err != nil {
		t.Errorf("writable again: %v", err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("writable again and not ready: %v", err)
	}
}

func TestABrokenInvariantStopsTheStoreUntilARestart(t *testing.T) {
	db := open(t, sqlite.Options{})
	version := storetest.Key(t, db, "key_1")
	bad := storetest.Admission("key_1", version, []policy.Cap{storetest.DayCap("refunds", 100)}, storetest.USD("refunds", 100))
	bad.Reserve.Effects[0].Amount.Minor = -1 // no caller may do this
	if _, err := db.Admit(t.Context(), bad); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	if err := db.Check(t.Context()); err == nil {
		t.Error("the store says it is ready")
	}
	if _, err := db.Admit(t.Context(), storetest.Admission("key_1", version, nil, storetest.USD("refunds", 1))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("money went on: %v", err)
	}
}

func TestAnActionThatPanicsWritesNothingAndStopsTheStore(t *testing.T) {
	db := open(t, sqlite.Options{})
	err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		if err := tx.SetMeta("a", "b"); err != nil {
			return err
		}
		panic("a broken invariant")
	})
	if !errors.Is(err, store.ErrUnavailable) || db.Check(t.Context()) == nil {
		t.Errorf("%v", err)
	}
	_ = db.View(t.Context(), func(tx store.Tx) error {
		if v, err := tx.Meta("a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("written: %q %v", v, err)
		}
		return nil
	})
}
