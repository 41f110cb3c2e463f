package replay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// tape is a record of calls that a test writes.
type tape struct {
	t       *testing.T
	records []*audit.Record
	rsv     int64
	at      time.Time
}

func newTape(t *testing.T) *tape { return &tape{t: t, at: monday} }

func (p *tape) add(r *audit.Record) *audit.Record {
	r.Seq, r.At = int64(len(p.records))+1, p.at
	if r.Key == "" {
		r.Key, r.KeyName = "key_1", "agent-support-refunds-r1"
	}
	p.at = p.at.Add(time.Second)
	p.records = append(p.records, r)
	return r
}

func dollars(cents int64) money.Amount { return money.Amount{Minor: cents, Currency: "usd"} }

// refund is a refund of cents of customer A, resolved.
func refund(cents int64) *policy.Operation {
	usd, _ := money.Dollars().USD(cents)
	return &policy.Operation{
		Name: "refunds.create", Resource: "refunds", Access: policy.Write, Resolved: true,
		Customer: policy.CustomerTie{Kind: policy.TieKnown, Customers: []policy.CustomerID{"cus_A"}},
		Effects:  []policy.Effect{{Bucket: "refunds", Known: true, Amount: dollars(cents), Quote: money.Dollars(), USD: usd}},
	}
}

// call records a call as it was decided; failures refuse it.
func (p *tape) call(op *policy.Operation, failures ...policy.Failure) *audit.Record {
	r := &audit.Record{Kind: audit.KindIntent, Operation: op.Name, Customers: op.Customer.Customers, Verdict: "allow"}
	r.Judge(op, true)
	for _, f := range failures {
		r.Deny(f)
	}
	if r.Kind == audit.KindIntent && op.Access == policy.Write {
		p.rsv++
		r.Reservation = p.rsv
	}
	return p.add(r)
}

// moved records that a call moved cents, on an object if one is given.
func (p *tape) moved(call *audit.Record, cents int64, object string, finals ...audit.Final) *audit.Record {
	usd, _ := money.Dollars().USD(cents)
	return p.add(&audit.Record{
		Kind: audit.KindOutcome, Ref: call.Seq, Operation: call.Operation, Reservation: call.Reservation, Fate: "moved", Finals: finals,
		Effects: []audit.Effect{{Bucket: call.Effects[0].Bucket, Amount: dollars(cents), USD: usd, Object: object}},
	})
}

// ended records another fate of a call.
func (p *tape) ended(call *audit.Record, fate, proof string) {
	p.add(&audit.Record{Kind: audit.KindOutcome, Ref: call.Seq, Operation: call.Operation, Reservation: call.Reservation, Fate: fate, Proof: proof})
}

func (p *tape) replay(o Options) *Report {
	p.t.Helper()
	o.Examples = 50
	r := New(o)
	for _, rec := range p.records {
		read, err := audit.Decode(rec.AppendJSON(nil))
		if err != nil {
			p.t.Fatal(err)
		}
		if err := r.Add(read); err != nil {
			p.t.Fatal(err)
		}
	}
	return r.Report()
}

// support is a policy for refunds of at most so many dollars a day.
func support(usd int64) *policy.Policy {
	return &policy.Policy{
		Scopes: map[policy.Resource]policy.Access{"refunds": policy.Write, "charges": policy.Read, "payment_intents": policy.Write},
		Caps: []policy.Cap{
			{Resource: "refunds", Per: policy.PerDay, Unit: policy.UnitUSD, Limit: usd * int64(money.Dollar)},
			{Resource: "payment_intents", Per: policy.PerDay, Unit: policy.UnitUSD, Limit: usd * int64(money.Dollar)},
		},
		Customers: policy.Customers{Any: true}, Timezone: time.UTC,
	}
}

// verdicts writes what a replay found as "allowed refused newly-refused newly-allowed untold".
func verdicts(r *Report) string {
	return fmt.Sprint(r.Allowed.Calls, r.Refused.Calls, r.NewlyRefused.Calls, r.NewlyAllowed.Calls, r.Untold.Calls)
}

func want(t *testing.T, r *Report, as string) {
	t.Helper()
	if got := verdicts(r); got != as {
		t.Errorf("allowed, refused, newly refused, newly allowed, untold: %s, want %s\n%+v\n%+v\n%+v", got, as, r.RefusedCalls, r.AllowedCalls, r.UntoldCalls)
	}
}

func TestAmountsCountAsTheirCallsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*tape, *audit.Record)
		want string // of a second refund of 60 dollars under a cap of 100
	}{
		"it moved in full":           {func(p *tape, r *audit.Record) { p.moved(r, 6000, "re_1") }, "1 0 1 0 0"},
		"it moved less":              {func(p *tape, r *audit.Record) { p.moved(r, 4000, "re_1") }, "2 0 0 0 0"},
		"it was refused":             {func(p *tape, r *audit.Record) { p.ended(r, "refused", "refused") }, "2 0 0 0 0"},
		"nobody knows":               {func(p *tape, r *audit.Record) { p.ended(r, "unknown", "") }, "1 0 1 0 0"},
		"it never left":              {func(p *tape, r *audit.Record) { p.ended(r, "refused", "not_sent") }, "2 0 0 0 0"},
		"there is no outcome":        {func(*tape, *audit.Record) {}, "1 0 1 0 0"},
		"it was found to be nothing": {func(p *tape, r *audit.Record) { p.ended(r, "unknown", ""); p.reconciled(r, "refused", "absent") }, "2 0 0 0 0"},
		"it was found to have moved": {func(p *tape, r *audit.Record) { p.ended(r, "unknown", ""); p.reconciled(r, "moved", "", 6000) }, "1 0 1 0 0"},
		"its object failed later": {func(p *tape, r *audit.Record) {
			p.moved(r, 6000, "re_1")
			p.add(&audit.Record{Kind: audit.KindReconciled, Fate: "moved", Alone: true, Finals: []audit.Final{{Bucket: "refunds", Object: "re_1", Amount: dollars(0)}}})
		}, "2 0 0 0 0"},
		"its object came to more later": {func(p *tape, r *audit.Record) {
			p.moved(r, 4000, "re_1").Pending = true
			p.add(&audit.Record{Kind: audit.KindReconciled, Fate: "moved", Alone: true, Finals: []audit.Final{{Bucket: "refunds", Object: "re_1", Amount: dollars(6000)}}})
		}, "1 0 1 0 0"},
		"its object came to more later, by whom nobody knows": {func(p *tape, r *audit.Record) {
			p.moved(r, 4000, "re_1").Pending = true
			p.add(&audit.Record{Kind: audit.KindReconciled, Fate: "moved", Finals: []audit.Final{{Bucket: "refunds", Object: "re_1", Amount: dollars(6000)}}})
		}, "2 0 0 0 0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTape(t)
			c.end(p, p.call(refund(6000)))
			p.moved(p.call(refund(6000)), 6000, "re_2")
			got := p.replay(Options{Policy: support(100)})
			want(t, got, c.want)
			if c.want == "1 0 1 0 0" && (got.Rules[0].Rule != "caps.refunds/day" || got.NewlyRefused.Asked != 60*money.Dollar || got.NewlyRefused.Moved != 60*money.Dollar) {
				t.Errorf("%+v, %+v", got.Rules, got.NewlyRefused)
			}
		})
	}
}

// reconciled records what was learned about a call after its answer.
func (p *tape) reconciled(call *audit.Record, fate, proof string, cents ...int64) {
	r := &audit.Record{Kind: audit.KindReconciled, Ref: call.Seq, Operation: call.Operation, Reservation: call.Reservation, Fate: fate, Proof: proof}
	for _, c := range cents {
		r.Effects = append(r.Effects, audit.Effect{Bucket: "refunds", Amount: dollars(c), Object: "re_late"})
	}
	p.add(r)
}

func TestAReconciliationTellsOnlyWhatWasHeld(t *testing.T) {
	op := refund(6000)
	op.Effects = append([]policy.Effect{{Bucket: "transfers", Unmeterable: true, Waived: true}}, op.Effects...)
	pol := support(100)
	pol.Scopes["transfers"], pol.Unmetered = policy.Write, []policy.OperationName{"refunds.create"}
	p := newTape(t)
	call := p.call(op)
	p.ended(call, "unknown", "")
	p.reconciled(call, "moved", "", 3000)
	p.call(refund(6500))
	want(t, p.replay(Options{Policy: pol}), "2 0 0 0 0")
}

func TestAnObjectCountsOnce(t *testing.T) {
	confirm := refund(6000)
	confirm.Name, confirm.Resource = "payment_intents.confirm", "payment_intents"
	confirm.Effects[0].Bucket, confirm.Effects[0].Mode, confirm.Effects[0].Object = "payment_intents", policy.Total, "pi_1"
	p := newTape(t)
	p.ended(p.call(confirm), "refused", "refused")
	p.moved(p.call(confirm), 6000, "pi_1")
	p.moved(p.call(confirm), 6000, "pi_1")
	want(t, p.replay(Options{Policy: support(60)}), "3 0 0 0 0")
}

func TestDaysAreThoseOfThePolicysTimeZone(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	p := newTape(t)
	for _, at := range []string{"2026-11-23T04:00:00Z", "2026-11-23T06:00:00Z", "2026-11-24T04:00:00Z"} { // 23:00, 01:00, 23:00 there
		p.at, _ = time.Parse(time.RFC3339, at)
		p.moved(p.call(refund(6000)), 6000, "")
	}
	want(t, p.replay(Options{Policy: support(100)}), "2 0 1 0 0")
	there := support(100)
	there.Timezone = newYork
	got := p.replay(Options{Policy: there})
	want(t, got, "2 0 1 0 0")
	if got.Days[0].Day != "2026-11-22" || got.Days[1].NewlyRefused.Asked != 60*money.Dollar || got.Caps[0].Used != 60*int64(money.Dollar) {
		t.Errorf("%+v, %+v", got.Days, got.Caps)
	}
}

func TestCallsOfBeforeCountInTheWindowsThatAreOpen(t *testing.T) {
	p := newTape(t)
	p.moved(p.call(refund(8000)), 8000, "")
	p.call(refund(9000), policy.Failure{Code: policy.CodeCapExceeded, Rule: "caps.refunds/day"})
	since := p.at
	p.moved(p.call(refund(3000)), 3000, "")
	p.at = p.at.AddDate(0, 0, 1)
	p.moved(p.call(refund(3000)), 3000, "")
	got := p.replay(Options{Policy: support(100), Since: since})
	want(t, got, "1 0 1 0 0")
	if at := Start(support(1), since); !at.Equal(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("starts at %s", at)
	}
	life := support(1)
	life.Caps = append(life.Caps, policy.Cap{Resource: "*", Per: policy.PerTotal, Unit: policy.UnitUSD})
	if at := Start(life, since); !at.IsZero() {
		t.Errorf("a cap for life starts at %s", at)
	}
}

func TestWhatWouldPassCountsAsIfItHadMoved(t *testing.T) {
	p := newTape(t)
	full := policy.Failure{Code: policy.CodeCapExceeded, Rule: "caps.refunds/day"}
	p.call(refund(6000), full)
	p.call(refund(6000), full)
	got := p.replay(Options{Policy: support(100)})
	want(t, got, "0 1 0 1 0")
	if got.Lifted[0].Rule != "caps.refunds/day" || got.NewlyAllowed.Asked != 60*money.Dollar || got.Caps[0].Refuses != 1 {
		t.Errorf("%+v %+v %+v", got.Lifted, got.NewlyAllowed, got.Caps)
	}
}

func TestNothingIsGuessed(t *testing.T) {
	scope := policy.Failure{Code: policy.CodeScopeDenied, Rule: "scopes.refunds"}
	open := func() *policy.Operation {
		op := refund(0)
		op.Effects[0], op.Resolved = policy.Effect{Bucket: "refunds"}, false
		return op
	}
	for name, c := range map[string]struct {
		record func(*tape)
		policy func(*policy.Policy)
		why    string // empty: it can be told
	}{
		"its amount was not looked up":                      {func(p *tape) { p.call(open(), scope) }, nil, lacksAmount},
		"its amount was not looked up, and nothing is left": {func(p *tape) { p.call(open(), scope) }, func(p *policy.Policy) { p.Caps[0].Limit = 0 }, ""},
		"its amount was waived": {func(p *tape) {
			op := open()
			op.Effects[0].Unmeterable, op.Effects[0].Waived = true, true
			p.call(op)
		}, nil, lacksWaived},
		"its amount was waived, and is again": {func(p *tape) {
			op := open()
			op.Effects[0].Unmeterable, op.Effects[0].Waived = true, true
			p.call(op)
		}, func(p *policy.Policy) { p.Caps, p.Unmetered = nil, []policy.OperationName{"refunds.create"} }, ""},
		"whose it is was not looked up": {func(p *tape) {
			op := refund(100)
			op.Customer = policy.CustomerTie{Kind: policy.TieLookup}
			p.call(op)
		}, func(p *policy.Policy) { p.Customers = policy.Customers{List: []policy.CustomerID{"cus_A"}} }, lacksCustomer},
		"whose it is was seen, and it is foreign": {func(p *tape) {
			op := refund(100)
			op.Customer.Kind = policy.TieLookup
			p.call(op)
		}, func(p *policy.Policy) { p.Customers = policy.Customers{List: []policy.CustomerID{"cus_B"}} }, ""},
		"there were more customers than it names": {func(p *tape) {
			op := refund(100)
			for i := range audit.MaxCustomers {
				op.Customer.Customers = append(op.Customer.Customers, policy.CustomerID(fmt.Sprintf("cus_%d", i)))
			}
			p.call(op)
		}, func(p *policy.Policy) {
			list := []policy.CustomerID{"cus_A"}
			for i := range audit.MaxCustomers {
				list = append(list, policy.CustomerID(fmt.Sprintf("cus_%d", i)))
			}
			p.Customers = policy.Customers{}.With(list...)
		}, lacksList},
		"an old record": {func(p *tape) {
			p.add(&audit.Record{Kind: audit.KindIntent, Operation: "refunds.create", Reservation: 1})
		}, nil, lacksAll},
		"an old record of no scope": {func(p *tape) {
			p.add(&audit.Record{Kind: audit.KindIntent, Operation: "payouts.create", Judged: audit.Judged{Access: policy.Write}})
		}, nil, ""},
		"a value":                        {func(p *tape) { p.call(with(refund(100), "reason")) }, ruled(policy.ParamRule{In: []string{"duplicate"}}), "the value of `reason`"},
		"a value that is not there":      {func(p *tape) { p.call(refund(100)) }, ruled(policy.ParamRule{In: []string{"duplicate"}}), ""},
		"a parameter that is not wanted": {func(p *tape) { p.call(with(refund(100), "reason")) }, ruled(policy.ParamRule{Deny: true}), ""},
		"equal refusals without a record": {func(p *tape) {
			p.add(&audit.Record{Kind: audit.KindFolded, Ref: 99, Count: 3, Operation: "refunds.create"})
		}, nil, lacksLikeness},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTape(t)
			c.record(p)
			pol := support(100)
			if c.policy != nil {
				c.policy(pol)
			}
			got := p.replay(Options{Policy: pol})
			switch {
			case c.why == "" && got.Untold.Calls > 0:
				t.Errorf("untold: %+v", got.Reasons)
			case strings.HasSuffix(name, "is again") && got.Allowed.Calls != 1:
				t.Errorf("refused: %+v", got.Rules)
			case c.why != "" && (len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0].Why, c.why)):
				t.Errorf("want %q: %s %+v", c.why, verdicts(got), got.Reasons)
			}
		})
	}
}

// with gives an operation parameters.
func with(op *policy.Operation, params ...string) *policy.Operation {
	op.Params = names(params)
	return op
}

type names []string

func (n names) Lookup(string) ([]string, bool) { return nil, false }
func (n names) Names() []string                { return n }

func ruled(r policy.ParamRule) func(*policy.Policy) {
	return func(p *policy.Policy) {
		p.Params = map[policy.OperationName]map[string]policy.ParamRule{"refunds.create": {"reason": r}}
	}
}

func TestARuleThatStoodThenSaysWhatItFound(t *testing.T) {
	stood := support(100)
	ruled(policy.ParamRule{In: []string{"duplicate", "fraudulent"}})(stood)
	digest := policy.Digest(stood)
	broken := policy.Failure{Code: policy.CodeParamDenied, Rule: "params.refunds.create.reason", Param: "reason"}
	p := newTape(t)
	p.call(with(refund(100), "reason")).Policy = digest
	p.call(with(refund(100), "reason"), broken).Policy = digest
	for name, c := range map[string]struct {
		rule policy.ParamRule
		want string
	}{
		"the same rule":   {policy.ParamRule{In: []string{"duplicate", "fraudulent"}}, "1 1 0 0 0"},
		"a stricter rule": {policy.ParamRule{In: []string{"duplicate"}}, "0 1 0 0 1"},
		"a laxer rule":    {policy.ParamRule{In: []string{"duplicate", "fraudulent", "other"}}, "1 0 0 0 1"},
		"another rule":    {policy.ParamRule{Pattern: "[a-z]+"}, "0 0 0 0 2"},
	} {
		pol := support(100)
		ruled(c.rule)(pol)
		got := p.replay(Options{Policy: pol, Stood: func(d string) *policy.Policy {
			if d == digest {
				return stood
			}
			return nil
		}})
		t.Run(name, func(t *testing.T) { want(t, got, c.want) })
	}
	want(t, p.replay(Options{Policy: support(100)}), "1 0 0 1 0")
}

func TestARetryBelongsToItsFirstAttempt(t *testing.T) {
	p := newTape(t)
	first := p.call(refund(6000))
	p.ended(first, "unknown", "")
	p.rsv--
	again := p.call(refund(6000))
	again.Repeat = "attached"
	p.moved(again, 6000, "re_1")
	want(t, p.replay(Options{Policy: support(100)}), "2 0 0 0 0")
	want(t, p.replay(Options{Policy: support(50)}), "0 0 2 0 0") // a first attempt that is refused leaves nothing to attach to
}

func TestRefusalsThatWereCountedTogether(t *testing.T) {
	left := int64(40 * money.Dollar)
	full := (&policy.CapFailure{Cap: support(100).Caps[0], Settled: 60_000_000, Left: left, Asked: 60_000_000}).Failure()
	p := newTape(t)
	p.moved(p.call(refund(6000)), 6000, "")
	denied := p.call(refund(6000), full)
	p.add(&audit.Record{Kind: audit.KindFolded, Ref: denied.Seq, Count: 7, Operation: "refunds.create", Failures: denied.Failures[:1]})
	want(t, p.replay(Options{Policy: support(100)}), "1 8 0 0 0") // no more is left than was then
	want(t, p.replay(Options{Policy: support(110)}), "1 1 0 0 7") // smaller ones among them may fit
	want(t, p.replay(Options{Policy: support(120)}), "1 0 0 1 7")
	none := support(100)
	none.Scopes = nil
	want(t, p.replay(Options{Policy: none}), "0 8 1 0 0")
}

func TestTheAnswerToAReadIsGuarded(t *testing.T) {
	list := &policy.Operation{Name: "charges.retrieve", Resource: "charges", Access: policy.Read, Customer: policy.CustomerTie{Kind: policy.TieNone}}
	p := newTape(t)
	for _, customer := range []policy.CustomerID{"cus_A", "cus_B"} {
		r := p.call(list)
		p.add(&audit.Record{Kind: audit.KindOutcome, Ref: r.Seq, Operation: list.Name, Fate: "moved", Customers: []policy.CustomerID{customer}})
	}
	pol := support(100)
	want(t, p.replay(Options{Policy: pol}), "2 0 0 0 0")
	pol.Customers = policy.Customers{List: []policy.CustomerID{"cus_A"}}
	got := p.replay(Options{Policy: pol})
	want(t, got, "1 0 1 0 0")
	if got.Calls != 2 || len(got.Days) != 1 || got.Days[0].NewlyRefused.Calls != 1 || got.Days[0].Allowed.Calls != 1 {
		t.Errorf("%+v", got.Days)
	}
}

func TestACustomerThatAKeyMadeJoinsItsList(t *testing.T) {
	create := &policy.Operation{
		Name: "customers.create", Resource: "customers", Access: policy.Write, Resolved: true, CreatesCustomer: true,
		Customer: policy.CustomerTie{Kind: policy.TieNone},
	}
	his := refund(100)
	his.Customer.Customers = []policy.CustomerID{"cus_new"}
	p := newTape(t)
	made := p.call(create)
	p.add(&audit.Record{Kind: audit.KindOutcome, Ref: made.Seq, Operation: create.Name, Reservation: made.Reservation, Fate: "moved", Created: "cus_new"})
	p.call(his)
	pol := support(100)
	pol.Scopes["customers"] = policy.Write
	pol.Customers, pol.MayCreate = policy.Customers{}, true
	want(t, p.replay(Options{Policy: pol}), "2 0 0 0 0")
	pol.MayCreate = false
	want(t, p.replay(Options{Policy: pol}), "0 0 2 0 0")
	want(t, p.replay(Options{Policy: pol, Key: func(policy.KeyID) Key { return Key{Joined: []policy.CustomerID{"cus_new"}} }}), "1 0 1 0 0")
}

func TestMemoryStaysSmallAndTheCountsStayRight(t *testing.T) {
	p := newTape(t)
	const calls = 5000
	for i := range calls {
		p.moved(p.call(refund(100)), 100, fmt.Sprintf("re_%d", i))
		if i%500 == 0 {
			p.at = p.at.AddDate(0, 0, 1)
		}
	}
	pol := support(400)
	r := New(Options{Policy: pol, Keep: 100})
	for _, rec := range p.records {
		if err := r.Add(rec); err != nil {
			t.Fatal(err)
		}
	}
	r.books.write()
	if n := len(r.books.reservations) + len(r.books.objects) + len(r.calls) + len(r.order); n > 4*turn+10*100 {
		t.Errorf("%d reservations, %d objects, %d calls are kept", len(r.books.reservations), len(r.books.objects), len(r.calls))
	}
	if n := len(r.books.accounts); n > 8 {
		t.Errorf("%d accounts are kept", n)
	}
	whole := p.replay(Options{Policy: pol})
	if got := r.Report(); got.Verdicts != whole.Verdicts || got.NewlyRefused.Calls == 0 {
		t.Errorf("%+v, with everything kept %+v", got.Verdicts, whole.Verdicts)
	}
}

func TestExpiryNetworkAndOtherReasons(t *testing.T) {
	p := newTape(t)
	p.call(refund(100)).From = "192.0.2.1"
	p.call(refund(100), policy.Failure{Code: policy.CodeKeyKilled, Rule: "key"})
	p.call(refund(100), policy.Failure{Code: policy.CodeOutcomePending, Rule: "repeat_unknown"})
	got := p.replay(Options{Policy: support(100)})
	want(t, got, "1 2 0 0 0")
	if got.Other != 2 {
		t.Errorf("%d for other reasons", got.Other)
	}
	repeats := support(100)
	repeats.RepeatUnknown = true
	want(t, p.replay(Options{Policy: repeats}), "1 1 0 1 0")
	ends := support(100)
	ends.Expires = policy.Expiry{After: time.Hour}
	created := func(policy.KeyID) Key { return Key{Created: monday.Add(-2 * time.Hour)} }
	want(t, p.replay(Options{Policy: ends, Key: created}), "0 2 1 0 0")
}
