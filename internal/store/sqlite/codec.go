package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
)

// fixed is the part of a reservation that never changes after it was made.
type fixed struct {
	Upstream    policy.UpstreamID    `json:"u"`
	Operation   policy.OperationName `json:"o"`
	Customers   []policy.CustomerID  `json:"c,omitempty"`
	Marked      bool                 `json:"m,omitempty"`
	AuditSeq    int64                `json:"a"`
	Fingerprint []byte               `json:"f"`
	Sent        []byte               `json:"s,omitempty"`
	FirstSent   int64                `json:"fs"`
}

// moving is the part that its fate changes.
type moving struct {
	Effects  []policy.Effect `json:"e,omitempty"`
	Counted  []int64         `json:"n,omitempty"`
	Holds    []hold          `json:"h,omitempty"`
	Handed   []ledger.Handed `json:"d,omitempty"`
	Proof    ledger.Proof    `json:"p,omitempty"`
	Pending  bool            `json:"w,omitempty"`
	Resolved int64           `json:"r,omitempty"`
	Request  string          `json:"q,omitempty"`
	Why      string          `json:"y,omitempty"`
	LastSent int64           `json:"l,omitempty"`
	Absent   int64           `json:"b,omitempty"`
	// The idempotency key moves too: a reservation too old to attach to lets it go.
	IdemKey     string           `json:"ik,omitempty"`
	IdemAccount policy.AccountID `json:"ia,omitempty"`
}

// hold leaves out the key, which is the reservation's own.
type hold struct {
	Resource policy.Resource `json:"r"`
	Per      policy.Window   `json:"p"`
	Unit     policy.Unit     `json:"u"`
	Label    string          `json:"l"`
	Effect   int             `json:"e"`
	Amount   int64           `json:"n"`
	Limit    int64           `json:"t,omitempty"`
	ResetsAt int64           `json:"x,omitempty"` // seconds

	From ledger.ReservationID `json:"f,omitempty"`
}

func encodeFixed(r *ledger.Reservation) ([]byte, error) {
	return json.Marshal(fixed{
		Upstream: r.Upstream, Operation: r.Operation, Customers: r.Customers, Marked: r.Marked, AuditSeq: r.AuditSeq,
		Fingerprint: r.Fingerprint[:], Sent: r.Sent,
		FirstSent: micros(r.FirstSent),
	})
}

func encodeMoving(r *ledger.Reservation) ([]byte, error) {
	m := moving{
		Effects: r.Effects, Counted: r.Counted, Handed: r.Handed, Proof: r.Proof, Pending: r.Pending,
		Resolved: micros(r.Resolved), Request: r.UpstreamRequest, Why: r.Why,
		LastSent: micros(r.LastSent), Absent: micros(r.Absent),
		IdemKey: r.IdemKey, IdemAccount: r.IdemAccount,
	}
	for _, h := range r.Holds {
		m.Holds = append(m.Holds, hold{
			Resource: h.Account.Resource, Per: h.Account.Per, Unit: h.Account.Unit, Label: h.Account.Label,
			Effect: h.Effect, Amount: h.Amount, Limit: h.Limit, ResetsAt: seconds(h.ResetsAt), From: h.From,
		})
	}
	return json.Marshal(m)
}

// reservationRow is a row of the table as it is scanned.
type reservationRow struct {
	id            int64
	key           string
	state         int64
	at            int64
	fixed, moving []byte

	fixedSum, movingSum sql.NullInt64
}

const reservationColumns = `id, key, state, at, fixed, moving, fixed_sum, moving_sum`

func (row *reservationRow) fields() []any {
	return []any{&row.id, &row.key, &row.state, &row.at, &row.fixed, &row.moving, &row.fixedSum, &row.movingSum}
}

func (row *reservationRow) decode() (*ledger.Reservation, error) {
	if !row.whole() {
		return nil, fmt.Errorf("decode reservation %d: it is not as it was written", row.id)
	}
	var f fixed
	if err := json.Unmarshal(row.fixed, &f); err != nil {
		return nil, fmt.Errorf("decode reservation %d: %w", row.id, err)
	}
	var m moving
	if err := json.Unmarshal(row.moving, &m); err != nil {
		return nil, fmt.Errorf("decode reservation %d: %w", row.id, err)
	}
	r := &ledger.Reservation{
		ID: ledger.ReservationID(row.id), Key: policy.KeyID(row.key), State: ledger.State(row.state), At: fromMicros(row.at),
		Upstream: f.Upstream, Operation: f.Operation, Customers: f.Customers, Marked: f.Marked, AuditSeq: f.AuditSeq,
		IdemKey: m.IdemKey, IdemAccount: m.IdemAccount, Sent: f.Sent, FirstSent: fromMicros(f.FirstSent),
		Effects: m.Effects, Counted: m.Counted, Handed: m.Handed, Proof: m.Proof, Pending: m.Pending, Resolved: fromMicros(m.Resolved),
		UpstreamRequest: m.Request, Why: m.Why, LastSent: fromMicros(m.LastSent), Absent: fromMicros(m.Absent),
	}
	if len(f.Fingerprint) != len(r.Fingerprint) || len(m.Counted) != len(m.Effects) {
		return nil, fmt.Errorf("decode reservation %d: row is damaged", row.id)
	}
	copy(r.Fingerprint[:], f.Fingerprint)
	for _, h := range m.Holds {
		r.Holds = append(r.Holds, ledger.Hold{
			Account: ledger.AccountKey{Key: r.Key, Resource: h.Resource, Per: h.Per, Unit: h.Unit, Label: h.Label},
			Effect:  h.Effect, Amount: h.Amount, Limit: h.Limit, ResetsAt: fromSeconds(h.ResetsAt), From: h.From,
		})
	}
	return r, nil
}

// idem is the value of the idempotency column: NULL where nothing may attach.
func idem(r *ledger.Reservation) any {
	if r.IdemKey == "" || r.State == ledger.Released {
		return nil
	}
	return idemValue(r.IdemAccount, r.IdemKey)
}

func idemValue(account policy.AccountID, key string) string { return string(account) + "\n" + key }

// micros is a time as stored: microseconds, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// seconds is the end of a window as stored; 0 for none.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromSeconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
