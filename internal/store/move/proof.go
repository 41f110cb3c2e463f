package move

import (
	"errors"
	"fmt"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
)

// Proof is what was found true of the copy, read back from where it went.
type Proof struct {
	Tables []Compared `json:"tables"`
	// Accounts are the running totals, of which each was worked out again from the reservations that count in it.
	Accounts int64 `json:"accounts"`
	// Open reservations hold Held in all, in the caps' own units (micro-dollars, calls): the sum over the accounts.
	Open int64 `json:"open_reservations"`
	Held int64 `json:"held"`
	// The chain was read from its first record that is still there to its last, each held against its hash.
	First   int64  `json:"first_record"`
	Last    int64  `json:"last_record"`
	Records int64  `json:"records"`
	Hash    string `json:"last_hash"` // hex
	Heads   int    `json:"signed_heads"`
	Signed  int64  `json:"last_signed"`
}

// Compared is one table on both sides.
type Compared struct {
	Table  string `json:"table"`
	From   int64  `json:"rows_from"`
	To     int64  `json:"rows_to"`
	Digest string `json:"sha256"` // of the rows on both sides, in their order
}

// Copy is a store that was just filled, as one transaction sees it.
type Copy interface {
	store.Tx
	Source
	// EachAccount reads all running totals.
	EachAccount(f func(ledger.AccountKey, ledger.Account) error) error
}

// Prove holds a copy against what was read for it: every table row by row, the running totals against the reservations, the
// chain from its first record to its last. An error says what is not so. public is the store's own key for signed heads.
func Prove(c Copy, from []Count, public []byte) (*Proof, error) {
	p := &Proof{}
	for _, step := range []func(Copy) error{
		func(c Copy) error { return p.compare(c, from) },
		p.balance,
		func(c Copy) error { return p.chain(c, public) },
	} {
		if err := step(c); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Proof) compare(c Copy, from []Count) error {
	to, err := CountAll(c)
	if err != nil {
		return err
	}
	for i := range to {
		if from[i].Table != to[i].Table || from[i].Rows != to[i].Rows {
			return fmt.Errorf("%s has %d rows and the copy has %d", from[i].Table, from[i].Rows, to[i].Rows)
		}
		if from[i].Digest != to[i].Digest {
			return fmt.Errorf("the rows of %s are not the ones that were read", from[i].Table)
		}
		p.Tables = append(p.Tables, Compared{Table: to[i].Table, From: from[i].Rows, To: to[i].Rows, Digest: to[i].Digest})
	}
	return nil
}

// balance works out every running total from the reservations again.
func (p *Proof) balance(c Copy) error {
	want := make(map[ledger.AccountKey]ledger.Account)
	err := c.ReservationsSince("", time.Time{}, func(r *ledger.Reservation) error {
		if r.State.Open() {
			p.Open++
		}
		for i := range r.Holds {
			h := &r.Holds[i]
			a := want[h.Account]
			if r.State.Open() {
				a.Held += h.Amount
				p.Held += h.Amount
			} else {
				a.Settled += h.Amount
			}
			want[h.Account] = a
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the reservations: %w", err)
	}
	var held int64
	err = c.EachAccount(func(k ledger.AccountKey, has ledger.Account) error {
		if has != want[k] {
			return fmt.Errorf("the account of %s for %s in %s says held %d and settled %d, its reservations say %d and %d",
				k.Key, k.Resource, k.Label, has.Held, has.Settled, want[k].Held, want[k].Settled)
		}
		p.Accounts++
		held += has.Held
		delete(want, k)
		return nil
	})
	if err != nil {
		return err
	}
	for k, a := range want {
		if a != (ledger.Account{}) {
			return fmt.Errorf("the account of %s for %s in %s is missing", k.Key, k.Resource, k.Label)
		}
	}
	if held != p.Held {
		return fmt.Errorf("the accounts hold %d and the open reservations %d", held, p.Held)
	}
	return nil
}

// chain verifies the record as `audit verify` does.
func (p *Proof) chain(c Copy, public []byte) error {
	archives, err := c.Archives()
	if err != nil {
		return err
	}
	heads, err := c.Heads(1)
	if err != nil {
		return err
	}
	last, hash, err := c.Height()
	if err != nil {
		return err
	}
	report, err := audit.VerifyEntries(store.Before(archives), func(yield func(audit.Entry, error) bool) {
		stopped := errors.New("stopped")
		err := c.EachRecord(1, func(e audit.Entry) error {
			if !yield(e, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(audit.Entry{}, err)
		}
	}, heads, public)
	switch {
	case err != nil:
		return fmt.Errorf("verify the record: %w", err)
	case !report.OK:
		return fmt.Errorf("the record does not verify: %s", report.Problem)
	case report.Last != last:
		return fmt.Errorf("the record ends with %d and the store with %d", report.Last, last)
	}
	p.First, p.Last, p.Records, p.Hash = report.First, report.Last, report.Records, fmt.Sprintf("%x", hash)
	p.Heads, p.Signed = len(heads), report.LastSigned
	return nil
}
