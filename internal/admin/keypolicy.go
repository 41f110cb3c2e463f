package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// PolicyEdit says what a key may do: where the policy comes from, and what flags change on it.
type PolicyEdit struct {
	// Policy is the text of a policy file, PolicyFile its name in messages.
	Policy     string `json:"policy,omitempty"`
	PolicyFile string `json:"policy_file,omitempty"`
	// Caps are added, or replace those of the same resource, window and unit: "refunds/day=500",
	// "refunds/hour=30calls".
	Caps []string `json:"caps,omitempty"`
	// Customers take the place of the policy's: ids, or `any` alone.
	Customers []string `json:"customers,omitempty"`
	Expires   string   `json:"expires,omitempty" doc:"a span from the key's creation like 90d, or a date"`
	// RotateEvery is after how long the key's text is due for another.
	RotateEvery string `json:"rotate_every,omitempty" doc:"a span like 90d"`
}

// KeyRequest asks for a vault key. Exactly one of Preset, Policy and Like says what it may do.
type KeyRequest struct {
	Name     string `json:"name,omitempty" doc:"agent-<role>-<action>-<runner-id>; made up for presets and likes"`
	Preset   string `json:"preset,omitempty"`
	Like     string `json:"like,omitempty" doc:"id or name of a key to take the policy of"`
	Upstream string `json:"upstream,omitempty" doc:"id or name; the only one by default"`
	// Unverified takes the policy of a test key into live mode though nobody has verified it.
	Unverified bool `json:"unverified,omitempty"`
	PolicyEdit
}

// KeyCreated is the one answer that shows a vault key.
type KeyCreated struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Key      string    `json:"key,omitempty" doc:"shown this once: absent when the create is replayed"`
	Upstream string    `json:"upstream"`
	Mode     string    `json:"mode"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	Warnings []string  `json:"warnings"`
	// RestrictedKey is what the upstream's own credential needs for this policy; absent if nobody can tell.
	RestrictedKey *RestrictedKey `json:"restricted_key,omitempty"`
}

// RestrictedKey is the least credential at the vendor with which calls under a policy work.
type RestrictedKey struct {
	Link        string   `json:"link" doc:"opens the vendor's page that makes it, with the permissions ticked"`
	Permissions []string `json:"permissions"`
	Notes       []string `json:"notes" doc:"what the link cannot do, and what a permission opens beside"`
}

// restrictedKey describes the credential for a whole policy, named after the vault key.
func (s *Service) restrictedKey(p *policy.Policy, mode vault.Mode) *RestrictedKey {
	if s.Restricted == nil {
		return nil
	}
	r := s.Restricted(p, mode)
	return &r
}

// CreateKey makes a vault key.
func (s *Service) CreateKey(ctx context.Context, who Actor, req KeyRequest) (out KeyCreated, err error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	p, warnings, u, err := s.proposed(req, "")
	if err != nil {
		return KeyCreated{}, err
	}
	if err := s.promotable(req, p, u); err != nil {
		return KeyCreated{}, err
	}
	secret, digest, last4 := s.Ring.Master().Mint(u.Mode)
	k := &vault.Key{ID: vault.NewKeyID(), Name: p.Name, Upstream: u.ID, Mode: u.Mode, Policy: bare(p), Brake: vault.Normal}
	k.PolicyDigest = policy.Digest(k.Policy)
	err = s.act(ctx, store.LaneControl, who, "key.create", func(tx store.Tx, rec *audit.Record) error {
		if _, found, err := storedUpstream(tx, u.ID); err != nil {
			return err
		} else if !found {
			return refuse(Conflict, "the upstream %s was just removed at another node", u.Name)
		}
		k.Created = tx.Now()
		k.Expires = p.Expires.Deadline(k.Created)
		if !k.Expires.IsZero() && !k.Expires.After(k.Created) {
			return wrong("body.expires", "the key would be expired from the start (%s)", stamp(k.Expires))
		}
		k.Credentials = []vault.Credential{{Digest: digest, Last4: last4, Created: k.Created}}
		keyRecord(rec, k)
		_, rec.Diff = changesOf(policy.Diff(&policy.Policy{}, k.Policy))
		if req.Like != "" {
			rec.Diff += "\nlike: " + req.Like
		}
		if req.Unverified {
			rec.Diff += "\nunverified: yes"
		}
		if err := putKey(tx, k); err != nil {
			return err
		}
		out = KeyCreated{
			ID: string(k.ID), Name: k.Name, Upstream: u.Name, Mode: u.Mode.String(),
			Created: k.Created.UTC(), Expires: k.Expires, Warnings: warnings, RestrictedKey: s.restrictedKey(p, u.Mode),
		}
		return remember(ctx, tx, out)
	})
	if err != nil {
		return KeyCreated{}, err
	}
	out.Key = secret.Reveal()
	return out, s.showKey(k)
}

// proposed reads what a key would be and judges it; own is the id of the key that it would be, if there is one. One refusal
// says everything that is wrong: also where the policy cannot be read, what was said beside it is judged.
func (s *Service) proposed(req KeyRequest, own policy.KeyID) (p *policy.Policy, warnings []string, u *vault.Upstream, err error) {
	file, text, name, unsaid := s.source(req)
	upstream := req.Upstream
	var unread, unnamed, nowhere error
	if unsaid == nil {
		p, warnings, unread = s.parse(file, text, name, req.PolicyEdit)
	}
	if p != nil {
		name, upstream = p.Name, cmp.Or(upstream, p.Upstream)
	}
	if p != nil || name != "" && !speaksOf(unread, "body.policy.name") {
		unnamed = s.checkName(name, file, own)
	}
	if p != nil || upstream != "" {
		u, nowhere = s.upstreamFor(upstream)
		nowhere = located("body.upstream", nowhere)
	}
	if err := together(unsaid, unread, unnamed, nowhere); err != nil {
		return nil, nil, nil, err
	}
	if err := policy.CheckMode(p, u.Mode == vault.Live); err != nil {
		return nil, nil, nil, wrong("body.policy", "%v", err)
	}
	return p, warnings, u, nil
}

// checkName judges a key's name, which no other key than its own may have.
func (s *Service) checkName(name, file string, own policy.KeyID) error {
	if name == "" {
		return wrong("body.name", "the key needs a name: --name agent-<role>-<action>-<runner-id>, or `name:` in %s", file)
	}
	if err := vault.CheckName(name); err != nil {
		return wrong("body.name", "%v", err)
	}
	if other, taken := s.Ring.FindKey(name); taken && other.ID != own {
		return refuse(Conflict, "there is a vault key %s; choose another name", name).at("body.name")
	}
	return nil
}

// source finds the policy text that a request names, the file's name for messages, and the key's name.
func (s *Service) source(req KeyRequest) (file string, text []byte, name string, err error) {
	given := 0
	for _, is := range []bool{req.Preset != "", req.Policy != "", req.Like != ""} {
		if is {
			given++
		}
	}
	name = req.Name
	if given != 1 {
		return "", nil, name, wrong("body.policy", "say what the key may do with one of --preset, --policy and --like")
	}
	switch {
	case req.Preset != "":
		preset, err := policy.FindPreset(req.Preset)
		if err != nil {
			return "", nil, name, wrong("body.preset", "%v", err)
		}
		if name == "" {
			name = "agent-" + preset.Name + "-" + runner() // agent-refund-support-<runner>: role and action
			if !strings.Contains(preset.Name, "-") {
				name = "agent-finance-" + preset.Name + "-" + runner()
			}
		}
		return "preset " + preset.Name, preset.YAML, name, nil
	case req.Like != "":
		like, err := s.key(req.Like)
		if err != nil {
			return "", nil, name, located("body.like", err)
		}
		if name == "" {
			name = like.Name + "-" + runner()
		}
		return "policy of " + like.Name, policy.Format(s.whole(like)), name, nil
	default:
		return policyFile(req.PolicyEdit), []byte(req.Policy), name, nil
	}
}

func policyFile(e PolicyEdit) string {
	if e.PolicyFile == "" {
		return "policy"
	}
	return e.PolicyFile
}

// runner makes up the last part of a name.
func runner() string { return strings.ToLower(rand.Text()[:6]) }

// parse reads a policy with its edits; what is wrong comes as lines `file:line:column: message`.
func (s *Service) parse(file string, text []byte, name string, e PolicyEdit) (*policy.Policy, []string, error) {
	var bad faults
	edit := s.edit(name, e, &bad)
	p, warned, err := policy.ParseEdited(file, text, s.Vocabulary, edit)
	var refused *policy.ParseError
	switch {
	case errors.As(err, &refused):
		bad.add("body.policy", refusedPolicy(refused))
	case err != nil:
		return nil, nil, fmt.Errorf("parse %s: %w", file, err)
	}
	if err := bad.refusal(); err != nil {
		return nil, nil, err
	}
	warnings := []string{}
	for _, w := range warned {
		warnings = append(warnings, w.In(path.Base(file)))
	}
	return p, warnings, nil
}

// edit reads what flags change on a policy; what is wrong with them goes into bad.
func (s *Service) edit(name string, e PolicyEdit, bad *faults) policy.Edit {
	edit := policy.Edit{Name: name}
	for i, flag := range e.Caps {
		c, err := policy.ParseCapFlag(flag)
		bad.add(fmt.Sprintf("body.caps[%d]", i), err)
		if err == nil {
			edit.Caps = append(edit.Caps, c)
		}
	}
	if len(e.Customers) > 0 {
		customers, err := policy.ParseCustomerFlags(e.Customers)
		bad.add("body.customers", err)
		if err == nil {
			edit.Customers = &customers
		}
	}
	var err error
	edit.Expires, err = s.expiry(e.Expires)
	bad.add("body.expires", err)
	if e.RotateEvery != "" {
		if edit.RotateEvery, err = policy.ParseSpan(e.RotateEvery); err != nil {
			bad.add("body.rotate_every", fmt.Errorf("rotate_every: %w", err))
		}
	}
	return edit
}

// upstreamFor finds the upstream with an id or a name, or without one the only one.
func (s *Service) upstreamFor(name string) (*vault.Upstream, error) {
	if name != "" {
		return s.upstream(name)
	}
	all := s.Ring.Upstreams()
	switch len(all) {
	case 0:
		return nil, refuse(Conflict, "there is no upstream yet; add one with `keybrake upstream add NAME --secret-stdin`")
	case 1:
		return all[0], nil
	default:
		names := make([]string, len(all))
		for i, u := range all {
			names[i] = u.Name
		}
		return nil, refuse(Invalid, "there are several upstreams, name one with --upstream: %s", strings.Join(names, ", "))
	}
}

// KeyUpdate asks to change what a key may do. Without Policy the present one is edited.
type KeyUpdate struct {
	Name string `json:"name,omitempty"`
	PolicyEdit
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"required if the key may do more afterwards"`
	// IfMatch is the version that the edit was made for; empty: the present one, whichever that is.
	IfMatch string `json:"-"`
}

// UpdateKey changes a key's policy or name. Whatever lets the key do more needs a reason; what is not mere lowering, an
// admin. A cap that was not
// there before counts what its window has seen already, which takes its time for a key with millions of calls;
// calls and other changes go on meanwhile. An expiry given as a span counts from the key's creation, as before.
func (s *Service) UpdateKey(ctx context.Context, who Actor, idOrName string, req KeyUpdate) (KeyChanged, error) {
	var seeding store.Seeding
	for {
		changed, done, err := s.updateKey(ctx, who, idOrName, req, &seeding)
		if err != nil || done {
			return changed, err
		}
		if err := s.Store.Seed(ctx, &seeding); err != nil {
			return KeyChanged{}, understood("count for the new caps", err)
		}
	}
}

// updateKey changes the key if the seeding is one for the caps that it gets. If it is not, because it is the first
// try or somebody else changed the key meanwhile, it says which seeding is needed and nothing else is done.
func (s *Service) updateKey(ctx context.Context, who Actor, idOrName string, req KeyUpdate, seeding *store.Seeding) (out KeyChanged, done bool, err error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	present, err := s.key(idOrName)
	if err != nil {
		return out, false, err
	}
	if err := unchanged("the vault key "+present.Name, req.IfMatch, keyTag(present)); err != nil {
		return out, false, err
	}
	before := s.whole(present)
	file, text := "policy of "+present.Name, policy.Format(before)
	if req.Policy != "" {
		file, text = policyFile(req.PolicyEdit), []byte(req.Policy)
	}
	after, warnings, err := s.parse(file, text, req.Name, req.PolicyEdit)
	if err != nil {
		return out, false, err
	}
	if err := s.checkUpdate(who, present, before, after, req.Reason); err != nil {
		return out, false, err
	}
	added := newCaps(before, after)
	if len(added) > 0 && !seeding.Covers(present.ID, added, after.Timezone) {
		*seeding = store.Seeding{Key: present.ID, Caps: added, Zone: after.Timezone}
		return out, false, nil
	}
	changes, diff := changesOf(policy.Diff(before, after))
	err = s.changeKey(ctx, who, "key.update", string(present.ID), func(k *vault.Key, tx store.Tx, rec *audit.Record) error {
		if len(added) > 0 {
			if err := tx.Seed(*seeding); err != nil {
				return err
			}
		}
		k.Name, k.Policy = after.Name, bare(after)
		k.PolicyDigest, k.Expires = policy.Digest(k.Policy), after.Expires.Deadline(k.Created)
		rec.Diff, rec.Reason = diff, req.Reason
		return nil
	})
	if err != nil {
		return out, false, err
	}
	return KeyChanged{ID: string(present.ID), Name: after.Name, Changes: changes, Warnings: warnings, ETag: s.keyTagNow(present.ID)}, true, nil
}

func (s *Service) checkUpdate(who Actor, k *vault.Key, before, after *policy.Policy, reason string) error {
	if after.Name == "" {
		after.Name = before.Name
	}
	if after.Upstream == "" {
		after.Upstream = before.Upstream
	}
	if u, ok := s.Ring.FindUpstream(after.Upstream); !ok || u.ID != k.Upstream {
		return refuse(Conflict, "a vault key stays with its upstream %s; create another key for %s", before.Upstream, after.Upstream)
	}
	after.Upstream = before.Upstream // an id is as good as the name
	var bad faults
	bad.add("body.name", s.checkName(after.Name, "", k.ID))
	bad.add("body.policy", policy.CheckMode(after, k.Mode == vault.Live))
	if !who.Role.May(vault.ToChange) && (!who.Role.May(vault.ToLower) || !policy.Lowers(before, after)) {
		_, diff := changesOf(policy.Diff(before, after))
		return refuse(Forbidden, "this is more than lowering what the key may do, which only an admin may:\n%s", diff)
	}
	if policy.Widens(before, after) && strings.TrimSpace(reason) == "" {
		_, diff := changesOf(policy.Diff(before, after))
		bad.add("", wrong("body.reason", "the key could do more than before, which needs a reason (--reason):\n%s", diff))
	}
	return bad.refusal()
}

// newCaps lists the caps whose account does not show yet what their window has seen: those that were not
// there, and in another time zone all whose windows have other bounds there.
func newCaps(before, after *policy.Policy) []policy.Cap {
	var out []policy.Cap
	moved := before.Timezone.String() != after.Timezone.String()
	for _, c := range after.Caps {
		had := slices.ContainsFunc(before.Caps, func(o policy.Cap) bool {
			return o.Resource == c.Resource && o.Per == c.Per && o.Unit == c.Unit
		})
		if c.Per != policy.PerCall && (!had || moved && c.Per != policy.PerTotal) {
			out = append(out, c)
		}
	}
	return out
}
