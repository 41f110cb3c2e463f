package vault

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/policy"
)

var (
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	here = netip.MustParseAddr("10.1.2.3")
)

// rig is a ring with a test upstream and everything normal.
type rig struct {
	*Ring
	up policy.UpstreamID
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := NewRing(master(t))
	if _, err := r.SetBrake(All, Normal); err != nil {
		t.Fatal(err)
	}
	return &rig{Ring: r, up: addUpstream(t, r, "stripe-test", Test)}
}

func addUpstream(t testing.TB, r *Ring, name string, mode Mode) policy.UpstreamID {
	t.Helper()
	base, _ := url.Parse("https://api.stripe.com")
	u, err := Upstream{ID: NewUpstreamID(), Name: name, Mode: mode, BaseURL: base, Brake: Normal}.SealInto(r.Master(), NewSecret(canary))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutUpstream(u); err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// add makes a key; change may alter it before it is put.
func (r *rig) add(t testing.TB, name string, change func(*Key)) (*Key, string) {
	t.Helper()
	secret, digest, tail := r.Master().Mint(Test)
	k := Key{
		ID: NewKeyID(), Name: name, Upstream: r.up, Mode: Test, Brake: Normal, Policy: &policy.Policy{},
		Created: noon, Credentials: []Credential{{Digest: digest, Last4: tail, Created: noon}},
	}
	if change != nil {
		change(&k)
	}
	put, err := r.PutKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return put, secret.Reveal()
}

// attempt is one call at a key, and what is to come of it.
type attempt struct {
	key    func(*rig, *Key)
	after  func(*rig, *Key)
	text   func(string) string
	from   netip.Addr
	now    time.Time
	writes bool
	want   policy.Code
	says   string
}

func TestAuthenticateRefusesWithItsReason(t *testing.T) {
	live := func(r *rig) policy.UpstreamID { return addUpstream(t, r.Ring, "live", Live) }
	for name, c := range map[string]attempt{
		"a good key passes":              {want: ""},
		"nothing sent":                   {text: func(string) string { return "" }, want: policy.CodeKeyInvalid, says: "No vault key was sent"},
		"a Stripe key":                   {text: func(string) string { return "sk_live_0123456789abcdefghijWXYZ" }, want: policy.CodeKeyInvalid, says: "sk_live_…WXYZ is not a vault key"},
		"a mistyped key":                 {text: func(s string) string { return s[:20] + "!" + s[21:] }, want: policy.CodeKeyInvalid, says: "checksum"},
		"a well-formed key nobody has":   {text: func(string) string { return mint(t, master(t), Test) }, want: policy.CodeKeyInvalid, says: "is not known here"},
		"a revoked key":                  {key: func(_ *rig, k *Key) { k.Revoked = noon }, want: policy.CodeKeyRevoked, says: "revoked on 2026-11-23"},
		"a key at its last second":       {key: func(_ *rig, k *Key) { k.Expires = noon.Add(1) }, want: ""},
		"a key at its expiry":            {key: func(_ *rig, k *Key) { k.Expires = noon }, want: policy.CodeKeyExpired, says: "expired on"},
		"an old text after its overlap":  {key: func(_ *rig, k *Key) { k.Credentials[0].Expires = noon }, want: policy.CodeKeyExpired, says: "rotated"},
		"an old text in its overlap":     {key: func(_ *rig, k *Key) { k.Credentials[0].Expires = noon.Add(time.Hour) }, want: ""},
		"from an allowed network":        {key: network("10.0.0.0/8"), want: ""},
		"from an allowed network as v6":  {key: network("10.0.0.0/8"), from: netip.MustParseAddr("::ffff:10.9.9.9"), want: ""},
		"from another network":           {key: network("192.168.0.0/16"), want: policy.CodeKeyNetwork, says: "10.1.2.3"},
		"a live key at a test upstream":  {key: func(_ *rig, k *Key) { k.Mode = Live }, want: policy.CodeKeyMode},
		"a test key at a live upstream":  {key: func(r *rig, k *Key) { k.Upstream = live(r) }, want: policy.CodeKeyMode},
		"a key of an unknown upstream":   {key: func(_ *rig, k *Key) { k.Upstream = "up_gone" }, want: policy.CodeKeyRevoked, says: "removed"},
		"a key put without a brake":      {key: func(_ *rig, k *Key) { k.Brake = 0 }, want: policy.CodeKeyKilled},
		"the key stopped":                {after: brakeKey(Stopped), want: policy.CodeKeyKilled, says: "The vault key k is stopped"},
		"the key read-only, a read":      {after: brakeKey(ReadOnly), want: ""},
		"the key read-only, a write":     {after: brakeKey(ReadOnly), writes: true, want: policy.CodeKeyReadOnly},
		"the upstream stopped":           {after: func(r *rig, _ *Key) { set(r, Scope{Upstream: r.up}, Stopped) }, want: policy.CodeKeyKilled, says: "stripe-test"},
		"everything stopped":             {after: func(r *rig, _ *Key) { set(r, All, Stopped) }, want: policy.CodeKeyKilled, says: "Everything is stopped"},
		"everything read-only, a write":  {after: func(r *rig, _ *Key) { set(r, All, ReadOnly) }, writes: true, want: policy.CodeKeyReadOnly},
		"a brake that does not exist":    {after: func(r *rig, _ *Key) { set(r, All, Normal+1) }, want: policy.CodeKeyKilled},
		"the key removed":                {after: func(r *rig, k *Key) { r.RemoveKey(k.ID) }, want: policy.CodeKeyInvalid},
		"a stopped and revoked key":      {key: func(_ *rig, k *Key) { k.Revoked, k.Brake = noon, Stopped }, want: policy.CodeKeyRevoked},
		"a key of a network, no address": {key: network("10.0.0.0/8"), from: netip.IPv4Unspecified(), want: policy.CodeKeyNetwork},
	} {
		t.Run(name, c.check)
	}
	r := newRig(t)
	_, text := r.add(t, "k", nil)
	if _, _, f := r.Authenticate(Attempt{Presented: text, From: here}); f == nil {
		t.Error("the zero time passes")
	}
}

func (c attempt) check(t *testing.T) {
	r := newRig(t)
	k, text := r.add(t, "k", func(k *Key) {
		if c.key != nil {
			c.key(r, k)
		}
	})
	if c.after != nil {
		c.after(r, k)
	}
	a := Attempt{Presented: text, Now: noon, From: here, Writes: c.writes}
	if c.text != nil {
		a.Presented = c.text(text)
	}
	if c.from.IsValid() {
		a.From = c.from
	}
	if !c.now.IsZero() {
		a.Now = c.now
	}
	got, _, failure := r.Authenticate(a)
	var code policy.Code
	if failure != nil {
		code = failure.Code
		if !strings.Contains(failure.Message, c.says) {
			t.Errorf("message %q does not say %q", failure.Message, c.says)
		}
		if len(a.Presented) > 8 && strings.Contains(failure.Message, a.Presented[len(a.Presented)-8:]) {
			t.Errorf("message shows more than four characters of the key: %q", failure.Message)
		}
	}
	if code != c.want || (got == nil) != (c.want == policy.CodeKeyInvalid) {
		t.Errorf("code %q, key %v; want %q", code, got != nil, c.want)
	}
}

func network(prefix string) func(*rig, *Key) {
	return func(_ *rig, k *Key) {
		k.Policy = &policy.Policy{Network: []netip.Prefix{netip.MustParsePrefix(prefix)}}
	}
}

func set(r *rig, s Scope, b Brake) {
	if _, err := r.SetBrake(s, b); err != nil {
		panic(err)
	}
}

func brakeKey(b Brake) func(*rig, *Key) {
	return func(r *rig, k *Key) { set(r, Scope{Key: k.ID}, b) }
}

func TestANewRingIsStopped(t *testing.T) {
	r := NewRing(master(t))
	if b := r.BrakeOf(All); b != Stopped {
		t.Errorf("a new ring is %v", b)
	}
	if f := r.LastLook(&Key{}, false); f == nil {
		t.Error("a key from nowhere passes")
	}
	if f := r.LastLook(nil, false); f == nil {
		t.Error("no key passes")
	}
}

func TestAnOldValueOfAKeyDoesNotUndoAStop(t *testing.T) {
	r := newRig(t)
	before, text := r.add(t, "k", nil)
	set(r, Scope{Key: before.ID}, Stopped)
	if _, err := r.PutKey(*before); err != nil {
		t.Fatal(err)
	}
	if got := r.BrakeOf(Scope{Key: before.ID}); got != Stopped {
		t.Errorf("putting an older value released the brake: %v", got)
	}
	set(r, Scope{Key: before.ID}, Normal)
	if _, err := r.ChangeKey(before.ID, func(k Key) Key { k.Revoked = noon; return k }); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutKey(*before); err != nil {
		t.Fatal(err)
	}
	if _, _, f := r.Authenticate(Attempt{Presented: text, Now: noon, From: here}); f == nil || f.Code != policy.CodeKeyRevoked {
		t.Errorf("putting an older value brought a revoked key back: %v", f)
	}
	if f := r.LastLook(before, false); f == nil || f.Code != policy.CodeKeyRevoked {
		t.Errorf("a call that holds the older value passes its last look: %v", f)
	}
	newer, _ := r.add(t, "versioned", func(k *Key) { k.Version = 2 })
	old := *newer
	old.Version, old.Probe = 1, true
	if got, err := r.PutKey(old); err != nil || got.Probe {
		t.Errorf("a lower version replaced a higher one: %v", err)
	}
}

func TestRotationOverlaps(t *testing.T) {
	r := newRig(t)
	k, oldText := r.add(t, "k", nil)
	secret, digest, tail := r.Master().Mint(Test)
	until := noon.Add(time.Hour)
	_, err := r.ChangeKey(k.ID, func(k Key) Key {
		old := k.Credentials[0]
		old.Expires = until
		k.Credentials = []Credential{{Digest: digest, Last4: tail, Created: noon}, old}
		return k
	})
	if err != nil {
		t.Fatal(err)
	}
	try := func(text string, at time.Time) policy.Code {
		got, _, f := r.Authenticate(Attempt{Presented: text, Now: at, From: here})
		if got == nil || got.ID != k.ID {
			return "another key"
		}
		if f != nil {
			return f.Code
		}
		return ""
	}
	for _, c := range []struct {
		text string
		at   time.Time
		want policy.Code
	}{{oldText, noon, ""}, {secret.Reveal(), noon, ""}, {oldText, until, policy.CodeKeyExpired}, {secret.Reveal(), until, ""}} {
		if got := try(c.text, c.at); got != c.want {
			t.Errorf("…%s at %s: %q, want %q", c.text[len(c.text)-4:], c.at, got, c.want)
		}
	}
	if _, err := r.ChangeKey(k.ID, func(k Key) Key { k.Credentials = k.Credentials[:1]; return k }); err != nil {
		t.Fatal(err)
	}
	if _, _, f := r.Authenticate(Attempt{Presented: oldText, Now: noon, From: here}); f == nil || f.Code != policy.CodeKeyInvalid {
		t.Errorf("a dropped credential still opens: %v", f)
	}
}

func TestNamesAndGlobs(t *testing.T) {
	r := newRig(t)
	first, _ := r.add(t, "agent-a/x", nil)
	r.add(t, "agent-b", nil)
	r.add(t, "other", nil)
	if _, err := r.PutKey(Key{ID: NewKeyID(), Name: "other", Policy: &policy.Policy{}}); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a taken name: %v", err)
	}
	match := func(glob string) []string {
		keys, err := r.MatchKeys(glob)
		if err != nil {
			return []string{"error"}
		}
		names := []string{}
		for _, k := range keys {
			names = append(names, k.Name)
		}
		return names
	}
	for glob, want := range map[string][]string{
		"agent-*": {"agent-a/x", "agent-b"}, "*": {"agent-a/x", "agent-b", "other"}, "agent-[b-z]": {"agent-b"},
		"agent-?": {"agent-b"}, "": {}, "other": {"other"}, "[": {"error"}, "x[": {"error"},
	} {
		if diff := cmp.Diff(want, match(glob)); diff != "" {
			t.Errorf("%q: %s", glob, diff)
		}
	}
	if _, err := r.ChangeKey(first.ID, func(k Key) Key { k.Name = "renamed"; return k }); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.FindKey("agent-a/x"); ok {
		t.Error("the old name still finds the key")
	}
	if k, ok := r.FindKey("renamed"); !ok || k.ID != first.ID {
		t.Error("the new name does not find the key")
	}
	if _, err := r.ChangeKey(first.ID, func(k Key) Key { k.Revoked = noon; return k }); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.FindKey("renamed"); ok {
		t.Error("a revoked key is found by name")
	}
	r.add(t, "renamed", nil) // the name is free again
	if k, ok := r.FindKey(string(first.ID)); !ok || k.Name != "renamed" {
		t.Error("a revoked key is not found by id")
	}
	if err := r.RemoveUpstream(r.up); !errors.Is(err, ErrInUse) {
		t.Errorf("an upstream in use was removed: %v", err)
	}
}

func TestPoliciesAreSharedByDigestAndJoinedCustomersAreAdded(t *testing.T) {
	r := newRig(t)
	list := func() *policy.Policy {
		return &policy.Policy{Customers: policy.Customers{List: []policy.CustomerID{"cus_b"}}}
	}
	a, _ := r.add(t, "a", func(k *Key) { k.Policy, k.PolicyDigest = list(), "d" })
	b, _ := r.add(t, "b", func(k *Key) { k.Policy, k.PolicyDigest = list(), "d" })
	if a.Policy != b.Policy {
		t.Error("two keys with one digest have two policies")
	}
	a, err := r.ChangeKey(a.ID, func(k Key) Key { k.Joined = []policy.CustomerID{"cus_c", "cus_a", "cus_b"}; return k })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]policy.CustomerID{"cus_a", "cus_b", "cus_c"}, a.Effective().Customers.List); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]policy.CustomerID{"cus_b"}, b.Effective().Customers.List); diff != "" {
		t.Errorf("another key's list changed: %s", diff)
	}
}

func TestAKeyEndsInTheVeryInstant(t *testing.T) {
	ends := noon.Add(time.Hour)
	for name, c := range map[string]struct {
		key  Key
		sent *Credential
		at   time.Time
		code policy.Code
	}{
		"a nanosecond before it expires":          {Key{Expires: ends}, &Credential{}, ends.Add(-1), ""},
		"when it expires":                         {Key{Expires: ends}, &Credential{}, ends, policy.CodeKeyExpired},
		"a nanosecond before its old text ends":   {Key{}, &Credential{Expires: ends}, ends.Add(-1), ""},
		"when its old text ends":                  {Key{}, &Credential{Expires: ends}, ends, policy.CodeKeyExpired},
		"the text outlives the key":               {Key{Expires: ends}, &Credential{Expires: ends.Add(1)}, ends, policy.CodeKeyExpired},
		"never":                                   {Key{}, &Credential{}, ends.Add(1e6 * time.Hour), ""},
		"at a time that nobody knows":             {Key{}, &Credential{}, time.Time{}, policy.CodeKeyExpired},
		"with a credential that nobody knows":     {Key{}, nil, noon, policy.CodeKeyExpired},
		"in another zone, the same instant":       {Key{Expires: ends}, &Credential{}, ends.In(time.FixedZone("", 3600)), policy.CodeKeyExpired},
		"in another zone, a nanosecond before it": {Key{Expires: ends}, &Credential{}, ends.Add(-1).In(time.FixedZone("", 3600)), ""},
	} {
		got := policy.Code("")
		if f := c.key.Ended(c.sent, c.at); f != nil {
			got = f.Code
		}
		if got != c.code {
			t.Errorf("%s: %q, want %q", name, got, c.code)
		}
	}
}
