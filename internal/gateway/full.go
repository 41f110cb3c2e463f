package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
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
		for _, asked := range asksOf(&j.call.Operation, c) {
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

// ask is what a call surely takes of a cap, in its unit; 0 stands for an amount that is not known yet, but
// more than nothing. amount then has the figure that the call names, without a currency.
type ask struct {
	asked  int64
	amount money.Amount
}

// asksOf lists what an operation asks of a cap. Effects on an object that was counted before may add nothing,
// so they ask for nothing here.
func asksOf(op *policy.Operation, c policy.Cap) []ask {
	switch {
	case c.Per == policy.PerCall || op.Access != policy.Write:
		return nil
	case c.Unit == policy.UnitCalls:
		if c.Resource == policy.AllResources || slices.Contains(op.Counts(), c.Resource) {
			return []ask{{asked: 1}}
		}
		return nil
	}
	var out []ask
	for i := range op.Effects {
		e := &op.Effects[i]
		if c.Resource != policy.AllResources && c.Resource != e.Bucket || e.Unmeterable || e.Object != "" && e.Mode != policy.Gross {
			continue
		}
		one := ask{amount: money.Amount{Minor: e.Named}}
		if e.Known {
			if e.USD == 0 {
				continue // it takes nothing
			}
			one = ask{asked: int64(e.USD), amount: e.Amount}
		}
		out = append(out, one)
	}
	return out
}

// fullCap says why a cap cannot take what is asked of it, or nil.
func (g *Gateway) fullCap(ctx context.Context, j *journey, c policy.Cap, a ask, now time.Time) (*policy.CapFailure, error) {
	k := ledger.AccountKey{
		Key: j.key.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, now, j.policy.Timezone),
	}
	accounts, err := g.Store.Peek(ctx, []ledger.AccountKey{k})
	if err != nil {
		return nil, err
	}
	state := store.StateOf(c, k, accounts[0], now, j.policy.Timezone)
	if state.Left >= max(a.asked, 1) {
		return nil, nil
	}
	return &policy.CapFailure{
		Cap: c, Held: state.Held, Settled: state.Settled, Asked: a.asked, Left: state.Left, WouldAdmitAtMost: state.Left,
		ResetsAtUnix: unix(state.ResetsAt), AskedInCurrency: a.amount,
	}, nil
}
