// Package replay runs a policy over recorded calls and says what it would have refused and what it would have let pass.
// It judges with the gateway's own rules (policy.Decide) and counts in books of its own by the ledger's (ledger.Book),
// from nothing but audit records, in their order. It knows no clock and no store.
//
// It never guesses. Where a record does not say what a rule asks, the call is counted as one that cannot be told, and goes
// on counting as it was decided then. The policy is judged as if it were enforced, also one in shadow.
package replay

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Options say what is replayed.
type Options struct {
	// Policy is what is asked about.
	Policy *policy.Policy
	// Since is when the policy comes into force. Calls of before are counted in the windows that are still open then, as
	// they were decided, and not judged. Zero: from the first record on.
	Since time.Time
	// Key says what is known of a key beside its records; nil: nothing of any.
	Key func(policy.KeyID) Key
	// Stood returns the policy with a digest, where it is still known: what it found about a parameter's value, the same
	// rule would find again. Nil: none is known.
	Stood func(digest string) *policy.Policy
	// Examples is how many calls of each kind the report shows; 0 = none.
	Examples int
	// Keep bounds how many calls that are over are kept for what may become of them later; 0 = 50,000.
	Keep int
}

// Key is what is known of a key beside its records. The zero Key is one of which nothing is.
type Key struct {
	Created time.Time
	// Joined are the customers that the key made and that joined its list.
	Joined []policy.CustomerID
}

// Start is the earliest instant whose records a replay from since on needs: the beginning of the longest window that is
// open then; the zero time for all of a key's life.
func Start(p *policy.Policy, since time.Time) time.Time {
	first := since
	for _, c := range p.Caps {
		if c.Per == policy.PerTotal {
			return time.Time{}
		}
		if at := ledger.StartsAt(c.Per, since, p.Timezone); !at.IsZero() && at.Before(first) {
			first = at
		}
	}
	return first
}

// Replay is one run. Not safe for concurrent use.
type Replay struct {
	// policy is judged as if it were enforced, and without its rules on parameters, which the record answers in its own way.
	policy *policy.Policy
	params map[policy.OperationName]map[string]policy.ParamRule
	rules  string          // digest of what refuses calls in the policy
	same   map[string]bool // by the digest of a policy: whether it has the very same rules
	since  time.Time
	about  func(policy.KeyID) Key
	stood  func(digest string) *policy.Policy

	books  books
	keys   map[policy.KeyID]*principal
	calls  map[ledger.ReservationID]*call // by the number of the recorded reservation
	order  []ledger.ReservationID         // of calls, oldest first
	reads  map[int64]*shown               // by the number of the intent: allowed so far, still without an answer
	denied map[int64]finding              // by the number of the record: the latest, for those that were counted with them
	age    []int64                        // of denied, oldest first
	report collector
}

// principal is one key in a replay.
type principal struct {
	policy *policy.Policy // with the customers that joined
	ends   time.Time      // by the policy's expiry; zero = never
	tally  *KeyTally
}

// call is a recorded reservation.
type call struct {
	// mine is the reservation in the replay's books; 0: it holds nothing there, since the policy refuses the call.
	mine ledger.ReservationID
	// counted are the places, among the operation's movements of money, of those that mine holds; known are those of the
	// recorded reservation's.
	counted, known []int
	refused        bool
	where          []told // learns what it moved
}

// New begins a replay.
func New(o Options) *Replay {
	p := *o.Policy
	p.Enforcement, p.Params = policy.Enforce, nil
	if p.Timezone == nil {
		p.Timezone = time.UTC
	}
	if o.Keep <= 0 {
		o.Keep = 50_000
	}
	r := &Replay{
		policy: &p, params: o.Policy.Params, rules: rulesIn(o.Policy), same: map[string]bool{}, since: o.Since, about: o.Key, stood: o.Stood, books: newBooks(o.Keep),
		keys: map[policy.KeyID]*principal{}, calls: map[ledger.ReservationID]*call{}, reads: map[int64]*shown{}, denied: map[int64]finding{},
	}
	r.report.begin(&p, o.Examples)
	return r
}

// rulesIn is a digest of what refuses calls in a policy.
func rulesIn(p *policy.Policy) string {
	bare := *p
	bare.Name, bare.Upstream, bare.Enforcement, bare.RotateEvery = "", "", policy.Enforce, 0
	return policy.Digest(&bare)
}

// sameRules reports whether the policy with a digest is known and refuses what this one does.
func (r *Replay) sameRules(digest string) bool {
	same, known := r.same[digest]
	if !known && r.stood != nil {
		p := r.stood(digest)
		same = p != nil && rulesIn(p) == r.rules
		r.same[digest] = same
	}
	return same
}

// Add takes the next record; records must come in the order of their numbers. An error means that the record does not fit
// what was recorded before it.
func (r *Replay) Add(rec *audit.Record) error {
	r.report.out.Records++
	r.books.now = rec.At
	if rec.Key == "" {
		return nil // no key was recognized, so no policy was asked
	}
	if !rec.At.Before(r.since) {
		r.report.reached(rec.At)
	}
	switch rec.Kind {
	case audit.KindIntent, audit.KindDenied:
		return r.call(rec)
	case audit.KindFolded:
		r.folded(rec)
		return nil
	case audit.KindOutcome, audit.KindReconciled:
		return r.outcome(rec)
	default:
		return nil
	}
}

// principal returns what is known of the record's key.
func (r *Replay) principal(rec *audit.Record) *principal {
	p, ok := r.keys[rec.Key]
	if ok {
		return p
	}
	var k Key
	if r.about != nil {
		k = r.about(rec.Key)
	}
	p = &principal{policy: r.policy, tally: &KeyTally{ID: rec.Key, Name: rec.KeyName}}
	p.join(k.Joined...)
	if !k.Created.IsZero() || !r.policy.Expires.At.IsZero() {
		p.ends = r.policy.Expires.Deadline(k.Created)
	}
	r.keys[rec.Key] = p
	return p
}

// join adds customers to the key's list.
func (p *principal) join(c ...policy.CustomerID) {
	if len(c) == 0 || p.policy.Customers.Any {
		return
	}
	merged := *p.policy
	merged.Customers = merged.Customers.With(c...)
	p.policy = &merged
}

// call judges a call's first record.
func (r *Replay) call(rec *audit.Record) error {
	allowed := rec.Kind == audit.KindIntent
	p := r.principal(rec)
	if rec.At.Before(r.since) {
		return r.warm(rec, p)
	}
	if rec.Repeat == "attached" && allowed {
		if done, err := r.attached(rec); done || err != nil {
			return err
		}
	}
	f, op := r.judge(rec, p)
	if f.verdict == allowing && op.Access == policy.Write {
		full, err := r.hold(rec, p, op, false, allowed)
		if err != nil {
			return err
		}
		if full != nil {
			f = refusing(*full)
		}
	}
	where := r.report.call(rec, p, f, allowed)
	switch {
	case allowed && f.verdict == untold:
		r.remember(ledger.ReservationID(rec.Reservation), &call{})
		if err := r.count(rec, p, op); err != nil {
			return err
		}
	case allowed && f.verdict == denying:
		r.remember(ledger.ReservationID(rec.Reservation), &call{refused: true})
	}
	if c := r.calls[ledger.ReservationID(rec.Reservation)]; c != nil {
		c.where = where
	}
	if allowed && f.verdict == allowing && rec.Reservation == 0 && !p.policy.Customers.Any {
		r.showing(rec, where)
	}
	if !allowed {
		r.denies(rec, p, f)
	}
	return nil
}

// warm counts a call from before the replay as it was decided.
func (r *Replay) warm(rec *audit.Record, p *principal) error {
	if rec.Kind != audit.KindIntent || rec.Repeat == "attached" {
		return nil
	}
	op, ok := rec.Rejudge()
	if !ok {
		if rec.Reservation != 0 {
			r.report.out.Uncounted++
		}
		return nil
	}
	return r.count(rec, p, r.waived(&op))
}

// count holds what a call asks for, whatever the caps say.
func (r *Replay) count(rec *audit.Record, p *principal, op *policy.Operation) error {
	if op == nil || op.Access != policy.Write || rec.Reservation == 0 {
		return nil
	}
	_, err := r.hold(rec, p, op, true, true)
	return err
}

// hold asks the replay's books for what a call needs; full says which cap refuses it. A call that was refused in truth, so
// that nobody knows what it would have moved, counts as if it had moved what it asked for.
func (r *Replay) hold(rec *audit.Record, p *principal, op *policy.Operation, soft, happened bool) (full *policy.Failure, err error) {
	req := &ledger.Request{
		Key: rec.Key, Upstream: rec.Upstream, Operation: op.Name, Customers: op.Customer.Customers, Caps: p.policy.Caps,
		Zone: p.policy.Timezone, Effects: op.Counted(), Counts: op.Counts(), Soft: soft, AuditSeq: rec.Seq,
	}
	mine, fulls, err := r.books.book().Reserve(rec.At, req)
	if err != nil {
		return nil, fmt.Errorf("count record %d: %w", rec.Seq, err)
	}
	if mine == nil {
		if len(fulls) == 0 {
			return nil, nil // more than books can write down, and counted softly
		}
		f := fulls[0].Failure()
		return &f, nil
	}
	if err := r.peaks(rec, mine); err != nil {
		return nil, err
	}
	if !happened {
		fate := ledger.Fate{State: ledger.Settled}
		for i := range mine.Effects {
			fate.Moved = append(fate.Moved, ledger.Moved{Amount: mine.Effects[i].Amount, Object: mine.Effects[i].Object})
		}
		return nil, r.books.resolve(rec.At, mine.ID, fate)
	}
	c := &call{mine: mine.ID}
	for i := range op.Effects {
		if e := &op.Effects[i]; e.Known && !e.Unmeterable {
			c.counted = append(c.counted, i)
		}
	}
	c.known = knownOf(rec)
	r.remember(ledger.ReservationID(rec.Reservation), c)
	return nil, nil
}

// knownOf lists the places of the movements whose amount a record knows, among all of the call.
func knownOf(rec *audit.Record) []int {
	out := make([]int, 0, len(rec.Effects))
	for i := range len(rec.Effects) + len(rec.Open) {
		if !slices.ContainsFunc(rec.Open, func(o audit.Open) bool { return o.At == i }) {
			out = append(out, i)
		}
	}
	return out
}

// peaks notes how far the caps are used by a call.
func (r *Replay) peaks(rec *audit.Record, mine *ledger.Reservation) error {
	if rec.At.Before(r.since) {
		return nil
	}
	for i := range mine.Holds {
		h := &mine.Holds[i]
		account, err := r.books.book().Account(h.Account)
		if err != nil {
			return fmt.Errorf("read the books at record %d: %w", rec.Seq, err)
		}
		r.report.used(h.Account, rec, account.Held+account.Settled)
	}
	return nil
}

// remember keeps a recorded reservation; the oldest go.
func (r *Replay) remember(id ledger.ReservationID, c *call) {
	if id == 0 {
		return
	}
	if _, again := r.calls[id]; !again {
		r.order = append(r.order, id)
	}
	r.calls[id] = c
	if len(r.calls) <= 2*r.books.keep {
		return
	}
	half := len(r.order) / 2
	for _, old := range r.order[:half] {
		if c := r.calls[old]; c.mine == 0 || !r.books.open(c.mine) {
			delete(r.calls, old)
			continue
		}
		r.order = append(r.order, old) // its fate is still to come
	}
	r.order = slices.Clone(r.order[half:])
}

// attached takes a retry that was sent again under the reservation of its first attempt. done is false if the policy
// refuses that attempt, so that the retry is judged as a call of its own.
func (r *Replay) attached(rec *audit.Record) (done bool, err error) {
	c := r.calls[ledger.ReservationID(rec.Reservation)]
	if c != nil && c.refused {
		return false, nil
	}
	r.report.call(rec, r.principal(rec), finding{verdict: allowing}, true)
	if c == nil || c.mine == 0 || !r.books.open(c.mine) {
		return true, nil
	}
	return true, r.books.book().Resent(rec.At, c.mine)
}

// outcome takes what became of a call, or of an object later.
func (r *Replay) outcome(rec *audit.Record) error {
	if rec.Kind == audit.KindReconciled && rec.Reservation == 0 {
		return r.learned(rec)
	}
	if rec.Reservation == 0 {
		r.answered(rec)
		return nil
	}
	c := r.calls[ledger.ReservationID(rec.Reservation)]
	if c == nil {
		return nil // from before the replay, or a second run, which no policy would have stopped
	}
	if rec.Fate == fateMoved && rec.Proof == "" {
		c.moved(rec)
	}
	if p := r.principal(rec); rec.Created != "" && !c.refused && rec.Fate == fateMoved {
		p.join(rec.Created)
	}
	if c.mine == 0 {
		return nil
	}
	fate := c.fate(rec)
	for _, f := range rec.Finals {
		fate.Finals = append(fate.Finals, final(f))
	}
	return r.books.resolve(rec.At, c.mine, fate)
}

// fateMoved is how a record says that money moved.
const fateMoved = "moved"

func final(f audit.Final) ledger.Final {
	return ledger.Final{Bucket: policy.Resource(f.Bucket), Object: policy.ObjectID(f.Object), Amount: f.Amount}
}

// moved adds what a call moved to where it is told, once.
func (c *call) moved(rec *audit.Record) {
	for _, w := range c.where {
		w.tally.Moved = plus(w.tally.Moved, w.sum(rec))
	}
	c.where = nil
}

// fate is what a record says about the reservation in the replay's books.
func (c *call) fate(rec *audit.Record) ledger.Fate {
	open := ledger.Fate{State: ledger.Unresolved}
	switch {
	case rec.Proof != "":
		return ledger.Fate{State: ledger.Released, Proof: ledger.Proof(rec.Proof)}
	case rec.Fate != fateMoved:
		return open
	}
	// An outcome tells every movement of the call; a reconciliation those that the reservation held.
	at := func(place int) int { return place }
	if rec.Kind == audit.KindReconciled {
		at = func(place int) int { return slices.Index(c.known, place) }
	}
	out := ledger.Fate{State: ledger.Settled, Pending: rec.Pending}
	for _, place := range c.counted {
		i := at(place)
		if i < 0 || i >= len(rec.Effects) || rec.Effects[i].Amount.Minor < 0 {
			return open // rather an open hold than a wrong settlement
		}
		out.Moved = append(out.Moved, ledger.Moved{Amount: rec.Effects[i].Amount, Object: policy.ObjectID(rec.Effects[i].Object)})
	}
	return out
}

// learned takes the last word about an object.
func (r *Replay) learned(rec *audit.Record) error {
	for _, f := range rec.Finals {
		if f.Amount.Minor < 0 {
			continue
		}
		if err := r.books.learn(rec.Key, final(f), rec.Alone); err != nil {
			return err
		}
	}
	return nil
}

// Account is how a running total stands after the records so far; zero for one that nothing counts in, or whose window was
// over so long ago that it was let go of.
func (r *Replay) Account(k ledger.AccountKey) ledger.Account {
	a, err := r.books.book().Account(k)
	if err != nil {
		return ledger.Account{} // nothing of what the books hold in memory fails
	}
	return a
}

// Report says what was found. The Replay must not be used any more.
func (r *Replay) Report() *Report {
	r.report.out.Forgotten = r.books.forgotten
	keys := slices.Collect(maps.Values(r.keys))
	return r.report.end(keys)
}

// plus adds dollars; the sum stops at the largest amount.
func plus(a, b money.USD) money.USD {
	if sum, ok := a.Add(b); ok {
		return sum
	}
	return 1<<63 - 1
}
