package policy

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/money"
)

// Unmeters reports whether the policy lets the operation pass where its amount has no bound.
func (p *Policy) Unmeters(name OperationName) bool {
	return slices.Contains(p.Unmetered, name) || slices.Contains(p.Unmetered, "*")
}

// Waive marks the effects that p counts nowhere and whose amount the call does not say as unmeterable: p unmeters
// the operation and has no cap in dollars on their bucket. Nothing is looked up or pinned for them, so the
// call is sent as it came. Call it on an operation that is not resolved yet.
func (p *Policy) Waive(op *Operation) {
	if !p.Unmeters(op.Name) {
		return
	}
	for i := range op.Effects {
		if e := &op.Effects[i]; !e.Known && !p.hasUSDCap(e.Bucket) {
			e.Unmeterable, e.Waived = true, !e.Unmeterable || e.Waived
		}
	}
}

// Counted returns the effects that must be held: those with a known amount. The others are there only
// because the policy unmeters the operation. It returns op.Effects itself where it can, so the result must
// not be changed. Call it on what Decide allowed after resolution.
func (op *Operation) Counted() []Effect {
	open := func(e Effect) bool { return !e.Known || e.Unmeterable }
	if !slices.ContainsFunc(op.Effects, open) {
		return op.Effects
	}
	return slices.DeleteFunc(slices.Clone(op.Effects), open)
}

// Counts returns the buckets in whose `calls` caps the operation counts as one call: those of its effects,
// or its own resource where it has none. Reads count nowhere.
func (op *Operation) Counts() []Resource {
	if op.Access != Write {
		return nil
	}
	if len(op.Effects) == 0 {
		return []Resource{op.Resource}
	}
	out := make([]Resource, 0, 2)
	for _, e := range op.Effects {
		if !slices.Contains(out, e.Bucket) {
			out = append(out, e.Bucket)
		}
	}
	return out
}

// countsIn is slices.Contains(op.Counts(), bucket) without the slice, with the wildcard.
func (op *Operation) countsIn(bucket Resource) bool {
	switch {
	case op.Access != Write:
		return false
	case bucket == AllResources:
		return true
	case len(op.Effects) == 0:
		return bucket == op.Resource
	default:
		return bucketSeen(op.Effects, bucket)
	}
}

// CapsFor returns the caps that the operation counts against, in the policy's order: `usd` caps on the
// buckets of its effects, `calls` caps where it counts as a call. Nil for none.
func (p *Policy) CapsFor(op *Operation) []Cap {
	var out []Cap
	for _, c := range p.Caps {
		switch c.Unit {
		case UnitCalls:
			if !op.countsIn(c.Resource) {
				continue
			}
		default:
			if len(op.Effects) == 0 || (c.Resource != AllResources && !bucketSeen(op.Effects, c.Resource)) {
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// hasUSDCap reports whether any cap in dollars, per call included, applies to the bucket.
func (p *Policy) hasUSDCap(bucket Resource) bool {
	for _, c := range p.Caps {
		if c.Unit == UnitUSD && (c.Resource == bucket || c.Resource == AllResources) {
			return true
		}
	}
	return false
}

// amountFailures refuses what cannot be counted. These failures are not soft: shadow mode takes holds, and
// there would be nothing to take.
func amountFailures(f []Failure, p *Policy, op *Operation) []Failure {
	for i := range op.Effects {
		e := &op.Effects[i]
		switch {
		case e.Unmeterable || (op.Resolved && !e.Known):
			if !p.Unmeters(op.Name) {
				f = append(f, unmeterable(op, e))
			}
		case e.Known && e.Amount.Minor < 0:
			f = append(f, Failure{
				Code: CodeUnmeterable, Rule: "amounts",
				Message: "This call has a negative amount, which cannot be counted. Write an amount of zero or more.",
			})
		case !p.hasUSDCap(e.Bucket):
			// Nothing in dollars to hold against, so no rate is needed.
		case e.NoRate != "":
			f = append(f, noRate(e, e.NoRate))
		case e.Known:
			f = conversionFailure(f, e)
		}
	}
	return f
}

func unmeterable(op *Operation, e *Effect) Failure {
	why := e.Why
	if why == "" {
		why = "What " + string(op.Name) + " would move on " + string(e.Bucket) + " cannot be told before it is sent."
	}
	return Failure{
		Code: CodeUnmeterable, Rule: "unmetered",
		Message: why + " An amount without a bound cannot be held against a cap; list " + string(op.Name) +
			" under `unmetered` in the policy to allow it uncounted.",
	}
}

func noRate(e *Effect, why string) Failure {
	if why == "" {
		why = "there is no rate for " + string(e.Amount.Currency)
	}
	return Failure{
		Code: CodeNoRate, Rule: "rates",
		Message: "The amount on " + string(e.Bucket) + " has no value in dollars, so it cannot be held against a cap: " +
			strings.TrimSuffix(why, ".") + ".",
	}
}

// conversionFailure converts again, from the quote: a forgotten quote or dollar value must not pass for
// zero dollars.
func conversionFailure(f []Failure, e *Effect) []Failure {
	_, err := e.dollars()
	switch {
	case err == nil:
		return f
	case errors.Is(err, money.ErrOverflow):
		return append(f, Failure{
			Code: CodeUnmeterable, Rule: "amounts",
			Message: "The amount on " + string(e.Bucket) + " is too large to count in dollars. Ask for less.",
		})
	default:
		return append(f, noRate(e, ""))
	}
}

// dollars is what the effect counts for at its quote.
func (e *Effect) dollars() (money.USD, error) {
	if e.Quote.Currency != e.Amount.Currency {
		return 0, money.ErrNoRate
	}
	return e.Quote.USD(e.Amount.Minor)
}

func capMissing(f []Failure, p *Policy, op *Operation) []Failure {
	if p.Uncapped {
		return f
	}
	for i, e := range op.Effects {
		// What has no bound no cap could hold: `unmetered` admits it, or amountFailures has refused it.
		covered := e.Unmeterable || slices.ContainsFunc(p.Caps, func(c Cap) bool { return c.Covers(e.Bucket) })
		if covered || bucketSeen(op.Effects[:i], e.Bucket) {
			continue
		}
		f = append(f, Failure{
			Code: CodeUncapped, Rule: "caps." + string(e.Bucket), Soft: true,
			Message: string(op.Name) + " moves money on " + string(e.Bucket) + ", and no cap in dollars bounds that. Add one " +
				"to the policy's `caps`, like {resource: " + string(e.Bucket) + ", per: day, usd: 100.00}, or set `uncapped: true`.",
		})
	}
	return f
}

// Ask is what a call surely takes of a cap, in its unit: Asked 0 stands for an amount that is not known yet, but more than
// nothing. Amount then has the figure that the call names, without a currency.
type Ask struct {
	Asked  int64
	Amount money.Amount
}

// Asks lists what the operation asks of a cap over time; a cap that cannot take one of them refuses it. Effects on an
// object that may have been counted before can add nothing, so they ask for nothing here: the ledger judges them.
func (op *Operation) Asks(c Cap) []Ask {
	switch {
	case c.Per == PerCall || op.Access != Write:
		return nil
	case c.Unit == UnitCalls:
		if op.countsIn(c.Resource) {
			return []Ask{{Asked: 1}}
		}
		return nil
	}
	var out []Ask
	for i := range op.Effects {
		e := &op.Effects[i]
		if c.Resource != AllResources && c.Resource != e.Bucket || e.Unmeterable || e.Object != "" && e.Mode != Gross {
			continue
		}
		one := Ask{Amount: money.Amount{Minor: e.Named}}
		if e.Known {
			if e.USD == 0 {
				continue // it takes nothing
			}
			one = Ask{Asked: int64(e.USD), Amount: e.Amount}
		}
		out = append(out, one)
	}
	return out
}

// PerCallFailures returns a failure for every cap per call that the operation passes, nil for none. An
// amount that is not known yet counts nothing, so a failure is certain also before resolution.
func PerCallFailures(p *Policy, op *Operation) []CapFailure {
	var out []CapFailure
	for _, c := range p.Caps {
		if c.Per != PerCall {
			continue
		}
		asked := int64(0)
		failure := CapFailure{Cap: c}
		switch c.Unit {
		case UnitCalls:
			if op.countsIn(c.Resource) {
				asked = 1
			}
		case UnitUSD:
			var sum money.USD
			sum, failure.AskedInCurrency = op.askedOf(c.Resource)
			asked = int64(sum)
		}
		if limit := max(c.Limit, 0); asked > limit {
			failure.Asked, failure.Left, failure.WouldAdmitAtMost = asked, limit, limit
			out = append(out, failure)
		}
	}
	return out
}

// askedOf sums the known effects on a bucket in dollars. The sum stops at the largest amount. The amount in
// currency is set if the effects have one currency and it can be written. What does not convert counts nothing here:
// amountFailures has denied it.
func (op *Operation) askedOf(bucket Resource) (money.USD, money.Amount) {
	var sum money.USD
	var inCurrency money.Amount
	oneFigure := true
	for i := range op.Effects {
		e := &op.Effects[i]
		if !e.Known || e.Unmeterable || (bucket != AllResources && bucket != e.Bucket) {
			continue
		}
		usd, err := e.dollars()
		if err != nil {
			continue
		}
		var ok bool
		if sum, ok = sum.Add(usd); !ok {
			return math.MaxInt64, money.Amount{}
		}
		if (inCurrency.Currency != "" && inCurrency.Currency != e.Amount.Currency) || e.Amount.Minor > math.MaxInt64-inCurrency.Minor {
			oneFigure = false
		}
		inCurrency = money.Amount{Minor: inCurrency.Minor + e.Amount.Minor, Currency: e.Amount.Currency}
	}
	if !oneFigure {
		return sum, money.Amount{}
	}
	return sum, inCurrency
}

func perCallFailures(f []Failure, p *Policy, op *Operation) []Failure {
	full := PerCallFailures(p, op)
	for i := range full {
		f = append(f, full[i].Failure())
	}
	return f
}
