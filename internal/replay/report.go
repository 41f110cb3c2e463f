package replay

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Tally counts calls. Asked is what they asked for in dollars, at the rates of then, as far as it was known; Moved what
// their answers said that they moved.
type Tally struct {
	Calls        int64
	Asked, Moved money.USD
}

// Verdicts counts calls by what was decided then and what the policy would have decided.
type Verdicts struct {
	Allowed      Tally // then and under the policy
	Refused      Tally // then and under the policy
	NewlyRefused Tally // allowed then, refused under the policy
	NewlyAllowed Tally // refused then, allowed under the policy
	Untold       Tally // nobody can tell from the record
}

func (v *Verdicts) of(allowed bool, now verdict) *Tally {
	switch {
	case now == untold:
		return &v.Untold
	case allowed && now == allowing:
		return &v.Allowed
	case allowed:
		return &v.NewlyRefused
	case now == allowing:
		return &v.NewlyAllowed
	default:
		return &v.Refused
	}
}

// Report is what a replay found.
type Report struct {
	// First and Last are when the first and the last record were written that were judged; zero: there were none.
	First, Last time.Time
	Records     int64 // that were read, those of before included
	Calls       int64
	Verdicts
	// Other is how many of Refused were refused for what no policy decides.
	Other int64
	// Uncounted is how many calls of before the replay may count in its windows and could not be counted.
	Uncounted int64
	// Forgotten is how many later words about calls came after those were let go of, and changed nothing.
	Forgotten int64

	Rules   []RuleTally   // that would refuse what was allowed, the most calls first
	Lifted  []RuleTally   // that had refused what the policy would let pass
	Reasons []ReasonTally // why calls cannot be told
	Days    []DayTally    // by day, then resource
	Caps    []Peak        // in the policy's order
	Keys    []KeyTally    // the most changed first, at most MaxKeys
	KeysCut bool

	// The first calls of each kind.
	RefusedCalls, AllowedCalls, UntoldCalls []Example
}

// RuleTally is what one rule decides.
type RuleTally struct {
	Rule string
	Code policy.Code
	Tally
}

// ReasonTally is why calls cannot be told.
type ReasonTally struct {
	Why string
	Tally
}

// DayTally is one resource on one day of the policy's time zone: the bucket that money counts in, or the operation's own
// where it moves none.
type DayTally struct {
	Day      string // 2026-11-23
	Resource policy.Resource
	Verdicts
}

// KeyTally is one key.
type KeyTally struct {
	ID   policy.KeyID
	Name string
	Verdicts
}

// Peak is how close the calls came to a cap: the fullest window of any key, or for a cap per call the largest call that
// passes. Used is in the cap's unit.
type Peak struct {
	Cap  policy.Cap
	Used int64
	Key  policy.KeyID
	At   time.Time // of the call with which it stood so; zero: nothing counted
	// Window is the window's name: "2026-11-23", "2026-W48"; empty for a cap per call.
	Window string
	// Refuses is how many calls it refuses, of those that were allowed then and those that were not.
	Refuses int64
}

// Example is one call.
type Example struct {
	Record    string // its id
	At        time.Time
	Key       policy.KeyID
	KeyName   string
	Operation policy.OperationName
	Object    string
	Customers []policy.CustomerID
	Asked     money.USD
	// Rule and Message are those that refuse it, or, of one that would pass, that refused it then. Why is what the record
	// does not say.
	Rule, Message, Why string
}

// Bounds of a report.
const (
	MaxKeys  = 50
	maxDays  = 10_000
	maxRules = 1_000
)

// collector builds a report.
type collector struct {
	out      Report
	policy   *policy.Policy
	examples int
	rules    map[ruleKey]*RuleTally
	lifted   map[ruleKey]*RuleTally
	reasons  map[string]*ReasonTally
	days     map[dayKey]*DayTally
	named    map[int64]string // days, by the quarter of an hour: a day is named once in each
}

type ruleKey struct {
	rule string
	code policy.Code
}

type dayKey struct {
	day      string
	resource policy.Resource
}

// told is a count that learns what a call moved; on bucket only, if that is set.
type told struct {
	tally  *Tally
	bucket policy.Resource
}

func (c *collector) begin(p *policy.Policy, examples int) {
	c.policy, c.examples = p, examples
	c.rules, c.lifted = map[ruleKey]*RuleTally{}, map[ruleKey]*RuleTally{}
	c.reasons, c.days, c.named = map[string]*ReasonTally{}, map[dayKey]*DayTally{}, map[int64]string{}
	for _, one := range p.Caps {
		c.out.Caps = append(c.out.Caps, Peak{Cap: one})
	}
}

func (c *collector) reached(at time.Time) {
	if c.out.First.IsZero() {
		c.out.First = at
	}
	c.out.Last = at
}

// call counts a call, and returns where it is to be told what it moved.
func (c *collector) call(rec *audit.Record, p *principal, f finding, allowed bool) []told {
	c.out.Calls++
	if f.other {
		c.out.Other++
	}
	where := []told{{c.out.of(allowed, f.verdict), ""}, {p.tally.of(allowed, f.verdict), ""}}
	switch {
	case f.verdict == untold:
		where = append(where, told{&c.reason(f.why).Tally, ""})
		c.example(&c.out.UntoldCalls, rec, "", "", f.why)
	case f.verdict == denying && allowed:
		where = append(where, told{&rule(c.rules, &f.failure).Tally, ""})
		c.example(&c.out.RefusedCalls, rec, f.failure.Rule, f.failure.Message, "")
	case f.verdict == allowing && !allowed && len(rec.Failures) > 0:
		was := &rec.Failures[0]
		where = append(where, told{&rule(c.lifted, was).Tally, ""})
		c.example(&c.out.AllowedCalls, rec, was.Rule, was.Message, "")
	}
	if f.verdict == denying && f.failure.Cap != nil && !f.other {
		c.refuses(f.failure.Cap.Cap)
	}
	if f.verdict == allowing {
		c.perCall(rec)
	}
	where = append(where, c.resources(rec, allowed, f.verdict)...)
	for _, w := range where {
		w.tally.Calls++
		w.tally.Asked = plus(w.tally.Asked, w.sum(rec))
	}
	return where
}

// sum adds up a record's money, as far as it concerns the count.
func (w *told) sum(rec *audit.Record) (usd money.USD) {
	for i := range rec.Effects {
		if e := &rec.Effects[i]; w.bucket == "" || e.Bucket == string(w.bucket) {
			usd = plus(usd, e.USD)
		}
	}
	return usd
}

// resources are the rows of the day that a call belongs to.
func (c *collector) resources(rec *audit.Record, allowed bool, v verdict) (out []told) {
	add := func(r policy.Resource) {
		k := dayKey{c.day(rec.At), r}
		d := c.days[k]
		if d == nil {
			if len(c.days) >= maxDays {
				return
			}
			d = &DayTally{Day: k.day, Resource: r}
			c.days[k] = d
		}
		out = append(out, told{d.of(allowed, v), r})
	}
	for i := range rec.Effects {
		if !slices.ContainsFunc(rec.Effects[:i], func(e audit.Effect) bool { return e.Bucket == rec.Effects[i].Bucket }) {
			add(policy.Resource(rec.Effects[i].Bucket))
		}
	}
	if len(rec.Effects) == 0 && rec.Operation != "" {
		add(audit.ResourceOf(rec.Operation))
	}
	return out
}

func (c *collector) day(at time.Time) string {
	quarter := at.Unix() / 900 // no zone changes its day within a quarter of an hour
	name, ok := c.named[quarter]
	if !ok {
		if len(c.named) > 1_000 {
			clear(c.named)
		}
		name = ledger.Label(policy.PerDay, at, c.policy.Timezone)
		c.named[quarter] = name
	}
	return name
}

// folded counts refusals that have no record of their own.
func (c *collector) folded(rec *audit.Record, p *principal, f finding) {
	c.out.Calls += rec.Count
	if f.other {
		c.out.Other += rec.Count
	}
	c.out.of(false, f.verdict).Calls += rec.Count
	p.tally.of(false, f.verdict).Calls += rec.Count
	if f.verdict == untold {
		c.reason(f.why).Calls += rec.Count
	}
	if f.verdict == denying && f.failure.Cap != nil && !f.other {
		for i := range c.out.Caps {
			if c.out.Caps[i].Cap == f.failure.Cap.Cap {
				c.out.Caps[i].Refuses += rec.Count
			}
		}
	}
}

// withheld takes a read back that was counted as allowed: its answer would not have been shown.
func (c *collector) withheld(read *shown, p *principal, f policy.Failure) {
	for _, w := range read.where {
		w.tally.Calls--
	}
	c.out.Calls--
	c.call(read.rec, p, refusing(f), true)
}

func rule(in map[ruleKey]*RuleTally, f *policy.Failure) *RuleTally {
	k := ruleKey{f.Rule, f.Code}
	t := in[k]
	if t == nil {
		if len(in) >= maxRules {
			k = ruleKey{"others", ""}
			if t = in[k]; t != nil {
				return t
			}
		}
		t = &RuleTally{Rule: k.rule, Code: k.code}
		in[k] = t
	}
	return t
}

func (c *collector) reason(why string) *ReasonTally {
	t := c.reasons[why]
	if t == nil {
		t = &ReasonTally{Why: why}
		c.reasons[why] = t
	}
	return t
}

func (c *collector) example(list *[]Example, rec *audit.Record, rule, message, why string) {
	if len(*list) >= c.examples {
		return
	}
	all := told{}
	*list = append(*list, Example{
		Record: audit.ID(audit.FirstChain, rec.Seq), At: rec.At, Key: rec.Key, KeyName: rec.KeyName, Operation: rec.Operation,
		Object: rec.Object, Customers: rec.Customers, Asked: all.sum(rec), Rule: rule, Message: message, Why: why,
	})
}

func (c *collector) refuses(by policy.Cap) {
	for i := range c.out.Caps {
		if c.out.Caps[i].Cap == by {
			c.out.Caps[i].Refuses++
		}
	}
}

// used notes how an account stands after a call.
func (c *collector) used(k ledger.AccountKey, rec *audit.Record, used int64) {
	for i := range c.out.Caps {
		p := &c.out.Caps[i]
		if p.Cap.Resource == k.Resource && p.Cap.Per == k.Per && p.Cap.Unit == k.Unit && used > p.Used {
			p.Used, p.Key, p.At, p.Window = used, rec.Key, rec.At, k.Label
		}
	}
}

// perCall notes the largest call under the caps per call.
func (c *collector) perCall(rec *audit.Record) {
	for i := range c.out.Caps {
		p := &c.out.Caps[i]
		if p.Cap.Per != policy.PerCall || p.Cap.Unit != policy.UnitUSD {
			continue
		}
		w := told{bucket: p.Cap.Resource}
		if w.bucket == policy.AllResources {
			w.bucket = ""
		}
		if usd := int64(w.sum(rec)); usd > p.Used {
			p.Used, p.Key, p.At = usd, rec.Key, rec.At
		}
	}
}

// end puts everything in order.
func (c *collector) end(keys []*principal) *Report {
	out := &c.out
	out.Rules, out.Lifted = rulesOf(c.rules), rulesOf(c.lifted)
	for _, r := range c.reasons {
		out.Reasons = append(out.Reasons, *r)
	}
	slices.SortFunc(out.Reasons, func(a, b ReasonTally) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Why, b.Why))
	})
	for _, d := range c.days {
		out.Days = append(out.Days, *d)
	}
	slices.SortFunc(out.Days, func(a, b DayTally) int {
		return cmp.Or(strings.Compare(a.Day, b.Day), strings.Compare(string(a.Resource), string(b.Resource)))
	})
	for _, k := range keys {
		if k.tally.Verdicts != (Verdicts{}) {
			out.Keys = append(out.Keys, *k.tally)
		}
	}
	changed := func(k *KeyTally) int64 { return k.NewlyRefused.Calls + k.NewlyAllowed.Calls + k.Untold.Calls }
	slices.SortFunc(out.Keys, func(a, b KeyTally) int {
		return cmp.Or(cmp.Compare(changed(&b), changed(&a)), strings.Compare(string(a.ID), string(b.ID)))
	})
	if len(out.Keys) > MaxKeys {
		out.Keys, out.KeysCut = out.Keys[:MaxKeys], true
	}
	return out
}

func rulesOf(in map[ruleKey]*RuleTally) []RuleTally {
	out := make([]RuleTally, 0, len(in))
	for _, r := range in {
		if r.Calls > 0 {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b RuleTally) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Rule, b.Rule), strings.Compare(string(a.Code), string(b.Code)))
	})
	return out
}
