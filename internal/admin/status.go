package admin

import (
	"context"
	"time"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// Status is how the server is at a moment. It costs a few reads, whatever the store's size: it is asked for often.
type Status struct {
	AsOf     time.Time `json:"as_of" doc:"by the store's clock"`
	Height   int64     `json:"height" doc:"number of the last audit record"`
	Signed   int64     `json:"signed" doc:"number of the last record that a signed head covers"`
	SignedAt time.Time `json:"signed_at,omitzero"`
	Brakes   []Brake   `json:"brakes" doc:"what is stopped"`
	InFlight int64     `json:"in_flight" doc:"calls on their way to upstreams"`
	// Alerts are those that are open, more than information, and that nobody has said to look after.
	Alerts int `json:"alerts"`
	// Safety says what the store can lose of what it acknowledged. Remembers: nothing, even if a whole machine is lost.
	Safety    string `json:"safety" doc:"what the store can lose of what it acknowledged"`
	Remembers bool   `json:"remembers" doc:"nothing is lost even if a whole machine is"`
	Trouble   string `json:"trouble,omitempty" doc:"why money calls are not taken; absent: they are"`
}

// Status tells how the server is. A store that does not answer is told as trouble, not as an error: what is known in
// memory is worth showing then most of all.
func (s *Service) Status(ctx context.Context) (Status, error) {
	out := Status{
		AsOf: s.Store.Now().UTC(), Brakes: append([]Brake{}, s.Brakes()...), InFlight: s.Ring.InFlight(ringScope(store.ScopeAll)),
	}
	if s.Safety != nil {
		safety := s.Safety()
		out.Safety, out.Remembers = safety.Why, safety.Remembers
	}
	err := s.Store.Check(ctx)
	if err == nil && s.Ready != nil {
		err = s.Ready(ctx)
	}
	if err == nil {
		err = s.Store.View(ctx, func(tx store.Tx) (err error) {
			if out.Height, _, err = tx.Height(); err != nil {
				return err
			}
			if out.Alerts, err = pressing(tx); err != nil {
				return err
			}
			head, err := lastHead(tx, out.Height)
			out.Signed, out.SignedAt = head.Seq, utc(head.At)
			return err
		})
	}
	if err != nil {
		out.Trouble = err.Error()
	}
	return out, ctx.Err()
}

// lastHead finds the last signed head; the zero Head if there is none. It looks a little way back first: heads are made
// each second in which the record grew, so that few lie in a short stretch of a slow record, and one does in a longer one
// of a fast record.
func lastHead(tx store.Tx, height int64) (audit.Head, error) {
	for _, back := range []int64{256, 8192, height} {
		heads, err := tx.Heads(max(1, height-back))
		if err != nil || len(heads) > 0 {
			return append(heads, audit.Head{})[max(0, len(heads)-1)], err
		}
	}
	return audit.Head{}, nil
}

// pressing counts the alerts that wait for somebody.
func pressing(tx store.Tx) (n int, err error) {
	rows, err := openAlerts(tx)
	for _, r := range rows {
		if r.Acked.IsZero() && r.Severity != string(alert.Info) {
			n++
		}
	}
	return n, err
}
