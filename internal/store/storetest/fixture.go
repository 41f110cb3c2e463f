// Package storetest is the contract that every engine passes: what store.DB promises, tried on a real one.
// Tests only.
package storetest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// Signer signs heads with a fixed key.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner returns the same signer for the same seed.
func NewSigner(seed string) Signer {
	sum := sha256.Sum256([]byte(seed))
	return Signer{ed25519.NewKeyFromSeed(sum[:])}
}

// Sign implements audit.Signer.
func (s Signer) Sign(message []byte) []byte { return ed25519.Sign(s.key, message) }

// PublicKey implements audit.Signer.
func (s Signer) PublicKey() []byte { return s.key.Public().(ed25519.PublicKey) }

var _ audit.Signer = Signer{}

// Key writes a minimal key row and returns its version.
func Key(t testing.TB, db store.DB, id policy.KeyID) int64 {
	t.Helper()
	var version int64
	err := db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		var err error
		version, err = tx.PutKey(store.KeyRow{
			ID: id, Name: "name-" + string(id), Upstream: "up_1", Live: true, Digest: "d1", Policy: []byte("p"), Doc: []byte("{}"),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// USD is an effect of whole cents on the bucket.
func USD(bucket policy.Resource, cents int64) policy.Effect {
	return policy.Effect{
		Bucket: bucket, Known: true, Amount: money.Amount{Minor: cents, Currency: "usd"},
		Quote: dollars, USD: money.USD(cents) * (money.Dollar / 100),
	}
}

var dollars = func() money.Quote {
	q, err := money.NewTable(nil).Quote("usd", time.Time{})
	if err != nil {
		panic(err) // dollars always have a rate
	}
	return q
}()

// DayCap is a cap in whole dollars per day.
func DayCap(bucket policy.Resource, dollars int64) policy.Cap {
	return policy.Cap{Resource: bucket, Per: policy.PerDay, Unit: policy.UnitUSD, Limit: dollars * int64(money.Dollar)}
}

// Admission asks for one effect under the caps.
func Admission(key policy.KeyID, version int64, caps []policy.Cap, e policy.Effect) *store.Admission {
	return &store.Admission{
		Key: key, KeyVersion: version, Upstream: "up_1", Writes: true, AttachFor: 23 * time.Hour,
		Reserve: &ledger.Request{
			Key: key, Upstream: "up_1", Operation: "refunds.create", Caps: caps, Zone: time.UTC,
			Effects: []policy.Effect{e}, Counts: []policy.Resource{e.Bucket}, Sent: []byte(`{"m":"POST"}`),
		},
		Record: &audit.Record{
			Kind: audit.KindIntent, Key: key, KeyName: "name-" + string(key), Upstream: "up_1",
			Operation: "refunds.create", Method: "POST", Route: "/v1/refunds", UserAgent: "storetest", From: "127.0.0.1",
		},
	}
}

// Settle resolves a reservation as moved in full.
func Settle(r *ledger.Reservation) *store.Resolution {
	fate := ledger.Fate{State: ledger.Settled, UpstreamRequest: "req_1"}
	for _, e := range r.Effects {
		fate.Moved = append(fate.Moved, ledger.Moved{Amount: e.Amount, Object: e.Object})
	}
	return &store.Resolution{
		Reservation: r.ID, Fate: fate,
		Record: &audit.Record{Kind: audit.KindOutcome, Ref: r.AuditSeq, Key: r.Key, Operation: r.Operation, Fate: "moved", Status: 200},
	}
}
