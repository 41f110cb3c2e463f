package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Overview is what stands out among all keys.
type Overview struct {
	AsOf     time.Time `json:"as_of"`
	Keys     int       `json:"keys" doc:"that are live"`
	Stopped  int       `json:"stopped" doc:"of them"`
	ReadOnly int       `json:"read_only"`
	// Day sums up all caps in dollars per day of keys that are live.
	Day     SpendCap   `json:"day"`
	Minutes []Minute   `json:"minutes" doc:"calls of the last hour, oldest first"`
	Closest []KeyCap   `json:"closest" doc:"caps that are closest to their limits"`
	Oldest  *KeyView   `json:"oldest,omitempty" doc:"the live key that was made, or rotated, longest ago"`
	Rotated time.Time  `json:"rotated,omitzero" doc:"when that was"`
	Open    int        `json:"open" doc:"calls whose outcome is not known, as far as they were counted"`
	More    bool       `json:"open_more,omitempty" doc:"there are more of them than were counted"`
	OpenUSD string     `json:"open_usd" doc:"what they hold"`
	Since   *time.Time `json:"since,omitempty" doc:"of open calls: when the oldest left"`
}

// KeyCap is a cap with its key.
type KeyCap struct {
	Key  string   `json:"key"`
	Name string   `json:"name"`
	Cap  SpendCap `json:"cap"`
}

// closestCaps is how many caps an Overview names.
const closestCaps = 6

// KeyStanding is a key with its cap that is closest to its limit.
type KeyStanding struct {
	KeyView
	Writes bool `json:"writes" doc:"its policy opens anything to writing"`
	Shadow bool `json:"shadow"`
	// Closest is absent where the key has no cap.
	Closest *SpendCap `json:"closest,omitempty"`
	Caps    int       `json:"caps"`
	// Permille is how much of that cap is used, in thousandths; -1 without a cap.
	Permille int       `json:"permille"`
	LastCall time.Time `json:"last_call,omitzero"`
	Hour     int64     `json:"calls_last_hour"`
}

// StandingFilter selects and orders keys for a list that people read.
type StandingFilter struct {
	Search string // a part of the name, whatever its case, or an id
	Brake  string // normal, read-only, stopped; empty: all
	Mode   string // test, live; empty: all
	Sort   string // closest (the default), called, name, created, expires
	KeyFilter
}

// Overview says what stands out.
func (s *Service) Overview(ctx context.Context) (Overview, error) {
	s.figures.mu.Lock()
	defer s.figures.mu.Unlock()
	if err := s.figures.follow(ctx, s); err != nil {
		return Overview{}, understood("sum up", err)
	}
	now := s.Store.Now()
	out := Overview{AsOf: now.UTC(), Closest: []KeyCap{}, Minutes: s.figures.lastHour(now)}
	var ranked []ranking
	var limit, held, settled money.USD
	for _, k := range s.Ring.Keys() {
		if !k.Live(now) {
			continue
		}
		out.Keys++
		switch s.Ring.EffectiveBrake(k.ID) {
		case vault.Stopped:
			out.Stopped++
		case vault.ReadOnly:
			out.ReadOnly++
		}
		if made := k.Rotated(); out.Rotated.IsZero() || made.Before(out.Rotated) {
			view := s.keyView(k, now)
			out.Oldest, out.Rotated = &view, made.UTC()
		}
		for i, used := range s.figures.usedAt(k) {
			c := k.Policy.Caps[i]
			ranked = append(ranked, ranking{used, k, i})
			if c.Unit == policy.UnitUSD && c.Per == policy.PerDay {
				a := s.figures.accounts[s.figures.accountOf(k, c)]
				limit, held, settled = saturated(limit, c.Limit), saturated(held, a.Held), saturated(settled, a.Settled)
				if r := utc(s.figures.at.of(c.Per, k.Policy.Timezone).resets); out.Day.ResetsAt.IsZero() || r.Before(out.Day.ResetsAt) {
					out.Day.ResetsAt = r
				}
			}
		}
	}
	out.Day.Resource, out.Day.Per, out.Day.Unit = "*", policy.PerDay.String(), policy.UnitUSD.String()
	out.Day.Limit, out.Day.Held, out.Day.Settled = figure(policy.UnitUSD, int64(limit)), figure(policy.UnitUSD, int64(held)), figure(policy.UnitUSD, int64(settled))
	out.Day.Left = figure(policy.UnitUSD, ledger.Left(ledger.Account{Held: int64(held), Settled: int64(settled)}, int64(limit)))
	slices.SortFunc(ranked, closer)
	for _, r := range ranked[:min(closestCaps, len(ranked))] {
		out.Closest = append(out.Closest, KeyCap{string(r.key.ID), r.key.Name, s.figures.capAt(r.key, r.cap)})
	}
	return out, s.open(ctx, &out)
}

// ranking is a key with a cap and how much of it is used.
type ranking struct {
	used int // -1: it has no cap
	key  *vault.Key
	cap  int // its place in the policy
}

// closer orders by what is used, then by name, so that an order of equals stays.
func closer(a, b ranking) int {
	return cmp.Or(cmp.Compare(b.used, a.used), cmp.Compare(a.key.Name, b.key.Name))
}

// saturated adds; what does not fit is as much as fits.
func saturated(a money.USD, b int64) money.USD {
	if sum := int64(a) + b; sum >= int64(a) {
		return money.USD(sum)
	}
	return money.USD(int64(^uint64(0) >> 1))
}

// openCounted is how many open calls are counted: it is done every two seconds.
const openCounted = 1000

// open sums up what is open.
func (s *Service) open(ctx context.Context, out *Overview) error {
	var calls []*ledger.Reservation
	err := s.Store.View(ctx, func(tx store.Tx) (err error) {
		calls, err = tx.Unresolved(0, openCounted+1)
		return err
	})
	if err != nil {
		return understood("read what is open", err)
	}
	if out.More = len(calls) > openCounted; out.More {
		calls = calls[:openCounted]
	}
	out.Open = len(calls)
	var sum money.USD
	for _, r := range calls {
		for i, e := range r.Effects {
			if usd, err := e.Quote.USD(r.Counted[i]); err == nil {
				sum = saturated(sum, int64(usd))
			}
		}
	}
	if len(calls) > 0 {
		since := calls[0].Sends().UTC()
		out.Since = &since
	}
	out.OpenUSD = sum.String()
	return nil
}

// lastHour is each of the last minutes, also those without a call.
func (f *figures) lastHour(now time.Time) []Minute {
	out := make([]Minute, trafficMinutes)
	first := now.Unix()/60 - trafficMinutes + 1
	for i := range out {
		minute := first + int64(i)
		out[i] = Minute{time.Unix(minute*60, 0).UTC(), f.allowed.at(minute), f.refused.at(minute)}
	}
	return out
}

// Standings lists keys with how close they are to their caps.
func (s *Service) Standings(ctx context.Context, f StandingFilter) (List[KeyStanding], error) {
	out := List[KeyStanding]{Items: []KeyStanding{}}
	after, limit := f.After, f.Limit
	f.After, f.Limit = "", int(^uint(0)>>1)
	keys, err := s.filtered(f.KeyFilter)
	if err != nil {
		return out, err
	}
	s.figures.mu.Lock()
	defer s.figures.mu.Unlock()
	if err := s.figures.follow(ctx, s); err != nil {
		return out, understood("list the keys", err)
	}
	now := s.Store.Now()
	search := strings.ToLower(f.Search)
	var rows []ranking
	for _, k := range keys {
		if search != "" && !strings.Contains(strings.ToLower(k.Name), search) && string(k.ID) != f.Search ||
			f.Mode != "" && k.Mode.String() != f.Mode || f.Brake != "" && s.Ring.EffectiveBrake(k.ID).String() != f.Brake {
			continue
		}
		r := ranking{used: -1, key: k}
		if used := s.figures.usedAt(k); len(used) > 0 {
			r.cap = closest(used)
			r.used = used[r.cap]
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, s.figures.orderOf(f.Sort))
	if after != "" {
		i := slices.IndexFunc(rows, func(r ranking) bool { return string(r.key.ID) == after })
		if i < 0 {
			return out, wrong("query.after", "the page %q is gone; start again from the first", after)
		}
		rows = rows[i+1:]
	}
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	if len(rows) > limit {
		rows = rows[:limit]
		out.Next = string(rows[limit-1].key.ID)
	}
	for _, r := range rows {
		last, err := s.figures.lastCall(ctx, s, r.key)
		if err != nil {
			return out, understood("list the keys", err)
		}
		var closest *SpendCap
		if r.used >= 0 {
			c := s.figures.capAt(r.key, r.cap)
			closest = &c
		}
		out.Items = append(out.Items, KeyStanding{
			KeyView: s.keyView(r.key, now), Writes: writes(r.key.Policy), Shadow: r.key.Policy.Enforcement == policy.Shadow, Closest: closest,
			Caps: len(r.key.Policy.Caps), Permille: r.used, LastCall: utc(last), Hour: s.figures.lately(r.key.ID).hour(now),
		})
	}
	return out, nil
}

// orderOf is how rows are ordered. By the last call, keys come last whose last call is not in memory.
func (f *figures) orderOf(sort string) func(a, b ranking) int {
	switch sort {
	case "called":
		return func(a, b ranking) int {
			return cmp.Or(f.lately(b.key.ID).last.Compare(f.lately(a.key.ID).last), cmp.Compare(a.key.Name, b.key.Name))
		}
	case "expires":
		return func(a, b ranking) int {
			switch never := a.key.Expires.IsZero(); {
			case never == b.key.Expires.IsZero():
			case never:
				return 1
			default:
				return -1
			}
			return cmp.Or(a.key.Expires.Compare(b.key.Expires), cmp.Compare(a.key.Name, b.key.Name))
		}
	case "name":
		return func(a, b ranking) int { return cmp.Compare(a.key.Name, b.key.Name) }
	case "created":
		return func(a, b ranking) int {
			return cmp.Or(b.key.Created.Compare(a.key.Created), cmp.Compare(a.key.Name, b.key.Name))
		}
	default:
		return closer
	}
}

// writes reports whether a policy opens anything to writing.
func writes(p *policy.Policy) bool {
	for _, access := range p.Scopes {
		if access == policy.Write {
			return true
		}
	}
	return false
}
