package replay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
)

// verdict is what the policy would have said. The zero verdict is that nobody can tell.
type verdict uint8

const (
	untold verdict = iota
	denying
	allowing
)

// finding is what the policy would have said about a call.
type finding struct {
	verdict verdict
	failure policy.Failure // of denying: the rule that decides
	why     string         // of untold: what the record does not say, as a sentence
	// other: the call was refused for what no policy decides.
	other bool
}

func refusing(f policy.Failure) finding { return finding{verdict: denying, failure: f} }

func untellable(format string, args ...any) finding {
	return finding{why: fmt.Sprintf(format, args...)}
}

// What a record may lack.
const (
	lacksAmount   = "the amount was not looked up, because the call was refused before"
	lacksWaived   = "the amount was not looked up, because the policy of then did not count it"
	lacksCustomer = "whose the objects are was not looked up"
	lacksList     = "the record names only the first of many customers"
	lacksAll      = "the record does not say what was judged"
	lacksLikeness = "only the first of equal refusals has a record of its own"
)

// judge says what the policy would have said about a call, its caps over time left out, and returns the operation as the
// policy would have judged it; nil if the record does not tell it.
func (r *Replay) judge(rec *audit.Record, p *principal) (finding, *policy.Operation) {
	if f, other := r.elsewhere(rec, p); other {
		return f, nil
	}
	if f := outside(rec, p); f != nil {
		return refusing(*f), nil
	}
	rebuilt, ok := rec.Rejudge()
	if !ok {
		return unread(rec, p), nil
	}
	op := r.waived(&rebuilt)
	d := policy.Decide(p.policy, op)
	if d.Verdict == policy.Allow && !op.Resolved && !op.NeedsLookup(p.policy) {
		op.Resolved = true // nothing that this policy asks is open
		d = policy.Decide(p.policy, op)
	}
	if d.Verdict == policy.Deny {
		return refusing(*d.First()), op
	}
	broken, unsure := r.broken(rec)
	switch {
	case broken != nil:
		return refusing(*broken), op
	case !op.Resolved:
		return r.unresolved(rec, p, op), op
	case len(rec.Customers) >= audit.MaxCustomers && !p.policy.Customers.Any:
		return untellable(lacksList), op
	case unsure != "":
		return untellable("%s", unsure), op
	}
	return finding{verdict: allowing}, op
}

// unread judges a call that was not read to its end, or whose record is from before records told what was judged: it can
// be refused for certain, by its scope, and no more.
func unread(rec *audit.Record, p *principal) finding {
	if rec.Operation != "" && rec.Access != policy.None {
		d := policy.Decide(p.policy, &policy.Operation{
			Name: rec.Operation, Resource: audit.ResourceOf(rec.Operation), Access: rec.Access, Customer: policy.CustomerTie{Kind: policy.TieNone},
		})
		if d.Verdict == policy.Deny {
			return refusing(*d.First())
		}
	}
	return untellable(lacksAll)
}

// elsewhere says that a call was refused for what no policy decides: the request itself, the key, a brake, an idempotency
// key, the upstream. Another policy changes nothing about that.
func (r *Replay) elsewhere(rec *audit.Record, p *principal) (finding, bool) {
	if rec.Kind == audit.KindIntent || len(rec.Failures) == 0 {
		return finding{}, false
	}
	f := rec.Failures[0]
	same := finding{verdict: denying, failure: f, other: true}
	switch f.Code {
	case policy.CodeScopeDenied, policy.CodeAccountDenied, policy.CodeCapExceeded, policy.CodeUncapped, policy.CodeUnmeterable,
		policy.CodeNoRate, policy.CodeKeyNetwork:
		return finding{}, false
	case policy.CodeKeyExpired:
		return finding{}, false
	case policy.CodeOutcomePending:
		return same, !p.policy.RepeatUnknown
	case policy.CodeParamDenied:
		return same, !strings.HasPrefix(f.Rule, "params.")
	case policy.CodeCustomerDenied:
		// An object that could not be found is foreign under a list; under `any` the vendor would have been asked.
		return same, f.Rule == "catalog" && !p.policy.Customers.Any
	default:
		return same, true
	}
}

// outside says that the key would have ended by then, or may not be used from there.
func outside(rec *audit.Record, p *principal) *policy.Failure {
	if !p.ends.IsZero() && !rec.At.Before(p.ends) {
		return &policy.Failure{Code: policy.CodeKeyExpired, Rule: "expires", Message: "The key would have expired by then."}
	}
	from, err := netip.ParseAddr(rec.From)
	if err == nil && !p.policy.AllowsFrom(from) {
		return &policy.Failure{Code: policy.CodeKeyNetwork, Rule: "network", Message: "The address " + rec.From + " is not within the policy's `network`."}
	}
	return nil
}

// waived applies the policy's `unmetered` as it would have been applied before anything was looked up. It changes op.
func (r *Replay) waived(op *policy.Operation) *policy.Operation {
	for i := range op.Effects {
		if e := &op.Effects[i]; e.LookedUp {
			e.Known = false
		}
	}
	r.policy.Waive(op)
	for i := range op.Effects {
		if e := &op.Effects[i]; e.LookedUp {
			e.Known = !e.Unmeterable
		}
	}
	return op
}

// unresolved judges a call of which the record leaves open what the policy asks: it can still be refused for certain,
// by a cap that is full.
func (r *Replay) unresolved(rec *audit.Record, p *principal, op *policy.Operation) finding {
	if full := r.full(rec, p, op); full != nil {
		return refusing(*full)
	}
	for _, o := range rec.Open {
		switch {
		case o.Waived:
			return untellable(lacksWaived)
		case !o.Unbound:
			return untellable(lacksAmount)
		}
	}
	return untellable(lacksCustomer)
}

// full says that a cap over time has no room for what a call surely asks of it.
func (r *Replay) full(rec *audit.Record, p *principal, op *policy.Operation) *policy.Failure {
	for _, c := range p.policy.Caps {
		for _, ask := range op.Asks(c) {
			k := ledger.AccountKey{
				Key: rec.Key, Resource: c.Resource, Per: c.Per, Unit: c.Unit, Label: ledger.Label(c.Per, rec.At, p.policy.Timezone),
			}
			account, err := r.books.book().Account(k)
			if err != nil {
				return nil // nothing of what the books hold in memory fails
			}
			left := ledger.Left(account, c.Limit)
			if left >= max(ask.Asked, 1) {
				continue
			}
			full := policy.CapFailure{
				Cap: c, Held: account.Held, Settled: account.Settled, Asked: ask.Asked, Left: left, WouldAdmitAtMost: left, AskedInCurrency: ask.Amount,
			}
			if at := ledger.ResetsAt(c.Per, rec.At, p.policy.Timezone); !at.IsZero() {
				full.ResetsAtUnix = at.Unix()
			}
			f := full.Failure()
			return &f
		}
	}
	return nil
}

// broken judges the rules on parameters by the parameters' names and by what the same rules found then. unsure says which
// value would have to be known.
func (r *Replay) broken(rec *audit.Record) (broken *policy.Failure, unsure string) {
	rules := r.params[rec.Operation]
	if len(rules) == 0 {
		return nil, ""
	}
	for _, path := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[path]
		breaks, certain := r.param(rec, path, &rule)
		name := "params." + string(rec.Operation) + "." + path
		switch {
		case !certain:
			unsure = "the value of `" + path + "` is not on record, and `" + name + "` asks for it"
		case breaks:
			return &policy.Failure{
				Code: policy.CodeParamDenied, Rule: name, Param: path, Soft: true,
				Message: "The parameter `" + path + "` of " + string(rec.Operation) + " breaks the policy's rule on it.",
			}, ""
		}
	}
	return nil, unsure
}

func (r *Replay) param(rec *audit.Record, path string, rule *policy.ParamRule) (breaks, certain bool) {
	has, known := rec.Has(path)
	if known {
		if breaks, certain = rule.ByPresence(has); certain {
			return breaks, true
		}
	}
	if r.stood == nil {
		return false, false
	}
	then := r.stood(rec.Policy)
	if then == nil {
		return false, false
	}
	old, ok := then.Params[rec.Operation][path]
	if !ok {
		return false, false
	}
	name := "params." + string(rec.Operation) + "." + path
	if broke := slices.ContainsFunc(rec.Failures, func(f policy.Failure) bool { return f.Rule == name }); broke {
		return true, rule.AtLeast(&old)
	}
	return false, old.AtLeast(rule)
}

// maxDenied bounds the refusals that are remembered for those which were counted with them, within a second or two.
const maxDenied = 16_384

// denies remembers what was found about a refused call, as far as it holds for those that were counted with it.
func (r *Replay) denies(rec *audit.Record, p *principal, f finding) {
	seq := rec.Seq
	if !r.alike(rec, p, f) {
		f = untellable(lacksLikeness)
	}
	if len(r.age) >= maxDenied {
		for _, old := range r.age[:maxDenied/2] {
			delete(r.denied, old)
		}
		r.age = slices.Clone(r.age[maxDenied/2:])
	}
	r.denied[seq] = f
	r.age = append(r.age, seq)
}

// alike reports whether calls that were refused with a call, for the same rule and within a second, are refused by the policy
// as that one is. Their amounts and customers are not on record.
func (r *Replay) alike(rec *audit.Record, p *principal, f finding) bool {
	if f.verdict != denying || len(rec.Failures) == 0 {
		return false
	}
	was := &rec.Failures[0]
	switch {
	case f.other, f.failure.Code == policy.CodeKeyExpired, p.policy.Scope(audit.ResourceOf(rec.Operation)) < rec.Access:
		return true
	case f.failure.Cap != nil:
		// They asked for more than was left then: here no more is left.
		c := f.failure.Cap.Cap
		return slices.ContainsFunc(rec.Caps, func(then audit.Cap) bool {
			same := then.Resource == string(c.Resource) && then.Per == c.Per.String() && then.Unit == c.Unit
			return same && f.failure.Cap.Left <= then.Left
		})
	default:
		return r.sameRules(rec.Policy) && was.Rule == f.failure.Rule && was.Code == f.failure.Code
	}
}

// folded takes refusals that were counted with an earlier one, since they were equal: same key, operation and rule, within
// about a second. Their amounts and customers are not on record.
func (r *Replay) folded(rec *audit.Record) {
	if rec.At.Before(r.since) {
		return
	}
	f, ok := r.denied[rec.Ref]
	if !ok {
		f = untellable(lacksLikeness)
	}
	r.report.folded(rec, r.principal(rec), f)
}

// shown is a read that the policy lets through, until its answer says whose objects it shows.
type shown struct {
	rec   *audit.Record
	where []told
}

// maxReads bounds the reads that wait for the record of their answer: some are never written.
const maxReads = 16_384

// showing waits for the answer of a read: under a list of customers it is guarded.
func (r *Replay) showing(rec *audit.Record, where []told) {
	if len(r.reads) >= maxReads {
		clear(r.reads)
	}
	r.reads[rec.Seq] = &shown{rec, where}
}

// answered judges the answer of a read under a list of customers: one that names a foreign customer would have been
// withheld.
func (r *Replay) answered(rec *audit.Record) {
	read := r.reads[rec.Ref]
	if read == nil {
		return
	}
	delete(r.reads, rec.Ref)
	p := r.principal(rec)
	withheld := func(f policy.Failure) bool { return f.Code == policy.CodeCustomerDenied }
	was := slices.ContainsFunc(rec.Failures, withheld)
	foreign := slices.ContainsFunc(rec.Customers, func(c policy.CustomerID) bool { return !p.policy.Customers.Allows(c) })
	if was || !foreign {
		return
	}
	r.report.withheld(read, p, policy.Failure{
		Code: policy.CodeCustomerDenied, Rule: "customers", Message: "The answer showed a customer that is not among the policy's customers.",
	})
}
