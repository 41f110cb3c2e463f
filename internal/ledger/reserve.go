package ledger

import (
	"math"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// need is what one account would have to take for a request.
type need struct {
	cap    policy.Cap
	key    AccountKey
	resets time.Time
	amount int64
	effect int // of the first effect that needs it; holds are kept per effect
}

// Reserve sets aside everything that the request asks for, or nothing. When a cap is full it returns the
// failures of every full cap and changes nothing; under Soft the holds are made all the same and marked,
// and the failures say what enforcement would have done. Only what no account could write down (64 bits
// overflow) is refused under Soft too: the reservation is then nil.
//
// now is the store's clock; it fixes the windows. An error means that rows could not be read; nothing was
// changed.
func (b *Book) Reserve(now time.Time, req *Request) (*Reservation, []policy.CapFailure, error) {
	r, full, err := b.reserve(now, req)
	b.keep()
	return r, full, err
}

// Happened writes down what a vendor moved without a hold: the request ran although it must not have. It is settled at
// once, in the windows of now, whatever the caps say: books that hide it would be wrong. Everything that it adds is
// reported. fate is Settled. On an error nothing was changed.
func (b *Book) Happened(now time.Time, req *Request, fate Fate) (*Reservation, []Over, error) {
	check(fate.State == Settled, "%s happened and is %s", req.Operation, fate.State)
	nothing := *req // nothing was held, so all that moved is over
	nothing.Soft, nothing.IdemKey = true, ""
	nothing.Effects = slices.Clone(req.Effects)
	for i := range nothing.Effects {
		nothing.Effects[i].Amount.Minor = 0
	}
	r, _, err := b.reserve(now, &nothing)
	if err != nil {
		return nil, nil, err
	}
	check(r != nil, "%s asks for nothing and does not fit", req.Operation)
	r.Marked = false
	overs, err := b.resolve(now, r, &fate)
	if err != nil {
		b.rollBack()
		b.created = b.created[:len(b.created)-1]
		delete(b.reservations, r.ID)
		b.next--
		return nil, nil, err
	}
	b.keep()
	return r, overs, nil
}

// reserve is Reserve within an operation that is not ended yet. On an error nothing was changed.
func (b *Book) reserve(now time.Time, req *Request) (*Reservation, []policy.CapFailure, error) {
	asked := make([]int64, len(req.Effects))
	var claims []Claim
	fits := true
	for i := range req.Effects {
		n, ok, err := b.ask(req, i, claims)
		if err != nil {
			return nil, nil, err
		}
		asked[i], fits = n, fits && ok
		if e := &req.Effects[i]; e.Known && e.Object != "" {
			claims = append(claims, claimOf(b.next, i, e))
		}
	}
	needs := b.needs(now, req, asked)
	full, ok, err := b.full(req, needs)
	if err != nil {
		return nil, nil, err
	}
	if !ok || !fits || (len(full) > 0 && !req.Soft) {
		return nil, full, nil
	}
	r := &Reservation{
		ID: b.next, Key: req.Key, Upstream: req.Upstream, Operation: req.Operation, Customers: req.Customers,
		Effects: req.Effects, Counted: asked, Marked: req.Soft, At: now, FirstSent: now, AuditSeq: req.AuditSeq,
		IdemKey: req.IdemKey, IdemAccount: req.IdemAccount, Fingerprint: req.Fingerprint, Sent: req.Sent,
		Holds: make([]Hold, 0, len(needs)),
	}
	b.next++
	b.hold(req, r, needs)
	for _, c := range claims {
		key := r.objectKey(c.Effect)
		object := b.objects[key] // ask has read it
		b.touchObject(key, object)
		object.Claims = object.withClaim(c)
	}
	b.created = append(b.created, r)
	b.reservations[r.ID] = r
	return r, full, nil
}

// hold makes the holds. The accounts are those that full has read, so nothing can fail any more.
func (b *Book) hold(req *Request, r *Reservation, needs []need) {
	for i := range needs {
		n := &needs[i]
		account := b.accounts[n.key]
		if n.amount > 0 {
			b.touchAccount(n.key, account)
			account.Held += n.amount
			used := account.Held + account.Settled
			// A call that adds nothing passes a cap that was lowered below its use.
			check(used >= 0 && (req.Soft || used <= n.cap.Limit), "account %v over its limit %d after a hold", n.key, n.cap.Limit)
		}
		r.Holds = append(r.Holds, Hold{Account: n.key, Effect: n.effect, Amount: n.amount, Limit: n.cap.Limit, ResetsAt: n.resets})
	}
}

// ask is what effect i adds, in minor units: the whole amount, or on an object only what the principal is
// not counted for yet. earlier are the claims of this request's other effects.
func (b *Book) ask(req *Request, i int, earlier []Claim) (int64, bool, error) {
	e := &req.Effects[i]
	check(e.Known || e.Unmeterable, "reserve %s: effect %d has no known amount", req.Operation, i)
	if !e.Known {
		return 0, true, nil
	}
	check(e.Amount.Minor >= 0, "reserve %s: effect %d is negative", req.Operation, i)
	if e.Object == "" {
		return e.Amount.Minor, true, nil
	}
	object, err := b.object(objectKeyOf(req.Key, e))
	if err != nil {
		return 0, false, err
	}
	if len(earlier) > 0 {
		with := Object{Settled: object.Settled, Claims: object.Claims}
		for _, c := range earlier {
			if objectKeyOf(req.Key, &req.Effects[c.Effect]) == objectKeyOf(req.Key, e) {
				with.Claims = with.withClaim(c)
			}
		}
		object = &with
	}
	if !object.fits(e.Amount.Minor) {
		return e.Amount.Minor, false, nil
	}
	return object.countedWith(claimOf(b.next, i, e)) - object.counted(), true, nil
}

// needs lists what every account that applies would have to take, one entry per account and effect.
func (b *Book) needs(now time.Time, req *Request, asked []int64) []need {
	out := make([]need, 0, len(req.Caps)*max(1, len(req.Effects)))
	for _, c := range req.Caps {
		if c.Per == policy.PerCall {
			continue // judged by policy: it needs no account
		}
		window := b.Window(c.Per, now, req.Zone)
		one := need{
			cap: c, resets: window.ResetsAt,
			key: AccountKey{Key: req.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: window.Label},
		}
		switch c.Unit {
		case policy.UnitCalls:
			for _, bucket := range req.Counts {
				if c.Resource == bucket || c.Resource == policy.AllResources {
					one.amount, one.effect = 1, noEffect
					out = append(out, one)
					break // a call is one call, however many buckets it touches
				}
			}
		case policy.UnitUSD:
			for i := range req.Effects {
				e := &req.Effects[i]
				if !e.Known || (c.Resource != e.Bucket && c.Resource != policy.AllResources) {
					continue
				}
				usd, err := e.Quote.USD(asked[i])
				if asked[i] == 0 {
					usd, err = 0, nil
				}
				if err != nil { // policy denies what has no rate or is too large: this is the second lock
					usd = boundless
				}
				one.amount, one.effect = int64(usd), i
				out = append(out, one)
			}
		default:
			check(false, "cap on %s per %s counts in no unit", c.Resource, c.Per)
		}
	}
	return out
}

// boundless stands for an amount that has no value in dollars that 64 bits can hold. No account takes it.
const boundless = math.MaxInt64

// noEffect marks a hold on calls. Stores keep the number.
const noEffect = -1

// full returns a failure for every account that cannot take what the request needs of it, and whether the
// accounts could write it down at all.
func (b *Book) full(req *Request, needs []need) ([]policy.CapFailure, bool, error) {
	var out []policy.CapFailure
	fits := true
	for i := range needs {
		n := &needs[i]
		total, first := sumFor(needs, i)
		if !first {
			continue
		}
		account, err := b.account(n.key)
		if err != nil {
			return nil, false, err
		}
		fits = fits && total < boundless && total <= Left(*account, math.MaxInt64)
		left := Left(*account, n.cap.Limit)
		if total <= left && total < boundless {
			continue
		}
		failure := policy.CapFailure{
			Cap: n.cap, Held: account.Held, Settled: account.Settled, Asked: total, Left: left, WouldAdmitAtMost: left,
		}
		if !n.resets.IsZero() {
			failure.ResetsAtUnix = n.resets.Unix()
		}
		if n.effect >= 0 {
			failure.AskedInCurrency = req.Effects[n.effect].Amount
		}
		out = append(out, failure)
	}
	return out, fits, nil
}

// sumFor adds up what all needs want of the account of needs[i], boundless if that overflows; first is false if
// an earlier need has the same account.
func sumFor(needs []need, i int) (total int64, first bool) {
	for j := range needs { // several effects may fall on one account
		if j != i && needs[j].key != needs[i].key {
			continue
		}
		if j < i {
			return 0, false
		}
		if total += needs[j].amount; total < 0 {
			return boundless, true
		}
	}
	return total, true
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
