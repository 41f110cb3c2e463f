package observe

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	// shownCaps is how many caps have series of their own, and shownFrom the share from which on a cap may be among them.
	shownCaps = 20
	shownFrom = 0.5
	// perScrape is how many keys are looked at at one scrape beside those that had calls: each costs a read of a row or
	// two. Ten thousand keys are through in twenty scrapes.
	perScrape = 500
	// maxTouched bounds the keys with calls that are looked at; the others' turn comes with everybody's.
	maxTouched = 1000
)

// headroom finds the tightest caps without looking at all of them each time: it looks at the keys that had calls since the
// last scrape, at those that were shown then, and at some of the others in turn. So a cap that calls fill shows at the next
// scrape, and one that was full before a restart, or that reconciliation changes, within a round.
type headroom struct {
	mu      sync.Mutex
	touched map[policy.KeyID]struct{}

	looking sync.Mutex // one scrape at a time
	round   []policy.KeyID
	shown   []reading
}

// reading is how one cap stands.
type reading struct {
	id    policy.KeyID
	key   string // its name
	state store.CapState
	used  float64
}

// touch notes that a key had a call that counts against a cap.
func (h *headroom) touch(id policy.KeyID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.touched == nil {
		h.touched = make(map[policy.KeyID]struct{})
	}
	if len(h.touched) < maxTouched {
		h.touched[id] = struct{}{}
	}
}

// tightest returns the caps with the least room, the tightest first. What the store does not tell in time is left out.
func (h *headroom) tightest(ctx context.Context, from *Sources) []reading {
	h.looking.Lock()
	defer h.looking.Unlock()
	var found []reading
	for id := range h.candidates(from.Ring) {
		if k, ok := from.Ring.Key(id); ok && k.Live(from.Store.Now()) && !k.Probe {
			found = append(found, readCaps(ctx, from.Store, k)...)
		}
	}
	slices.SortFunc(found, func(a, b reading) int {
		return cmp.Or(cmp.Compare(b.used, a.used), cmp.Compare(a.key, b.key), cmp.Compare(a.state.Cap.Resource, b.state.Cap.Resource),
			cmp.Compare(a.state.Cap.Per, b.state.Cap.Per), cmp.Compare(a.state.Cap.Unit, b.state.Cap.Unit))
	})
	h.shown = found[:min(len(found), shownCaps)]
	return h.shown
}

// candidates are the keys to look at now.
func (h *headroom) candidates(ring *vault.Ring) map[policy.KeyID]struct{} {
	h.mu.Lock()
	out := h.touched
	h.touched = nil
	h.mu.Unlock()
	if out == nil {
		out = make(map[policy.KeyID]struct{})
	}
	for _, r := range h.shown {
		out[r.id] = struct{}{}
	}
	if len(h.round) == 0 {
		ring.Each(func(k *vault.Key) bool {
			if k.Revoked.IsZero() {
				h.round = append(h.round, k.ID)
			}
			return true
		})
	}
	n := min(perScrape, len(h.round))
	for _, id := range h.round[:n] {
		out[id] = struct{}{}
	}
	h.round = h.round[n:]
	return out
}

// readCaps reads the caps of a key that are used so far that they may be shown.
func readCaps(ctx context.Context, db store.DB, k *vault.Key) []reading {
	now, p := db.Now(), k.Policy
	var caps []policy.Cap
	var accounts []ledger.AccountKey
	for _, c := range p.Caps {
		if c.Per == policy.PerCall {
			continue
		}
		caps = append(caps, c)
		accounts = append(accounts, ledger.AccountKey{
			Key: k.ID, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, now, p.Timezone),
		})
	}
	if len(caps) == 0 {
		return nil
	}
	states, err := db.Peek(ctx, accounts)
	if err != nil {
		return nil
	}
	var out []reading
	for i, c := range caps {
		s := store.StateOf(c, accounts[i], states[i], now, p.Timezone)
		used := 1.0 // a cap of nothing is full
		if c.Limit > 0 {
			used = float64(s.Held+s.Settled) / float64(c.Limit)
		}
		if used >= shownFrom {
			out = append(out, reading{k.ID, k.Name, s, used})
		}
	}
	return out
}
