package sim

import (
	"context"
	"errors"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// journal is what a run asked of its store and what became durable, one step after the other, so that another engine can be
// asked the same.
type journal struct{ steps []step }

// step is one caller's work, or a restart.
type step struct {
	at      time.Time // by the store's clock
	restart bool
	do      func(context.Context, store.DB) error
}

// scribe is an operator's transaction that writes down what is written in it.
type scribe struct {
	store.Tx
	did     []func(store.Tx) error
	entries []audit.Entry
}

var _ store.Tx = (*scribe)(nil)

// again is the action, as a function for another engine.
func (s *scribe) again(ctx context.Context, db store.DB) error {
	return db.Update(ctx, store.LaneControl, s.write)
}

// write does in another transaction what was done in this one.
func (s *scribe) write(t store.Tx) error {
	for _, write := range s.did {
		if err := write(t); err != nil {
			return err
		}
	}
	return nil
}

// note keeps a write that went well.
func (s *scribe) note(err error, write func(store.Tx) error) error {
	if err == nil {
		s.did = append(s.did, write)
	}
	return err
}

func (s *scribe) SetMeta(name, value string) error {
	return s.note(s.Tx.SetMeta(name, value), func(t store.Tx) error { return t.SetMeta(name, value) })
}

func (s *scribe) PutRate(r money.Rate) error {
	return s.note(s.Tx.PutRate(r), func(t store.Tx) error { return t.PutRate(r) })
}

func (s *scribe) PutBrake(r store.BrakeRow) error {
	return s.note(s.Tx.PutBrake(r), func(t store.Tx) error { return t.PutBrake(r) })
}

func (s *scribe) LiftBrake(scope string) (bool, error) {
	lifted, err := s.Tx.LiftBrake(scope)
	return lifted, s.note(err, func(t store.Tx) error {
		if was, err := t.LiftBrake(scope); err != nil || was != lifted {
			return errors.Join(err, errors.New("there is another brake here"))
		}
		return nil
	})
}

func (s *scribe) PutKey(row store.KeyRow) (int64, error) {
	version, err := s.Tx.PutKey(row)
	return version, s.note(err, func(t store.Tx) error {
		if v, err := t.PutKey(row); err != nil || v != version {
			return errors.Join(err, errors.New("the key has another version here"))
		}
		return nil
	})
}

func (s *scribe) PutUpstream(row store.UpstreamRow) error {
	return s.note(s.Tx.PutUpstream(row), func(t store.Tx) error { return t.PutUpstream(row) })
}

func (s *scribe) DeleteUpstream(id policy.UpstreamID) error {
	return s.note(s.Tx.DeleteUpstream(id), func(t store.Tx) error { return t.DeleteUpstream(id) })
}

func (s *scribe) PutOperator(o store.OperatorRow) error {
	return s.note(s.Tx.PutOperator(o), func(t store.Tx) error { return t.PutOperator(o) })
}

func (s *scribe) PutToken(r store.TokenRow) error {
	return s.note(s.Tx.PutToken(r), func(t store.Tx) error { return t.PutToken(r) })
}

func (s *scribe) UseToken(name string, at time.Time) error {
	return s.note(s.Tx.UseToken(name, at), func(t store.Tx) error { return t.UseToken(name, at) })
}

func (s *scribe) DeleteToken(name string) error {
	return s.note(s.Tx.DeleteToken(name), func(t store.Tx) error { return t.DeleteToken(name) })
}

func (s *scribe) PutPass(p store.PassRow) error {
	return s.note(s.Tx.PutPass(p), func(t store.Tx) error { return t.PutPass(p) })
}

func (s *scribe) DeletePass(digest []byte) error {
	return s.note(s.Tx.DeletePass(digest), func(t store.Tx) error { return t.DeletePass(digest) })
}

func (s *scribe) PutCreation(row store.CreationRow) error {
	return s.note(s.Tx.PutCreation(row), func(t store.Tx) error { return t.PutCreation(row) })
}

func (s *scribe) Append(r *audit.Record) (audit.Entry, error) {
	before := copyRecord(r)
	e, err := s.Tx.Append(r)
	if err == nil {
		s.entries = append(s.entries, e)
	}
	return e, s.note(err, func(t store.Tx) error {
		_, err := t.Append(copyRecord(before))
		return err
	})
}

func (s *scribe) PutAlert(a store.AlertRow) error {
	return s.note(s.Tx.PutAlert(a), func(t store.Tx) error { return t.PutAlert(a) })
}

func (s *scribe) PutMessage(m store.MessageRow) error {
	return s.note(s.Tx.PutMessage(m), func(t store.Tx) error { return t.PutMessage(m) })
}

func (s *scribe) ForgetAlerts(before time.Time) error {
	return s.note(s.Tx.ForgetAlerts(before), func(t store.Tx) error { return t.ForgetAlerts(before) })
}
