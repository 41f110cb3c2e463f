package vault

import (
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestEachBrakeIsIndependent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		k, _ := r.add(t, "k", nil)
		scopes := []Scope{All, {Upstream: r.up}, {Key: k.ID}}
		model := []Brake{Normal, Normal, Normal}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "scope")
			b := rapid.SampledFrom([]Brake{Stopped, ReadOnly, Normal}).Draw(rt, "brake")
			before, err := r.SetBrake(scopes[i], b)
			if err != nil || before != model[i] {
				rt.Fatalf("set %v: before %v (want %v), %v", scopes[i], before, model[i], err)
			}
			model[i] = b
			strictest := min(model[0], model[1], model[2])
			if got := r.EffectiveBrake(k.ID); got != strictest {
				rt.Fatalf("effective %v, want %v", got, strictest)
			}
			for _, writes := range []bool{false, true} {
				if passes := r.LastLook(k, writes) == nil; passes != strictest.passes(writes) {
					rt.Fatalf("brakes %v: writes=%v passes=%v", model, writes, passes)
				}
			}
			pulled := 0
			for _, b := range model {
				if b != Normal {
					pulled++
				}
			}
			if got := len(r.Brakes()); got != pulled {
				rt.Fatalf("%d brakes listed, %d pulled", got, pulled)
			}
		}
	})
}

// The promise of kill: once SetBrake has returned, no Depart that starts later passes, and whatever passed
// before is counted until it lands.
func TestNothingDepartsAfterAStopReturned(t *testing.T) {
	r := newRig(t)
	k, _ := r.add(t, "k", nil)
	for _, scope := range []Scope{{Key: k.ID}, {Upstream: r.up}, All} {
		for round := range 40 {
			var stopped atomic.Bool
			var departed, landed atomic.Int64 // departed is raised after Depart, landed before Land
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						late := stopped.Load()
						f, failure := r.Depart(k, true)
						switch {
						case failure == nil && late:
							t.Errorf("%v, round %d: a call departed after the stop had returned", scope, round)
							f.Land()
							return
						case failure == nil:
							departed.Add(1)
							runtime.Gosched()
							landed.Add(1)
							f.Land()
						case late:
							return
						}
					}
				})
			}
			for departed.Load() < 8 {
				runtime.Gosched()
			}
			if _, err := r.SetBrake(scope, Stopped); err != nil {
				t.Fatal(err)
			}
			stopped.Store(true)
			wg.Wait()
			for _, s := range []Scope{{Key: k.ID}, {Upstream: r.up}, All} {
				if n := r.InFlight(s); n != 0 {
					t.Fatalf("%d calls in flight in %v after all landed", n, s)
				}
			}
			set(r, scope, Normal)
		}
	}
}

func TestAStopCountsWhatIsOnTheWire(t *testing.T) {
	r := newRig(t)
	k, _ := r.add(t, "k", nil)
	other, _ := r.add(t, "other", nil)
	a, _ := r.Depart(k, true)
	b, _ := r.Depart(k, false)
	c, _ := r.Depart(other, true)
	set(r, All, Stopped)
	if _, f := r.Depart(k, false); f == nil {
		t.Fatal("departed after a stop")
	}
	counts := func() [3]int64 {
		return [3]int64{r.InFlight(Scope{Key: k.ID}), r.InFlight(Scope{Upstream: r.up}), r.InFlight(All)}
	}
	if got := counts(); got != [3]int64{2, 3, 3} {
		t.Errorf("in flight %v", got)
	}
	a.Land()
	a.Land() // landing twice counts once
	if got := counts(); got != [3]int64{1, 2, 2} {
		t.Errorf("in flight after one landed: %v", got)
	}
	b.Land()
	c.Land()
	(&Flight{}).Land()
	if got := counts(); got != [3]int64{} {
		t.Errorf("in flight after all landed: %v", got)
	}
}

func TestRingUnderConcurrentChange(t *testing.T) {
	r := newRig(t)
	k, text := r.add(t, "k", nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 300 {
				switch i {
				case 0:
					_, _ = r.ChangeKey(k.ID, func(k Key) Key { k.Probe = !k.Probe; return k })
				case 1:
					set(r, Scope{Key: k.ID}, Brake(n%3))
				case 2:
					r.add(t, fmt.Sprintf("n%d", n), nil)
					r.Keys()
				case 3:
					if got, _, _ := r.Authenticate(Attempt{Presented: text, Now: noon, From: here}); got == nil || got.ID != k.ID {
						t.Error("a key was missing while it was being changed")
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestAnUpstreamThatDoesNotOpenIsRefused(t *testing.T) {
	r := newRig(t)
	base, _ := url.Parse("https://api.stripe.com")
	u, err := Upstream{ID: NewUpstreamID(), Name: "x", BaseURL: base}.SealInto(master(t), NewSecret(canary))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutUpstream(u); !errors.Is(err, ErrSealed) {
		t.Errorf("sealed under another master key: %v", err)
	}
	if u.SecretPrefix != "rk_test_" || u.SecretLast4 != "nary" || u.SecretVersion != 1 {
		t.Errorf("kind %q, last four %q, version %d", u.SecretPrefix, u.SecretLast4, u.SecretVersion)
	}
	for _, bad := range []string{"", "has space", "line\nbreak"} {
		if _, err := (Upstream{}).SealInto(r.Master(), NewSecret(bad)); !errors.Is(err, ErrSecretMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"ftp://x", "https://", "https://u:p@x", "https://x/v1", "https://x?a", "https:x"} {
		at, _ := url.Parse(bad)
		if CheckBaseURL(at) == nil {
			t.Errorf("base URL %s passes", bad)
		}
	}
}

func TestOperatorTokens(t *testing.T) {
	m := master(t)
	secret, op := m.MintOperator("ann", RoleAdmin, noon)
	_, other := m.MintOperator("bob", RoleStop, noon)
	expired, revoked := op, op
	expired.Expires, revoked.Revoked = noon, noon
	text := secret.Reveal()
	for name, c := range map[string]struct {
		token string
		ops   []Operator
		want  string
	}{
		"its own":        {text, []Operator{other, op}, "ann"},
		"nobody's":       {text, []Operator{other}, ""},
		"no operators":   {text, nil, ""},
		"mistyped":       {text[:len(text)-1] + "!", []Operator{op}, ""},
		"empty":          {"", []Operator{op}, ""},
		"expired":        {text, []Operator{expired}, ""},
		"revoked":        {text, []Operator{revoked}, ""},
		"a vault key's":  {mint(t, m, Live), []Operator{op}, ""},
		"another master": {text, []Operator{{Name: "x", Digest: master(t).digest(text)}}, ""},
	} {
		got, ok := m.AuthenticateOperator(c.token, c.ops, noon)
		if got.Name != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got.Name, ok)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	r := newRig(b)
	_, text := r.add(b, "k", nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, f := r.Authenticate(Attempt{Presented: text, Now: noon, From: here}); f != nil {
				b.Error(f.Message)
				return
			}
		}
	})
}

func BenchmarkLastLook(b *testing.B) {
	r := newRig(b)
	k, _ := r.add(b, "k", nil)
	b.Run("look", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r.LastLook(k, true) != nil {
				b.Fatal("refused")
			}
		}
	})
	b.Run("depart and land", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, _ := r.Depart(k, true)
			f.Land()
		}
	})
}

// BenchmarkRingMemory reports what a key costs in a ring of 100,000 made from one preset.
func BenchmarkRingMemory(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		r := newRig(b)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			r.add(b, fmt.Sprintf("agent-support-refunds-runner%d", i), func(k *Key) { k.PolicyDigest = "d" })
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/key")
		runtime.KeepAlive(r)
	}
}
