package ledger

import (
	"math"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// need is what one account would have to take for a request.
type need struct {
	cap    policy.Cap
	key    AccountKey
	amount int64
	effect int // of the first effect that needs it; holds are kept per effect
}

// Reserve sets aside everything that the request asks for, or nothing. When a cap is full it returns the
// failures of every full cap and changes nothing; under Soft the holds are made all the same and marked,
// and the failures say what enforcement would have done.
//
// now is the store's clock; it fixes the windows. An error means that rows could not be read.
func (b *Book) Reserve(now time.Time, req *Request) (*Reservation, []policy.CapFailure, error) {
	asked := make([]int64, len(req.Effects))
	claims := make([]*Object, len(req.Effects))
	for i := range req.Effects {
		n, object, err := b.ask(req, i)
		if err != nil {
			return nil, nil, err
		}
		asked[i], claims[i] = n, object
	}
	needs := b.needs(now, req, asked)
	full, err := b.full(now, req, needs)
	if err != nil {
		return nil, nil, err
	}
	if len(full) > 0 && !req.Soft {
		return nil, full, nil
	}
	r := &Reservation{
		ID: b.next, Key: req.Key, Upstream: req.Upstream, Operation: req.Operation, Customers: req.Customers,
		Effects: req.Effects, Counted: asked, Marked: req.Soft, At: now, FirstSent: now, AuditSeq: req.AuditSeq,
		IdemKey: req.IdemKey, IdemAccount: req.IdemAccount, Fingerprint: req.Fingerprint, Sent: req.Sent,
	}
	b.next++
	for _, n := range needs {
		account, err := b.account(n.key)
		if err != nil {
			return nil, nil, err
		}
		account.Held += n.amount
		check(account.Held >= 0, "account %v: held overflows", n.key)
		if !req.Soft {
			check(account.Held+account.Settled <= n.cap.Limit, "account %v over its limit %d after a hold", n.key, n.cap.Limit)
		}
		b.touchAccount(n.key)
		r.Holds = append(r.Holds, Hold{Account: n.key, Effect: n.effect, Amount: n.amount})
	}
	for i, object := range claims {
		if object == nil {
			continue
		}
		e := &req.Effects[i]
		object.Claims = append(object.Claims, Claim{
			Reservation: r.ID, Effect: i, Mode: e.Mode, Minor: e.Amount.Minor, Ceiling: e.Ceiling,
		})
		b.touchObject(r.objectKey(i))
	}
	b.created = append(b.created, r)
	b.reservations[r.ID] = r
	return r, full, nil
}

// ask is what effect i adds, in minor units: the whole amount, or on an object that the principal was
// counted for already only what is not counted yet.
func (b *Book) ask(req *Request, i int) (int64, *Object, error) {
	e := &req.Effects[i]
	check(e.Known && e.Amount.Minor >= 0, "reserve %s: effect %d has no known amount", req.Operation, i)
	if e.Object == "" || e.Mode == policy.Gross {
		return e.Amount.Minor, nil, nil
	}
	object, err := b.object(ObjectKey{Key: req.Key, Bucket: e.Bucket, Object: e.Object, Currency: e.Amount.Currency})
	if err != nil {
		return 0, nil, err
	}
	before := object.counted()
	after := Claim{Mode: e.Mode, Minor: e.Amount.Minor, Ceiling: e.Ceiling}.applied(before)
	return after - before, object, nil
}

// needs lists what every account that applies would have to take, one entry per account and effect.
func (b *Book) needs(now time.Time, req *Request, asked []int64) []need {
	var out []need
	for _, c := range req.Caps {
		if c.Per == policy.PerCall {
			continue // judged by policy: it needs no account
		}
		key := AccountKey{Key: req.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: Label(c.Per, now, req.Zone)}
		switch c.Unit {
		case policy.UnitCalls:
			for _, bucket := range req.Counts {
				if c.Resource == bucket || c.Resource == policy.AllResources {
					out = append(out, need{cap: c, key: key, amount: 1, effect: noEffect})
					break // a call is one call, however many buckets it touches
				}
			}
		case policy.UnitUSD:
			for i := range req.Effects {
				e := &req.Effects[i]
				if c.Resource != e.Bucket && c.Resource != policy.AllResources {
					continue
				}
				out = append(out, need{cap: c, key: key, amount: int64(convert(e.Quote, asked[i])), effect: i})
			}
		}
	}
	return out
}

// noEffect marks a hold on calls.
const noEffect = -1

// full returns a failure for every account that cannot take what the request needs of it.
func (b *Book) full(now time.Time, req *Request, needs []need) ([]policy.CapFailure, error) {
	var out []policy.CapFailure
	for i, n := range needs {
		total, first := n.amount, true
		for j, other := range needs { // several effects may fall on one account
			if j == i || other.key != n.key {
				continue
			}
			first = first && j > i
			if total += other.amount; total < 0 {
				total = math.MaxInt64
			}
		}
		if !first {
			continue
		}
		account, err := b.account(n.key)
		if err != nil {
			return nil, err
		}
		left := Left(*account, n.cap.Limit)
		if total <= left {
			continue
		}
		failure := policy.CapFailure{
			Cap: n.cap, Held: account.Held, Settled: account.Settled, Asked: total, Left: left, WouldAdmitAtMost: left,
		}
		if at := ResetsAt(n.cap.Per, now, req.Zone); !at.IsZero() {
			failure.ResetsAtUnix = at.Unix()
		}
		if n.effect >= 0 {
			failure.AskedInCurrency = req.Effects[n.effect].Amount
		}
		out = append(out, failure)
	}
	return out, nil
}

// Left is what an account can still take under a limit: never negative, also when a cap was lowered
// below what was already used.
func Left(a Account, limit int64) int64 {
	used := a.Held + a.Settled
	if used < 0 || used >= limit { // used < 0: the sum overflowed
		return 0
	}
	return limit - used
}
