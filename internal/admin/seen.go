package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// burstMinutes is how far back refusals of a key, and an upstream's failures, are counted together for an alert.
const burstMinutes = 5

// Seen is what there is to be alerted of, with caps of which at least so many per cent are used, and what ends or is due before
// so long. What the store cannot tell is
// trouble, not an error: what is known in memory must be told then most of all.
func (s *Service) Seen(ctx context.Context, leastPerCent int, ahead time.Duration) (alert.Seen, error) {
	now := s.Store.Now()
	out := alert.Seen{Now: now}
	status, err := s.Status(ctx)
	for _, b := range status.Brakes {
		at, _ := time.Parse(time.RFC3339Nano, b.At) // the zero time where there is none
		out.Brakes = append(out.Brakes, alert.BrakeOn{Scope: b.Scope, ID: b.ID, Name: b.Name, Mode: b.Mode, By: b.Actor, Reason: b.Reason, At: at})
	}
	if err != nil {
		return out, err
	}
	out.Trouble = status.Trouble
	if err := s.traffic(ctx, &out, leastPerCent, ahead); err != nil {
		return out, fmt.Errorf("look for what is wrong: %w", err)
	}
	var sum Overview
	if err := s.open(ctx, &sum); err != nil {
		return out, err
	}
	if sum.Since != nil {
		out.Open = alert.OpenCalls{Count: sum.Open, More: sum.More, Oldest: *sum.Since, USD: sum.OpenUSD}
	}
	return out, nil
}

// due is what dates found.
type due struct {
	of    uint64 // the ring's generation
	at    time.Time
	dates []alert.Date
}

// dates are when keys end and what is due for rotation, as far as that is not later than so long from now.
func (s *Service) dates(now time.Time, ahead time.Duration) (out []alert.Date) {
	until := now.Add(ahead)
	s.Ring.Each(func(k *vault.Key) bool {
		if !k.Live(now) || k.Probe {
			return true
		}
		if !k.Expires.IsZero() && !k.Expires.After(until) {
			out = append(out, alert.Date{Kind: alert.Expiry, What: "vault key", Key: string(k.ID), Name: k.Name, At: k.Expires})
		}
		if by := k.RotateBy(); !by.IsZero() && !by.After(until) {
			out = append(out, alert.Date{Kind: alert.Rotation, What: "vault key", Key: string(k.ID), Name: k.Name, At: by})
		}
		return true
	})
	slices.SortFunc(out, func(a, b alert.Date) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind))
	})
	for _, u := range s.Ring.Upstreams() {
		if by := u.RotateBy(); !by.IsZero() {
			out = append(out, alert.Date{Kind: alert.Rotation, What: "secret of the upstream", Name: u.Name, At: by})
		}
	}
	return out
}

// traffic is what the record tells: caps, refusals, repeated writes, failures, and whether it is whole.
func (s *Service) traffic(ctx context.Context, out *alert.Seen, leastPerCent int, ahead time.Duration) error {
	f := &s.figures
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.follow(ctx, s); err != nil {
		return err
	}
	out.Damage, out.Verified = f.damage, f.verified
	if generation := s.Ring.Generation(); f.due.of != generation || out.Now.Sub(f.due.at) >= time.Minute || out.Now.Before(f.due.at) {
		f.due = due{of: generation, at: out.Now, dates: s.dates(out.Now, ahead)}
	}
	out.Due = f.due.dates
	for _, k := range f.active(s) {
		if !k.Live(out.Now) {
			continue
		}
		for i, used := range f.usedAt(k) {
			if used < leastPerCent*10 || k.Policy.Caps[i].Limit == 0 { // a cap of nothing is a refusal that was meant
				continue
			}
			c := f.capAt(k, i)
			money := ""
			if k.Policy.Caps[i].Unit == policy.UnitUSD {
				money = "$"
			}
			out.Caps = append(out.Caps, alert.Cap{
				Key: string(k.ID), Name: k.Name, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Permille: used,
				Limit: money + c.Limit.String(), Left: money + c.Left.String(), Resets: c.ResetsAt,
			})
		}
		if a := f.activity[k.ID]; a != nil {
			s.acts(out, k, a)
		}
	}
	for id, t := range f.vendors {
		if u, ok := s.Ring.Upstream(id); ok {
			out.Upstreams = append(out.Upstreams, alert.Traffic{
				Name: u.Name, Calls: t.calls.last(out.Now, burstMinutes), Failed: t.failed.last(out.Now, burstMinutes), Within: burstMinutes * time.Minute,
			})
		}
	}
	return nil
}

// acts is what a key did lately that may be too much.
func (s *Service) acts(out *alert.Seen, k *vault.Key, a *activity) {
	if n := a.denied.last(out.Now, burstMinutes); n > 0 {
		out.Denials = append(out.Denials, alert.DenialBurst{Key: string(k.ID), Name: k.Name, Count: n, Within: burstMinutes * time.Minute})
	}
	a.repeats.within(out.Now.Add(-repeatWithin), func(operation, subject string, n int) {
		if n > 1 {
			out.Loops = append(out.Loops, alert.Repeat{Key: string(k.ID), Name: k.Name, Operation: operation, Subject: subject, Count: n, Within: repeatWithin})
		}
	})
}
