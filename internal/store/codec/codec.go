// Package codec is how every engine writes the ledger's rows into its columns.
package codec

import (
	"encoding/json"
	"fmt"
	"strings"
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

// EncodeFixed encodes what never changes after a reservation was made.
func EncodeFixed(r *ledger.Reservation) ([]byte, error) {
	return json.Marshal(fixed{
		Upstream: r.Upstream, Operation: r.Operation, Customers: r.Customers, Marked: r.Marked, AuditSeq: r.AuditSeq,
		Fingerprint: r.Fingerprint[:], Sent: r.Sent,
		FirstSent: Micros(r.FirstSent),
	})
}

// EncodeMoving encodes what its fate changes.
func EncodeMoving(r *ledger.Reservation) ([]byte, error) {
	m := moving{
		Effects: r.Effects, Counted: r.Counted, Handed: r.Handed, Proof: r.Proof, Pending: r.Pending,
		Resolved: Micros(r.Resolved), Request: r.UpstreamRequest, Why: r.Why,
		LastSent: Micros(r.LastSent), Absent: Micros(r.Absent),
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

// Reservation is a reservation as its columns.
type Reservation struct {
	ID            int64
	Key           string
	State         int64
	At            int64 // microseconds
	Fixed, Moving []byte
}

// Decode makes the reservation of a row. One that is damaged is an error.
func (row *Reservation) Decode() (*ledger.Reservation, error) {
	var f fixed
	if err := json.Unmarshal(row.Fixed, &f); err != nil {
		return nil, fmt.Errorf("decode reservation %d: %w", row.ID, err)
	}
	var m moving
	if err := json.Unmarshal(row.Moving, &m); err != nil {
		return nil, fmt.Errorf("decode reservation %d: %w", row.ID, err)
	}
	r := &ledger.Reservation{
		ID: ledger.ReservationID(row.ID), Key: policy.KeyID(row.Key), State: ledger.State(row.State), At: FromMicros(row.At),
		Upstream: f.Upstream, Operation: f.Operation, Customers: f.Customers, Marked: f.Marked, AuditSeq: f.AuditSeq,
		IdemKey: m.IdemKey, IdemAccount: m.IdemAccount, Sent: f.Sent, FirstSent: FromMicros(f.FirstSent),
		Effects: m.Effects, Counted: m.Counted, Handed: m.Handed, Proof: m.Proof, Pending: m.Pending, Resolved: FromMicros(m.Resolved),
		UpstreamRequest: m.Request, Why: m.Why, LastSent: FromMicros(m.LastSent), Absent: FromMicros(m.Absent),
	}
	if len(f.Fingerprint) != len(r.Fingerprint) || len(m.Counted) != len(m.Effects) {
		return nil, fmt.Errorf("decode reservation %d: row is damaged", row.ID)
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

// Idem is the value of a reservation's idempotency column; false where nothing may attach.
func Idem(r *ledger.Reservation) (string, bool) {
	if r.IdemKey == "" || r.State == ledger.Released {
		return "", false
	}
	return IdemValue(r.IdemAccount, r.IdemKey), true
}

// IdemValue is what that column holds for an idempotency key under an account. It may be any bytes.
func IdemValue(account policy.AccountID, key string) string { return string(account) + "\n" + key }

// Text is a string as every engine's text columns can hold it: zero bytes, and bytes that are not UTF-8, become the
// replacement character.
func Text[S ~string](s S) string {
	const replacement = "\uFFFD"
	return strings.ReplaceAll(strings.ToValidUTF8(string(s), replacement), "\x00", replacement)
}

// Micros is a time as stored: microseconds, 0 for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the time that Micros made the number of.
func FromMicros(n int64) time.Time {
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
