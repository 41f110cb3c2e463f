package gateway

import (
	"context"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
)

// fullAlready refuses what a cap cannot take as it is committed now: it spares the vendor a look-up and the
// store a transaction, and an agent that runs into its cap in a loop is counted and not written down each
// time. That a cap has room is for the admission to say.
func (g *Gateway) fullAlready(ctx context.Context, j *journey) ending {
	if j.policy.Enforcement == policy.Shadow {
		return nil
	}
	now := g.Store.Now()
	var full []policy.Failure
	for _, c := range j.policy.Caps {
		for _, asked := range j.call.Operation.Asks(c) {
			failure, err := g.fullCap(ctx, j, c, asked, now)
			if err != nil {
				return failed(err)
			}
			if failure != nil {
				full = append(full, failure.Failure())
				break // once is enough, also where several effects fall on it
			}
		}
	}
	if len(full) == 0 {
		return nil
	}
	return denied(full...)
}

// fullCap says why a cap cannot take what is asked of it, or nil.
func (g *Gateway) fullCap(ctx context.Context, j *journey, c policy.Cap, a policy.Ask, now time.Time) (*policy.CapFailure, error) {
	k := ledger.AccountKey{
		Key: j.key.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, now, j.policy.Timezone),
	}
	accounts, err := g.Store.Peek(ctx, []ledger.AccountKey{k})
	if err != nil {
		return nil, err
	}
	state := store.StateOf(c, k, accounts[0], now, j.policy.Timezone)
	if state.Left >= max(a.Asked, 1) {
		return nil, nil
	}
	return &policy.CapFailure{
		Cap: c, Held: state.Held, Settled: state.Settled, Asked: a.Asked, Left: state.Left, WouldAdmitAtMost: state.Left,
		ResetsAtUnix: unix(state.ResetsAt), AskedInCurrency: a.Amount,
	}, nil
}
