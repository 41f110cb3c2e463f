package codec_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// TestAReservationReadsBackAsItWasWritten fills every field, so that a field that is added and forgotten in
// the codec shows here.
func TestAReservationReadsBackAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123000, time.UTC)
	want := &ledger.Reservation{
		ID: 7, Key: "key_1", Upstream: "up_1", Operation: "payment_intents.confirm", Customers: []policy.CustomerID{"cus_1"},
		State: ledger.Released, Proof: ledger.ProofRefused, Marked: true, Pending: true, At: at, Resolved: at.Add(time.Second),
		Effects: []policy.Effect{{
			Bucket: "payment_intents", Known: true, Amount: money.Amount{Minor: 100, Currency: "eur"},
			Quote: money.Quote{Rate: "r1", Currency: "eur", Exponent: 2, Value: 1_100_000_000_000, MarginBP: 500},
			USD:   1_155_000, Mode: policy.Part, Object: "pi_1", Ceiling: 300,
			Unmeterable: true, Why: "why", NoRate: "no rate",
		}},
		Counted:  []int64{100},
		Handed:   []ledger.Handed{{Effect: 0, From: 3, Minor: 40}},
		Holds:    []ledger.Hold{{Account: ledger.AccountKey{Key: "key_1", Resource: "*", Per: policy.PerDay, Unit: policy.UnitUSD, Label: "2026-11-23"}, Effect: 0, Amount: 1_155_000, Limit: 500_000_000, ResetsAt: time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC), From: 3}},
		AuditSeq: 41, IdemKey: "k", IdemAccount: "acct_1", Fingerprint: [32]byte{1, 2, 3}, Sent: []byte("sent"), FirstSent: at,
		UpstreamRequest: "req_1", Why: "declined",
	}
	fixed, err := codec.EncodeFixed(want)
	if err != nil {
		t.Fatal(err)
	}
	moving, err := codec.EncodeMoving(want)
	if err != nil {
		t.Fatal(err)
	}
	row := codec.Reservation{ID: 7, Key: "key_1", State: int64(want.State), At: codec.Micros(at), Fixed: fixed, Moving: moving}
	got, err := row.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
