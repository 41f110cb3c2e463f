package vault

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keybrake/keybrake/internal/policy"
)

// Errors of changes to a Ring. They are answers to operators, not faults.
var (
	ErrUnknownKey      = errors.New("no such vault key")
	ErrUnknownUpstream = errors.New("no such upstream")
	ErrNameTaken       = errors.New("the name is taken by another live key or upstream")
	ErrInUse           = errors.New("vault keys that are not revoked use the upstream")
)

// shards spreads the look-up by digest over so many locks that calls do not meet at one. It is the number
// of values of a digest's first byte.
const shards = 256

// Ring is the snapshot in memory that calls are checked against: all keys, all upstreams and the brakes.
// The store is the truth; whoever changes it puts the new value here as well. All methods are safe for
// concurrent use. A call's own path (Authenticate, LastLook, Depart) takes at most one read lock of one
// shard, and none at its last look.
type Ring struct {
	beside func(base *url.URL) []*url.URL // see PinBeside
	master *Master
	all    brakeState
	// upstreams is replaced whole: there are few, and the last look must read it without a lock.
	upstreams atomic.Pointer[map[policy.UpstreamID]*upstreamState]
	creds     [shards]shard
	// generation grows with every change of a key or an upstream, brakes apart.
	generation atomic.Uint64
	// decoy stands in for an unknown key, so that both cost the same.
	decoy *keyState

	mu       sync.RWMutex // everything below, and all writing
	keys     map[policy.KeyID]*keyState
	names    map[string]*keyState // of keys that are not revoked
	policies map[string]*sharedPolicy
}

// brakeState is a brake and the calls that passed it and have not landed.
type brakeState struct {
	brake   atomic.Uint32
	flights atomic.Int64
}

type upstreamState struct {
	brakeState
	upstream atomic.Pointer[Upstream]
}

// shard holds credentials whose digests begin with one byte. Half a digest finds the credential; all of it
// is then compared in constant time.
type shard struct {
	mu sync.RWMutex
	m  map[[16]byte]*keyState
}

type sharedPolicy struct {
	policy *policy.Policy
	digest string
	keys   int
}

// NewRing returns an empty ring with everything stopped: nothing passes before the store's brakes were
// read and SetBrake(All, ...) was called.
func NewRing(master *Master) *Ring {
	r := &Ring{
		master:   master,
		keys:     make(map[policy.KeyID]*keyState),
		names:    make(map[string]*keyState),
		policies: make(map[string]*sharedPolicy),
		decoy:    &keyState{},
	}
	r.decoy.key.Store(&Key{Credentials: make([]Credential, 1), state: r.decoy})
	r.upstreams.Store(&map[policy.UpstreamID]*upstreamState{})
	for i := range r.creds {
		r.creds[i].m = make(map[[16]byte]*keyState)
	}
	return r
}

// PinBeside says which hosts of a vendor belong to the one at an upstream's base URL, so that its secret may go
// there too. Call it before any upstream is put; without it the base URL is the only place.
func (r *Ring) PinBeside(hosts func(base *url.URL) []*url.URL) { r.beside = hosts }

// Master returns the ring's master key.
func (r *Ring) Master() *Master { return r.master }

// PutKey adds a key or replaces the value of a known one and returns the ring's own copy. k.Brake counts for
// a new key only (zero: stopped until SetBrake); a known one keeps its brake, because the caller's value
// may be older than a stop. For the same reason a revoked key stays revoked, and a value with a lower
// Version than the present one changes nothing. It returns ErrNameTaken if another key that is not revoked
// has the name, and an error for a key without an id or a policy.
func (r *Ring) PutKey(k Key) (*Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(k)
}

// ChangeKey replaces a key's value by what change makes of the present one, with no other change in
// between; the rules of PutKey hold. change must not call the ring.
func (r *Ring) ChangeKey(id policy.KeyID, change func(Key) Key) (*Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st, ok := r.keys[id]
	if !ok {
		return nil, fmt.Errorf("change %s: %w", id, ErrUnknownKey)
	}
	next := change(*st.key.Load())
	next.ID = id
	return r.put(next)
}

// put expects mu to be held.
func (r *Ring) put(k Key) (*Key, error) {
	if k.ID == "" || k.Policy == nil {
		return nil, fmt.Errorf("put key %q: it needs an id and a policy", k.ID)
	}
	st, known := r.keys[k.ID]
	var old *Key
	if known {
		old = st.key.Load()
		if k.Version < old.Version {
			return old, nil
		}
		if !old.Revoked.IsZero() {
			k.Revoked = old.Revoked
		}
	} else {
		st = &keyState{}
		st.brake.Store(uint32(k.Brake))
	}
	if other, taken := r.names[k.Name]; taken && other != st && k.Revoked.IsZero() {
		return nil, fmt.Errorf("put key %s: %w: %q", k.ID, ErrNameTaken, k.Name)
	}
	r.generation.Add(1)
	k.Brake = Brake(st.brake.Load())
	k.state = st
	k.Policy, k.PolicyDigest = r.share(k.PolicyDigest, k.Policy)
	if up, ok := (*r.upstreams.Load())[k.Upstream]; ok {
		k.Upstream = up.upstream.Load().ID // the one text of it: a hundred thousand copies are some megabytes
	}
	if k.effective = effective(k.Policy, k.Joined); old != nil {
		r.unshare(old.PolicyDigest)
	}
	st.key.Store(&k)
	r.keys[k.ID] = st
	r.index(st, old, &k)
	return &k, nil
}

// index brings names and credentials from a key's old value (nil for none) to its new one.
func (r *Ring) index(st *keyState, old, k *Key) {
	if old != nil && r.names[old.Name] == st && (old.Name != k.Name || !k.Revoked.IsZero()) {
		delete(r.names, old.Name)
	}
	if k.Revoked.IsZero() {
		r.names[k.Name] = st
	}
	// New ones first: a credential that stays must not be missing for a moment.
	for _, c := range k.Credentials {
		sh := &r.creds[c.Digest[0]]
		sh.mu.Lock()
		sh.m[[16]byte(c.Digest[:16])] = st
		sh.mu.Unlock()
	}
	if old == nil {
		return
	}
	for _, c := range old.Credentials {
		if slices.ContainsFunc(k.Credentials, func(d Credential) bool { return d.Digest == c.Digest }) {
			continue
		}
		sh := &r.creds[c.Digest[0]]
		sh.mu.Lock()
		delete(sh.m, [16]byte(c.Digest[:16]))
		sh.mu.Unlock()
	}
}

// share returns the one copy of a policy, and of its digest, that all keys with the digest use.
func (r *Ring) share(digest string, p *policy.Policy) (*policy.Policy, string) {
	if digest == "" {
		return p, ""
	}
	s, ok := r.policies[digest]
	if !ok {
		s = &sharedPolicy{policy: p, digest: digest}
		r.policies[digest] = s
	}
	s.keys++
	return s.policy, s.digest
}

func (r *Ring) unshare(digest string) {
	if s, ok := r.policies[digest]; ok {
		if s.keys--; s.keys == 0 {
			delete(r.policies, digest)
		}
	}
}

// RemoveKey forgets a key. Calls of it that are on their way are stopped at their last look.
func (r *Ring) RemoveKey(id policy.KeyID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st, ok := r.keys[id]
	if !ok {
		return
	}
	r.generation.Add(1)
	st.brake.Store(uint32(Stopped))
	old := st.key.Load()
	gone := *old
	gone.Credentials, gone.Brake = nil, Stopped
	st.key.Store(&gone)
	delete(r.keys, id)
	if r.names[old.Name] == st {
		delete(r.names, old.Name)
	}
	r.unshare(old.PolicyDigest)
	for _, c := range old.Credentials {
		sh := &r.creds[c.Digest[0]]
		sh.mu.Lock()
		delete(sh.m, [16]byte(c.Digest[:16]))
		sh.mu.Unlock()
	}
}

// PutUpstream adds an upstream or replaces a known one, opening its sealed secret. As in PutKey, u.Brake
// counts for a new one only. It returns ErrSealed (wrapped) if the secret does not open, ErrNameTaken, or what
// CheckBaseURL says.
func (r *Ring) PutUpstream(u Upstream) (*Upstream, error) {
	if u.ID == "" {
		return nil, errors.New("put upstream: it needs an id")
	}
	if err := CheckBaseURL(u.BaseURL); err != nil {
		return nil, fmt.Errorf("put upstream %s: %w", u.Name, err)
	}
	secret, err := r.master.Open(UpstreamBinding(u.ID, u.SecretVersion), u.Sealed)
	if err != nil {
		return nil, fmt.Errorf("put upstream %s: %w", u.Name, err)
	}
	u.secret = secret
	if err := u.openWebhook(r.master); err != nil {
		return nil, fmt.Errorf("put upstream: %w", err)
	}
	base := *u.BaseURL // the caller's URL may change later; the pin may not
	u.BaseURL, u.beside = &base, nil
	if r.beside != nil {
		u.beside = r.beside(&base)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	present := *r.upstreams.Load()
	next := make(map[policy.UpstreamID]*upstreamState, len(present)+1)
	for id, st := range present {
		if id != u.ID && st.upstream.Load().Name == u.Name {
			return nil, fmt.Errorf("put upstream %s: %w", u.Name, ErrNameTaken)
		}
		next[id] = st
	}
	st, known := next[u.ID]
	if !known {
		st = &upstreamState{}
		st.brake.Store(uint32(u.Brake))
		next[u.ID] = st
	}
	u.Brake = Brake(st.brake.Load())
	st.upstream.Store(&u)
	r.upstreams.Store(&next)
	r.generation.Add(1)
	return &u, nil
}

// RemoveUpstream forgets an upstream and its secret. It returns ErrInUse while a key that is not revoked
// uses it; calls of revoked ones are stopped at their last look.
func (r *Ring) RemoveUpstream(id policy.UpstreamID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	present := *r.upstreams.Load()
	st, ok := present[id]
	if !ok {
		return fmt.Errorf("remove upstream %s: %w", id, ErrUnknownUpstream)
	}
	for _, other := range r.names {
		if k := other.key.Load(); k.Upstream == id {
			return fmt.Errorf("remove upstream %s: %w: %s", id, ErrInUse, k.Name)
		}
	}
	st.brake.Store(uint32(Stopped))
	next := make(map[policy.UpstreamID]*upstreamState, len(present))
	for other, st := range present {
		if other != id {
			next[other] = st
		}
	}
	r.upstreams.Store(&next)
	r.generation.Add(1)
	return nil
}

// Key returns the present value of a key by id.
func (r *Ring) Key(id policy.KeyID) (*Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if st, ok := r.keys[id]; ok {
		return st.key.Load(), true
	}
	return nil, false
}

// FindKey returns a key by id or by the exact name of one that is not revoked.
func (r *Ring) FindKey(idOrName string) (*Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	st, ok := r.keys[policy.KeyID(idOrName)]
	if !ok {
		if st, ok = r.names[idOrName]; !ok {
			return nil, false
		}
	}
	return st.key.Load(), true
}

// Keys lists all keys, revoked ones included, by name and id.
func (r *Ring) Keys() []*Key {
	r.mu.RLock()
	out := make([]*Key, 0, len(r.keys))
	for _, st := range r.keys {
		out = append(out, st.key.Load())
	}
	r.mu.RUnlock()
	slices.SortFunc(out, func(a, b *Key) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out
}

// Generation is a number that is another one after every change of a key or an upstream, brakes apart: what was worked out
// from all keys still holds while it stays.
func (r *Ring) Generation() uint64 { return r.generation.Load() }

// Each calls f with every key, revoked ones included, in no order, until it returns false. f must not call the ring.
func (r *Ring) Each(f func(*Key) bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, st := range r.keys {
		if !f(st.key.Load()) {
			return
		}
	}
}

// MatchKeys lists the keys that are not revoked whose names match a glob, by name: * any run of
// characters, ? one, [a-z] one of a set. A malformed glob is an error and matches nothing.
func (r *Ring) MatchKeys(glob string) ([]*Key, error) {
	// path.Match keeps * from crossing a slash; a name's slash is a character like any other.
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	pattern := flat(glob)
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("glob %q: %w", glob, err)
	}
	all := r.Keys()
	return slices.DeleteFunc(all, func(k *Key) bool {
		ok, _ := path.Match(pattern, flat(k.Name)) // the pattern was checked
		return !ok || !k.Revoked.IsZero()
	}), nil
}

// Upstream returns an upstream by id, its secret open for Attach.
func (r *Ring) Upstream(id policy.UpstreamID) (*Upstream, bool) {
	st, ok := (*r.upstreams.Load())[id]
	if !ok {
		return nil, false
	}
	return st.upstream.Load(), true
}

// FindUpstream returns an upstream by id or exact name.
func (r *Ring) FindUpstream(idOrName string) (*Upstream, bool) {
	for id, st := range *r.upstreams.Load() {
		if u := st.upstream.Load(); string(id) == idOrName || u.Name == idOrName {
			return u, true
		}
	}
	return nil, false
}

// Upstreams lists all upstreams by name.
func (r *Ring) Upstreams() []*Upstream {
	present := *r.upstreams.Load()
	out := make([]*Upstream, 0, len(present))
	for _, st := range present {
		out = append(out, st.upstream.Load())
	}
	slices.SortFunc(out, func(a, b *Upstream) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// credential finds the key that a digest opens and the credential in its present value.
func (r *Ring) credential(d Digest) (*Key, *Credential) {
	sh := &r.creds[d[0]]
	sh.mu.RLock()
	st, ok := sh.m[[16]byte(d[:16])]
	sh.mu.RUnlock()
	if !ok {
		st = r.decoy
	}
	k := st.key.Load()
	for i := range k.Credentials {
		if subtle.ConstantTimeCompare(k.Credentials[i].Digest[:], d[:]) == 1 {
			return k, &k.Credentials[i]
		}
	}
	return nil, nil
}
