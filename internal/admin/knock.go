package admin

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of signing in. What is guessed has 160 random bits, so that no rate would make guessing worth while; they keep a
// loop from filling the log, and an operator's mistakes from being one.
const (
	// fromOne is how many wrong attempts one address has, and how long it waits for another.
	fromOne      = 10
	fromOneEvery = 20 * time.Second
	// fromAll is how many all addresses have together in a burst, and how long they wait for another. When they are used up,
	// an address that was never wrong still gets in: nobody can lock everybody out.
	fromAll      = 200
	fromAllEvery = time.Second / 2
	// maxAddresses bounds what is remembered; of more, those that are closest to being forgiven are forgotten.
	maxAddresses = 4096
)

// attempts counts wrong attempts to sign in. The zero value is ready; safe for concurrent use. Time is the caller's.
type attempts struct {
	mu   sync.Mutex
	all  *rate.Limiter
	from map[netip.Prefix]*rate.Limiter
}

// neighbours are counted together: who has one IPv6 address has 2^64 of them. What is no address is one neighbour.
func neighbours(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // bits suit the address
	return p
}

// allow reports whether an attempt from an address is looked at.
func (a *attempts) allow(address string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	one, known := a.from[neighbours(address)]
	if !known {
		return true
	}
	return one.TokensAt(now) >= 1 && (a.all.TokensAt(now) >= 1 || one.TokensAt(now) >= fromOne)
}

// wrong counts an attempt that was.
func (a *attempts) wrong(address string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all, a.from = rate.NewLimiter(rate.Every(fromAllEvery), fromAll), map[netip.Prefix]*rate.Limiter{}
	}
	a.all.AllowN(now, 1)
	key := neighbours(address)
	one, known := a.from[key]
	if !known {
		if len(a.from) >= maxAddresses {
			a.forget(now)
		}
		one = rate.NewLimiter(rate.Every(fromOneEvery), fromOne)
		a.from[key] = one
	}
	one.AllowN(now, 1)
}

// forget makes room: everybody who is forgiven goes, or else whoever is closest to it.
func (a *attempts) forget(now time.Time) {
	var closest netip.Prefix
	best := -1.0
	for key, one := range a.from {
		left := one.TokensAt(now)
		if left >= fromOne {
			delete(a.from, key)
			continue
		}
		if left > best {
			closest, best = key, left
		}
	}
	if len(a.from) >= maxAddresses {
		delete(a.from, closest)
	}
}

// knock lets somebody try to sign in.
func (s *Service) knock(v Visitor, try func() (Entry, error)) (Entry, error) {
	now := s.Store.Now()
	if !s.attempts.allow(v.From, now) {
		return Entry{}, refuse(TooMany, "too many wrong attempts from %s; wait a minute and try again. The command line with a token works meanwhile", v.From)
	}
	entry, err := try()
	var refused *Refusal
	if errors.As(err, &refused) && refused.Kind == Stranger {
		s.attempts.wrong(v.From, now)
		s.Log.Warn("somebody could not sign in", "from", v.From, "why", refused.Message)
	}
	return entry, err
}
