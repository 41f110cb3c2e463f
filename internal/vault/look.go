package vault

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Attempt is what the edge knows of a call before anything else was read.
type Attempt struct {
	Presented string     // the credential as PresentedFrom found it; empty for none
	Now       time.Time  // the zero time is refused
	From      netip.Addr // the agent's address, behind trusted proxies the one they report
	Writes    bool       // the method may change something
}

// Authenticate says whose call this is, which of the key's credentials was sent, and whether the key is good for
// the call at all. A non-nil failure denies the call, whatever the key: key and credential are returned with it,
// where they are known, so that the denial can be recorded under their name. Unknown and known keys cost the same,
// but for the checksum, which anybody can compute.
func (r *Ring) Authenticate(a Attempt) (*Key, *Credential, *policy.Failure) {
	mode, ok := presentedMode(a.Presented)
	if !ok {
		return nil, nil, deny(policy.CodeKeyInvalid, malformed(a.Presented))
	}
	k, cred := r.credential(r.master.digest(a.Presented))
	if k == nil || cred == nil {
		return nil, nil, deny(policy.CodeKeyInvalid, "The vault key "+Mask(a.Presented)+" is not known here. Check that it was copied whole and belongs to this Keybrake.")
	}
	return k, cred, r.admits(k, cred, mode, a)
}

// malformed explains what was sent instead of a vault key, without showing it.
func malformed(presented string) string {
	switch {
	case presented == "":
		return "No vault key was sent. Send one as `Authorization: Bearer vault_key_...`, or as the user name of Basic authentication."
	case strings.HasPrefix(presented, prefixTest), strings.HasPrefix(presented, prefixLive):
		return "The vault key " + Mask(presented) + " is misspelled or cut off: its checksum does not hold. Copy it again."
	default:
		return "The credential " + Mask(presented) + " is not a vault key. Keybrake takes vault keys (vault_key_test_... or vault_key_live_...) only, never a Stripe key."
	}
}

// admits judges a known key: revoked, expired, network, mode, brake.
func (r *Ring) admits(k *Key, cred *Credential, presented Mode, a Attempt) *policy.Failure {
	name := "The vault key " + k.Name
	up, ok := r.Upstream(k.Upstream)
	switch {
	case !k.Revoked.IsZero():
		return deny(policy.CodeKeyRevoked, name+" was revoked on "+stamp(k.Revoked)+". Ask its operator for a new one.")
	case !ok:
		return deny(policy.CodeKeyRevoked, name+" belongs to an upstream that was removed. Ask its operator for a new one.")
	}
	if ended := k.Ended(cred, a.Now); ended != nil {
		return ended
	}
	switch {
	case !k.Policy.AllowsFrom(a.From):
		return deny(policy.CodeKeyNetwork, name+" may not be used from "+address(a.From)+": its policy's `network` does not include that address. Call from inside it, or ask its operator to add the address.")
	case presented != k.Mode || k.Mode != up.Mode:
		return deny(policy.CodeKeyMode, fmt.Sprintf("%s is a %s key and its upstream %s is in %s mode. Use a key that was made for it.", name, k.Mode, up.Name, up.Mode))
	}
	return r.LastLook(k, a.Writes)
}

// Ended says that the key, or the credential of it that was sent, has ended by a time; nil: neither has. Either ends in
// the very instant that it names, so no job has to end it: whoever is about to let a call pass asks with the time at
// which it would.
func (k *Key) Ended(sent *Credential, now time.Time) *policy.Failure {
	name := "The vault key " + k.Name
	switch {
	case now.IsZero() || sent == nil:
		return deny(policy.CodeKeyExpired, name+" cannot be checked for expiry.")
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return deny(policy.CodeKeyExpired, name+" expired on "+stamp(k.Expires)+". Ask its operator for a new one.")
	case !sent.Expires.IsZero() && !now.Before(sent.Expires):
		return deny(policy.CodeKeyExpired, name+" was rotated and this old text of it ended on "+stamp(sent.Expires)+". Use the new one.")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func address(a netip.Addr) string {
	if !a.IsValid() {
		return "an unknown address"
	}
	return a.String()
}

func deny(code policy.Code, message string) *policy.Failure {
	return &policy.Failure{Code: code, Rule: "key", Message: message}
}

// LastLook reads the brakes of a key, its upstream and all, and whether the key was revoked since: nil
// means that the call may go on. It takes no lock. k may be an older value of the key; what is read is the
// present. It promises nothing about what SetBrake reports: right before the send, use Depart.
func (r *Ring) LastLook(k *Key, writes bool) *policy.Failure {
	if k == nil || k.state == nil {
		return deny(policy.CodeKeyInvalid, "The vault key is not known here.")
	}
	up := (*r.upstreams.Load())[k.Upstream]
	if f := braked(Brake(r.all.brake.Load()), "Everything", writes); f != nil {
		return f
	}
	if up == nil {
		return deny(policy.CodeKeyRevoked, "The vault key "+k.Name+" belongs to an upstream that was removed. Ask its operator for a new one.")
	}
	if b := Brake(up.brake.Load()); !b.passes(writes) {
		return braked(b, "The upstream "+up.upstream.Load().Name, writes)
	}
	if b := Brake(k.state.brake.Load()); !b.passes(writes) {
		return braked(b, "The vault key "+k.Name, writes)
	}
	if present := k.state.key.Load(); !present.Revoked.IsZero() {
		return deny(policy.CodeKeyRevoked, "The vault key "+k.Name+" was revoked on "+stamp(present.Revoked)+". Ask its operator for a new one.")
	}
	return nil
}

func braked(b Brake, what string, writes bool) *policy.Failure {
	if b.passes(writes) {
		return nil
	}
	f := brakeFailure(what, b)
	return &f
}

// BrakeFailure is the denial of a pulled brake whose scope is named as the store does: "all",
// "upstream:<id>" or "key:<id>".
func BrakeFailure(scope string, b Brake) policy.Failure {
	kind, id, _ := strings.Cut(scope, ":")
	switch kind {
	case "key":
		return brakeFailure("The vault key "+id, b)
	case "upstream":
		return brakeFailure("The upstream "+id, b)
	default:
		return brakeFailure("Everything", b)
	}
}

func brakeFailure(what string, b Brake) policy.Failure {
	f := policy.Failure{Code: policy.CodeKeyKilled, Rule: "brake", Message: what +
		" is stopped: an operator pulled the brake. No call passes, and trying again does not help: an operator has to resume it."}
	if b == ReadOnly {
		f.Code = policy.CodeKeyReadOnly
		f.Message = what + " is read-only: an operator pulled the brake. Reads pass; before the next write an operator has to resume it."
	}
	return f
}

// Flight is a call between its last look and its answer. It belongs to one goroutine.
type Flight struct {
	ring *Ring
	up   *upstreamState
	key  *keyState
}

// Depart is the last look right before a request is written. If it returns no failure, the call counts as
// in flight until Land. Its order is what makes a stop true: the call is counted first and the brakes are
// read after, SetBrake sets the brake first and counts after. So every call either sees the brake or is
// seen by SetBrake.
func (r *Ring) Depart(k *Key, writes bool) (Flight, *policy.Failure) {
	// Looked at once before counting, so that calls that come after a stop do not show up in its count.
	if failure := r.LastLook(k, writes); failure != nil {
		return Flight{}, failure
	}
	f := Flight{ring: r, up: (*r.upstreams.Load())[k.Upstream], key: k.state}
	f.add(1)
	if failure := r.LastLook(k, writes); failure != nil {
		f.Land()
		return Flight{}, failure
	}
	return f, nil
}

func (f *Flight) add(n int64) {
	f.ring.all.flights.Add(n)
	if f.up != nil {
		f.up.flights.Add(n)
	}
	f.key.flights.Add(n)
}

// Land ends the flight: the answer is here, or it is certain that none comes. Further calls, and the zero
// Flight's, do nothing.
func (f *Flight) Land() {
	if f.ring == nil {
		return
	}
	f.add(-1)
	f.ring = nil
}

// InFlight returns how many calls within a scope have departed and not landed. An unknown scope has none.
func (r *Ring) InFlight(s Scope) int64 {
	switch {
	case s.Key != "":
		r.mu.RLock()
		st := r.keys[s.Key]
		r.mu.RUnlock()
		if st == nil {
			return 0
		}
		return st.flights.Load()
	case s.Upstream != "":
		if st := (*r.upstreams.Load())[s.Upstream]; st != nil {
			return st.flights.Load()
		}
		return 0
	default:
		return r.all.flights.Load()
	}
}

// SetBrake sets one brake, looser or stricter, and returns what it was. When it has returned, every Depart
// that starts later obeys it, and InFlight counts those that passed before. The three brakes are
// independent: releasing one releases nothing of another. Errors: ErrUnknownKey, ErrUnknownUpstream.
func (r *Ring) SetBrake(s Scope, b Brake) (before Brake, err error) {
	if b > Normal {
		b = Stopped // no such brake: our bug, and the safe reading of it
	}
	if s.Key == "" && s.Upstream == "" {
		return Brake(r.all.brake.Swap(uint32(b))), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Key != "" {
		st, ok := r.keys[s.Key]
		if !ok {
			return Stopped, fmt.Errorf("brake %s: %w", s.Key, ErrUnknownKey)
		}
		before = Brake(st.brake.Swap(uint32(b)))
		next := *st.key.Load()
		next.Brake = b
		st.key.Store(&next)
		return before, nil
	}
	st, ok := (*r.upstreams.Load())[s.Upstream]
	if !ok {
		return Stopped, fmt.Errorf("brake %s: %w", s.Upstream, ErrUnknownUpstream)
	}
	before = Brake(st.brake.Swap(uint32(b)))
	next := *st.upstream.Load()
	next.Brake = b
	st.upstream.Store(&next)
	return before, nil
}

// BrakeOf returns one brake as it stands. An unknown scope is Stopped.
func (r *Ring) BrakeOf(s Scope) Brake {
	switch {
	case s.Key != "":
		if k, ok := r.Key(s.Key); ok {
			return k.Brake
		}
		return Stopped
	case s.Upstream != "":
		if u, ok := r.Upstream(s.Upstream); ok {
			return u.Brake
		}
		return Stopped
	default:
		return Brake(r.all.brake.Load())
	}
}

// EffectiveBrake returns the strictest of a key's own brake, its upstream's and everything's.
func (r *Ring) EffectiveBrake(id policy.KeyID) Brake {
	k, ok := r.Key(id)
	if !ok {
		return Stopped
	}
	return min(k.Brake, r.BrakeOf(Scope{Upstream: k.Upstream}), r.BrakeOf(All))
}

// Brakes lists the brakes that are not normal: all first, then upstreams, then keys that are not revoked,
// by name.
func (r *Ring) Brakes() []BrakeState {
	var out []BrakeState
	if b := r.BrakeOf(All); b != Normal {
		out = append(out, BrakeState{Scope: All, Brake: b})
	}
	for _, u := range r.Upstreams() {
		if u.Brake != Normal {
			out = append(out, BrakeState{Scope: Scope{Upstream: u.ID}, Name: u.Name, Brake: u.Brake})
		}
	}
	var keys []BrakeState
	r.Each(func(k *Key) bool {
		if k.Brake != Normal && k.Revoked.IsZero() {
			keys = append(keys, BrakeState{Scope: Scope{Key: k.ID}, Name: k.Name, Brake: k.Brake})
		}
		return true
	})
	slices.SortFunc(keys, func(a, b BrakeState) int { return strings.Compare(a.Name, b.Name) })
	return append(out, keys...)
}
