package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// auditor knows what really happened: it sees what the vendor ran, what became durable and when, what agents and operators
// were told, and reads caps from the policies' own text. It holds these against each other with lists and sums of its
// own; nothing in it asks the ledger. What it finds is named after the invariant that is broken.
//
// One thing it takes from the books: how much of a payment intent a reservation counts for. What intents come to is held
// against the vendor's truth at the end instead.
type auditor struct {
	steps func() int64
	now   func() int64 // seconds

	keys     map[policy.KeyID]*keyBook
	claims   map[ledger.ReservationID]*claim
	byIdem   map[string][]*claim // the upstream idempotency key
	objects  map[string][]*claim // refunds and payouts by their ids
	made     []string            // those ids, in order
	foreign  map[string]string   // currencies of charges that are not in dollars
	lies     map[string]int64    // by idempotency key: the amount that an answer named, which is not what moved
	intents  map[string]int64    // what each payment intent came to at the vendor
	calls    map[string]*call    // by run id
	records  []*audit.Record     // durable, in order
	accounts map[ledger.AccountKey][]standing
	brakes   []*pulled
	frozen   map[policy.KeyID]bool
	texts    map[policy.KeyID]*textBook
	// afterwards: it is told when all is over, so nothing is known of when accounts stood how.
	afterwards bool
	lost       int64 // folded denials whose record the store did not take
	broken     []violation
	figures
}

// figures say how much was looked at.
type figures struct {
	admitted, denied, exact, effects, departures int
	rotated, ended, marked, heard                int
}

func (f *figures) add(o *figures) {
	f.admitted, f.denied, f.exact, f.effects, f.departures = f.admitted+o.admitted, f.denied+o.denied, f.exact+o.exact, f.effects+o.effects, f.departures+o.departures
	f.rotated, f.ended, f.marked, f.heard = f.rotated+o.rotated, f.ended+o.ended, f.marked+o.marked, f.heard+o.heard
}

func (f *figures) String() string {
	return fmt.Sprintf("%d admitted, %d of them in the shadow of a policy that would not, %d refused and recorded (%d figures of full caps checked), "+
		"%d movements of money, %d requests to the vendor, %d new texts of keys, %d refusals of old ones, %d pushed messages that taught something",
		f.admitted, f.marked, f.denied, f.exact, f.effects, f.departures, f.rotated, f.ended, f.heard)
}

// reached reports whether everything that is looked at happened.
func (f *figures) reached() bool {
	return min(f.admitted, f.denied, f.exact, f.effects, f.departures, f.rotated, f.ended, f.marked, f.heard) > 0
}

// violation is a broken invariant of reliability's list.
type violation struct {
	step      int64
	invariant string
	what      string
}

func (v violation) String() string {
	return fmt.Sprintf("step %d: %s: %s", v.step, v.invariant, v.what)
}

// keyBook is a vault key as its policy's text says.
type keyBook struct {
	id       policy.KeyID
	upstream policy.UpstreamID
	caps     []limit
	zone     *time.Location
	repeats  bool // a call may be repeated while its outcome is unknown
	shadow   bool // what the policy says is told, and stops nothing
	claims   []*claim
}

// limit is one cap as written, in micro-dollars or calls.
type limit struct {
	resource, per string
	calls         bool
	max           int64
}

// claim is one reservation: what a call could move, from its request as it was sent.
type claim struct {
	id     ledger.ReservationID
	key    *keyBook
	at     time.Time
	path   string
	body   string
	bucket string
	minor  int64
	rate   [2]int64 // micro-dollars for a minor unit, as a fraction
	idem   string
	books  *ledger.Reservation // as last made durable
	state  ledger.State
	proof  string
	closed int64 // step
	// echo: the vendor replayed its answer to a call that was let go of because it was too old to attach to, and then
	// once more. Nobody here remembers the first run then, and it counts twice: too much rather than too little.
	echo bool
	said int64 // what the vendor said that moved, if that is not what was asked
	back int64 // minor units that came back later
	kept int64 // what the books keep of it after they learned that; -1: they did not
	ran  int64 // minor units that moved at the vendor under it
	runs int
	// remembered is how long a call with its idempotency key is surely the same call to the vendor.
	remembered time.Duration
}

// rates are what a minor unit is worth in micro-dollars with the margin of typed rates (5 %), worked out by hand from
// the rates that operators type: 1.0937 for a euro of 100, 0.00669 for a yen of one.
var rates = map[string][2]int64{"": {10_000, 1}, "usd": {10_000, 1}, "eur": {1_148_385, 100}, "jpy": {70_245, 10}}

func (a *auditor) rate(charge, currency string) [2]int64 {
	if c, ok := a.foreign[charge]; ok {
		currency = c
	}
	return rates[currency]
}

// usd is what an amount counts for, in micro-dollars, rounded up.
func (c *claim) usd(minor int64) int64 { return (minor*c.rate[0] + c.rate[1] - 1) / c.rate[1] }

// gross reports whether the claim counts for exactly what it asks.
func (c *claim) gross() bool { return c.bucket != "payment_intents" }

// standing is an account as it was from a step on.
type standing struct {
	step int64
	ledger.Account
}

// pulled is a brake, from the step at which it was asked for to the one at which its release was done (0: never).
type pulled struct {
	scope    string
	readOnly bool
	durable  bool
	asked    int64
	lifted   int64 // second
	inForce  bool  // it was said to be, and no release was asked for since
	released int64
}

func (p *pulled) covers(k *keyBook) bool {
	return p.scope == "all" || p.scope == "key:"+string(k.id) || p.scope == "upstream:"+string(k.upstream)
}

// call is one request of an agent.
type call struct {
	run        string
	key        policy.KeyID
	write      bool
	class      class
	begun      int64
	at         time.Time // by the store's clock when it began
	ended      bool      // an answer was given and the process lived to give it
	departures int       // of writes
	records    int
	unheard    bool // the answer said that it could not be recorded
}

func newAuditor(steps, now func() int64) *auditor {
	return &auditor{
		steps: steps, now: now, keys: make(map[policy.KeyID]*keyBook), claims: make(map[ledger.ReservationID]*claim),
		byIdem: make(map[string][]*claim), intents: make(map[string]int64), objects: make(map[string][]*claim), lies: make(map[string]int64), foreign: make(map[string]string), calls: make(map[string]*call),
		accounts: make(map[ledger.AccountKey][]standing), frozen: make(map[policy.KeyID]bool), texts: make(map[policy.KeyID]*textBook),
	}
}

func (a *auditor) fail(invariant, format string, args ...any) {
	a.broken = append(a.broken, violation{a.steps(), invariant, fmt.Sprintf(format, args...)})
}

var capLine = regexp.MustCompile(`\{resource: "?([^",]+)"?, per: (\w+), (usd|calls): ([\d.]+)\}`)

// wrote reads the caps of a key from the text of its policy.
func (a *auditor) wrote(row store.KeyRow) {
	k := a.keys[row.ID]
	if k == nil {
		k = &keyBook{id: row.ID, upstream: row.Upstream, zone: time.UTC}
		a.keys[row.ID] = k
	}
	k.caps = nil
	k.repeats = strings.Contains(string(row.Policy), "repeat_unknown: allow")
	k.shadow = strings.Contains(string(row.Policy), "enforcement: shadow")
	for _, m := range capLine.FindAllStringSubmatch(string(row.Policy), -1) {
		l := limit{resource: m[1], per: m[2], calls: m[3] == "calls"}
		if l.calls {
			l.max, _ = strconv.ParseInt(m[4], 10, 64)
		} else {
			whole, cents, _ := strings.Cut(m[4], ".")
			n, _ := strconv.ParseInt(whole+(cents + "00")[:2], 10, 64)
			l.max = n * 10_000
		}
		k.caps = append(k.caps, l)
	}
	if m := regexp.MustCompile(`(?m)^timezone: "?([^"\n]+)`).FindSubmatch(row.Policy); m != nil {
		if zone, err := time.LoadLocation(string(m[1])); err == nil {
			k.zone = zone
		}
	}
}

// window names the window of a cap that an instant falls into.
func window(per string, at time.Time, zone *time.Location) string {
	at = at.In(zone)
	switch per {
	case "hour":
		return at.Format("2006-01-02T15-07:00")
	case "day":
		return at.Format("2006-01-02")
	case "week":
		monday := at.AddDate(0, 0, -(int(at.Weekday())+6)%7)
		y, w := monday.ISOWeek()
		return fmt.Sprintf("%04d-W%02d", y, w)
	case "month":
		return at.Format("2006-01")
	default:
		return "total"
	}
}

// durable is told of each transaction at the moment at which it is durable.
func (a *auditor) durable(c *change, r *rows) {
	if c.control != nil {
		for _, row := range c.control.keys {
			a.wrote(row)
		}
		for id := range a.keys {
			_, frozen := c.control.brakes[store.FreezeScope(id)]
			a.frozen[id] = frozen
		}
	}
	for _, f := range c.freezes {
		a.frozen[policy.KeyID(strings.TrimPrefix(f.Scope, "freeze:"))] = true
	}
	before := make(map[ledger.ReservationID]*ledger.Reservation)
	for _, rsv := range c.ledger.Created {
		a.reserved(rsv)
	}
	for _, rsv := range c.ledger.Updated {
		if cl := a.claims[rsv.ID]; cl != nil {
			before[rsv.ID], cl.books = cl.books, rsv
		}
	}
	touched := make(map[*keyBook]bool)
	for i := range c.entries {
		rec, err := audit.Decode(c.entries[i].Bytes)
		if err != nil {
			a.fail("I-24", "record %d does not decode: %v", c.entries[i].Seq, err)
			continue
		}
		a.record(rec, c, touched)
	}
	for id, was := range before {
		a.moved(was, a.claims[id])
	}
	for k, account := range c.ledger.Accounts {
		a.accounts[k] = append(a.accounts[k], standing{a.steps(), account})
		a.sums(k, account)
	}
	for k := range touched {
		a.withinCaps(k, c)
	}
}

// reserved takes down a reservation that has become durable, by the request that it was made for.
func (a *auditor) reserved(rsv *ledger.Reservation) {
	k := a.keys[rsv.Key]
	if k == nil {
		a.fail("I-22", "reservation %d belongs to no key", rsv.ID)
		return
	}
	var sent struct{ P, B, K string }
	if err := json.Unmarshal(rsv.Sent, &sent); err != nil {
		a.fail("I-21", "reservation %d: what it sends cannot be read: %v", rsv.ID, err)
	}
	cl := &claim{id: rsv.ID, key: k, at: rsv.At, path: sent.P, body: sent.B, idem: sent.K, books: rsv, bucket: "payment_intents", kept: -1, remembered: 22 * time.Hour}
	a.asks(cl)
	if cl.gross() && cl.minor == 0 {
		a.fail("I-03", "reservation %d: %s leaves without an amount", rsv.ID, sent.P)
	}
	if n := len(k.claims); n > 0 && k.claims[n-1].at.After(cl.at) {
		a.fail("I-08", "reservation %d is older than the one before it", rsv.ID)
	}
	a.claims[rsv.ID] = cl
	a.byIdem[sent.K] = append(a.byIdem[sent.K], cl)
	k.claims = append(k.claims, cl)
}

// asks reads what a claim's request asks for.
func (a *auditor) asks(cl *claim) {
	form, _ := url.ParseQuery(cl.body)
	cl.minor, _ = strconv.ParseInt(form.Get("amount"), 10, 64)
	cl.rate = a.rate(form.Get("charge"), form.Get("currency"))
	switch cl.path {
	case "/v1/refunds":
		cl.bucket = "refunds"
	case "/v1/payouts":
		cl.bucket = "payouts"
	case "/v1/transfers":
		cl.bucket = "transfers"
	case "/v2/money_management/outbound_payments":
		var body struct {
			Amount struct {
				Value    int64
				Currency string
			}
		}
		if err := json.Unmarshal([]byte(cl.body), &body); err != nil {
			a.fail("I-21", "reservation %d: what it sends is no JSON: %v", cl.id, err)
		}
		cl.bucket, cl.minor, cl.rate = "v2.money_management.outbound_payments", body.Amount.Value, rates[body.Amount.Currency]
		cl.remembered = 28 * 24 * time.Hour
	}
}

// once checks that a call that is admitted does not stand for one that is held already.
func (a *auditor) once(cl *claim) {
	for _, other := range a.byIdem[cl.idem] {
		if other != cl && other.state != ledger.Released && cl.at.Sub(other.at) < cl.remembered {
			a.fail("I-10", "reservation %d holds once more for the call of reservation %d", cl.id, other.id)
		}
	}
	for _, other := range cl.key.claims {
		same := other.path == cl.path && other.body == cl.body && other.books.Fingerprint == cl.books.Fingerprint
		if other.state == ledger.Unresolved && same && other.idem != cl.idem && !cl.key.repeats {
			a.fail("I-10", "reservation %d repeats the call of reservation %d, whose outcome is unknown", cl.id, other.id)
		}
	}
}

// record follows one durable record.
func (a *auditor) record(rec *audit.Record, c *change, touched map[*keyBook]bool) {
	a.records = append(a.records, rec)
	if cl := a.calls[rec.RunID]; cl != nil {
		cl.records++
	}
	switch rec.Kind {
	case audit.KindIntent:
		a.admitted++
		a.presented(rec)
		made := func(r *ledger.Reservation) bool { return int64(r.ID) == rec.Reservation }
		if rec.Repeat == "attached" && !slices.ContainsFunc(c.ledger.Created, made) || rec.Reservation == 0 {
			return
		}
		if cl := a.claims[ledger.ReservationID(rec.Reservation)]; cl == nil {
			a.fail("I-23", "intent %d names reservation %d, which does not exist", rec.Seq, rec.Reservation)
		} else {
			touched[cl.key] = true
			a.once(cl)
			if cl.key.shadow {
				a.shadowed(rec, cl)
			}
		}
	case audit.KindDenied:
		a.denied++
		a.refused(rec, c)
	case audit.KindOutcome, audit.KindReconciled:
		a.outcome(rec)
	}
}

// outcome follows what the record says became of a reservation.
func (a *auditor) outcome(rec *audit.Record) {
	if rec.Reservation == 0 {
		a.learned(rec)
		return
	}
	cl := a.claims[ledger.ReservationID(rec.Reservation)]
	if cl == nil || cl.state == ledger.Settled || cl.state == ledger.Released {
		return
	}
	switch {
	case rec.Proof != "":
		if !slices.Contains([]string{"not_written", "not_sent", "refused", "replayed", "operator", "absent"}, rec.Proof) {
			a.fail("I-06", "outcome %d: proof %q is not on the list", rec.Seq, rec.Proof)
		}
		if cl.runs > 0 && rec.Proof != "replayed" && cl.back < cl.ran {
			a.fail("I-06", "reservation %d is released (%s) though %d moved", cl.id, rec.Proof, cl.ran)
		}
		cl.state, cl.proof, cl.closed = ledger.Released, rec.Proof, a.steps()
	case rec.Fate == "moved":
		cl.echo = rec.Replayed && slices.ContainsFunc(a.byIdem[cl.idem], func(o *claim) bool { return o != cl })
		if cl.echo && cl.gross() && len(rec.Effects) > 0 {
			a.objects[rec.Effects[0].Object] = append(a.objects[rec.Effects[0].Object], cl)
		}
		if cl.gross() && cl.runs == 0 && !cl.echo {
			a.fail("I-07", "reservation %d is settled though nothing moved", cl.id)
		}
		cl.state, cl.closed = ledger.Settled, a.steps()
		if n := cl.books.Counted; cl.gross() && cl.back > 0 && len(n) == 1 && n[0] < cl.minor { // the last word came with it
			if cl.kept = n[0]; cl.kept < cl.ran-cl.back {
				a.fail("I-13", "reservation %d keeps %d of %d though only %d came back", cl.id, cl.kept, cl.ran, cl.back)
			}
			for _, f := range rec.Finals { // it is the last word for the calls, too, that were told of the object as an echo
				for _, o := range a.objects[f.Object] {
					o.kept = cl.kept
				}
			}
		}
		if n := movedBy(rec); cl.gross() && n != cl.minor {
			cl.said = n
			if n != a.lies[cl.idem] || n < cl.minor {
				a.fail("I-07", "reservation %d of %d is settled at %d, which nobody said", cl.id, cl.minor, n)
			}
			if !a.frozen[cl.key.id] {
				a.fail("I-04", "reservation %d of %d moved %d and its key is not frozen", cl.id, cl.minor, n)
			}
		}
	default:
		cl.state = ledger.Unresolved
	}
}

func movedBy(rec *audit.Record) int64 {
	if len(rec.Effects) == 0 {
		return 0
	}
	return rec.Effects[0].Amount.Minor
}

// learned follows the last word about an object: it must be what the vendor did.
func (a *auditor) learned(rec *audit.Record) {
	for _, cl := range a.objects[rec.Object] { // an intent is not here; its sum is looked at in the end
		if cl.kept = movedBy(rec); cl.kept < cl.ran-cl.back {
			a.fail("I-13", "%s keeps %d of %d though only %d came back", rec.Object, cl.kept, cl.ran, cl.back)
		}
	}
}

// later is told what became of money after its call.
func (a *auditor) later(effects []sandbox.Effect) {
	for _, e := range effects {
		if cls := a.objects[e.Object]; len(cls) > 0 && (e.Kind == sandbox.EffectRefundFailed || e.Kind == sandbox.EffectPayoutBack) {
			cls[0].back += e.Amount
		}
	}
}

// moved checks one step of a reservation, from what it was to what it is in the books.
func (a *auditor) moved(was *ledger.Reservation, cl *claim) {
	now := cl.books
	if !was.State.Open() && was.State != now.State {
		a.fail("I-05", "reservation %d went from %s to %s", cl.id, was.State, now.State)
	}
	if now.State == ledger.Released && was.State != ledger.Released && now.Proof == "" {
		a.fail("I-06", "reservation %d was released without a proof", cl.id)
	}
	if cl.state != now.State && !(cl.state == ledger.Reserved && now.State == ledger.Unresolved) {
		a.fail("I-05", "reservation %d is %s in the books, %s by its records", cl.id, now.State, cl.state)
	}
	if !now.At.Equal(was.At) {
		a.fail("I-08", "reservation %d moved in time", cl.id)
	}
}

// counts is what a claim takes of a cap's window: open and settled, in the cap's unit.
func (a *auditor) counts(cl *claim, l *limit, label string) (open, settled int64) {
	if window(l.per, cl.at, cl.key.zone) != label {
		return 0, 0
	}
	var n int64
	switch {
	case l.resource != "*" && l.resource != cl.bucket:
	case l.calls:
		if cl.proof != "not_written" && cl.proof != "not_sent" {
			n = 1
		}
		if !cl.state.Open() {
			return 0, n
		}
	case !cl.gross():
		for _, h := range cl.books.Holds {
			if h.From == 0 && h.Account.Unit == policy.UnitUSD && string(h.Account.Resource) == l.resource && h.Account.Per.String() == l.per {
				n += h.Amount
			}
		}
	case cl.state == ledger.Settled && cl.kept >= 0:
		n = cl.usd(cl.kept)
	case cl.state == ledger.Settled && cl.said > 0:
		n = cl.usd(cl.said)
	case cl.state != ledger.Released:
		n = cl.usd(cl.minor)
	}
	if cl.state.Open() {
		return n, 0
	}
	return 0, n
}

// sums holds an account against what its reservations add up to.
func (a *auditor) sums(k ledger.AccountKey, account ledger.Account) {
	book := a.keys[k.Key]
	if book == nil {
		return
	}
	l := limit{resource: string(k.Resource), per: k.Per.String(), calls: k.Unit == policy.UnitCalls}
	var open, settled int64
	for _, cl := range book.claims {
		o, s := a.counts(cl, &l, k.Label)
		open, settled = open+o, settled+s
	}
	for _, cl := range book.claims {
		o, s := handed(cl, k)
		open, settled = open+o, settled+s
	}
	if open != account.Held || settled != account.Settled {
		a.fail("I-07", "account %v says held %d settled %d, its calls add up to %d and %d", k, account.Held, account.Settled, open, settled)
	}
}

// handed is what a claim on an intent took over from others, in their windows.
func handed(cl *claim, k ledger.AccountKey) (open, settled int64) {
	for _, h := range cl.books.Holds {
		if h.From != 0 && h.Account == k {
			if cl.state.Open() {
				open += h.Amount
			} else {
				settled += h.Amount
			}
		}
	}
	return open, settled
}

// withinCaps checks that what was just admitted left every cap of the key within its limit.
func (a *auditor) withinCaps(k *keyBook, c *change) {
	for _, rsv := range c.ledger.Created {
		cl := a.claims[rsv.ID]
		if cl == nil || cl.key != k || k.shadow {
			continue
		}
		for _, broken := range a.over(cl, k.claims) {
			a.fail("I-01", "%s", broken)
		}
	}
}

// over tells the caps that stand above their limits with a claim beside others.
func (a *auditor) over(cl *claim, others []*claim) (out []string) {
	k := cl.key
	for i := range k.caps {
		l := &k.caps[i]
		label := window(l.per, cl.at, k.zone)
		if l.per == "call" {
			if l.resource == cl.bucket && cl.usd(cl.minor) > l.max {
				out = append(out, fmt.Sprintf("reservation %d takes %d where one call may take %d", cl.id, cl.usd(cl.minor), l.max))
			}
			continue
		}
		o, s := a.counts(cl, l, label)
		if o+s == 0 {
			continue
		}
		var sum int64
		for _, other := range others {
			o, s := a.counts(other, l, label)
			sum += o + s
		}
		if sum > l.max {
			out = append(out, fmt.Sprintf("%s: %s per %s stands at %d of %d after reservation %d", k.id, l.resource, l.per, sum, l.max, cl.id))
		}
	}
	return out
}

// shadowed checks that a call which the policy would have refused is on record as such, and no other.
func (a *auditor) shadowed(rec *audit.Record, cl *claim) {
	before := slices.DeleteFunc(slices.Clone(cl.key.claims), func(o *claim) bool { return o.id > cl.id })
	over := a.over(cl, before)
	class := a.calls[rec.RunID].class
	refused := len(over) > 0 || class.marked
	if refused {
		a.marked++
	}
	if refused != rec.Shadowed && (refused || class.name != repeated.name) {
		a.fail("I-20", "intent %d of %s (%s): shadowed %t, by its caps %q", rec.Seq, rec.RunID, class.name, rec.Shadowed, over)
	}
}

// departs is told when the gateway has taken its last look and hands a request over.
func (a *auditor) departs(run string, r *request) {
	a.departures++
	c := a.calls[run]
	if c == nil {
		if r.write {
			a.fail("I-22", "%s %s leaves without a call", r.http.Method, r.http.URL.Path)
		}
		return
	}
	k := a.keys[c.key]
	for _, b := range a.brakes {
		if b.inForce && (r.write || !b.readOnly) && b.covers(k) {
			a.fail("I-15", "%s: %s %s leaves after %s was stopped", run, r.http.Method, r.http.URL.Path, b.scope)
		}
	}
	if !r.write {
		return
	}
	c.departures++
	held := a.byIdem[r.key]
	if len(held) == 0 {
		a.fail("I-02", "%s: %s leaves before its hold is durable", run, r.http.URL.Path)
		return
	}
	cl := held[len(held)-1]
	if cl.state == ledger.Released {
		a.fail("I-02", "%s: %s leaves under reservation %d, which was released", run, r.http.URL.Path, cl.id)
	}
	var body struct{ B, P string }
	_ = json.Unmarshal(cl.books.Sent, &body)
	if body.B != string(r.body) || body.P != r.http.URL.Path {
		a.fail("I-21", "%s: reservation %d was made for %s %q, and %s %q leaves", run, cl.id, body.P, body.B, r.http.URL.Path, r.body)
	}
}

// happened is told what the vendor ran and what moved.
func (a *auditor) happened(r *request, rec *recorder, effects []sandbox.Effect) {
	if len(effects) == 0 {
		return
	}
	held := a.byIdem[r.key]
	if len(held) == 0 {
		a.fail("I-02", "%s moves money without a durable hold", r.http.URL.Path)
		return
	}
	cl := held[len(held)-1]
	if cl.state == ledger.Released {
		a.fail("I-06", "reservation %d was released (%s) and its call moves money now", cl.id, cl.proof)
	}
	if cl.runs++; cl.runs > 1 && !a.frozen[cl.key.id] {
		a.fail("I-10", "reservation %d moves money a second time", cl.id)
	}
	for _, e := range effects {
		a.effects++
		switch e.Kind {
		case sandbox.EffectRefund, sandbox.EffectPayout, sandbox.EffectOutbound:
			cl.ran += e.Amount
			if a.objects[e.Object] == nil {
				a.objects[e.Object] = []*claim{cl}
				if e.Kind != sandbox.EffectOutbound { // of the second API nothing is heard later
					a.made = append(a.made, e.Object)
				}
			}
		case sandbox.EffectPayment, sandbox.EffectAuthorization:
			cl.ran += e.Amount
			a.intents[intentOf(e, r)] += e.Amount
		case sandbox.EffectRelease:
			a.intents[intentOf(e, r)] -= e.Amount
		case sandbox.EffectCapture:
		default:
			a.fail("I-03", "%s moves money in a way that nobody held for: %s", r.http.URL.Path, e.Kind)
		}
	}
	if cl.gross() && cl.ran > cl.minor {
		a.fail("I-03", "reservation %d moves %d where %d is held", cl.id, cl.ran, cl.minor)
	}
}

func intentOf(e sandbox.Effect, r *request) string {
	if strings.HasPrefix(e.Parent, "pi_") {
		return e.Parent
	}
	if parts := strings.Split(r.http.URL.Path, "/"); len(parts) > 3 {
		return parts[3]
	}
	return e.Object
}

// answered is told what an agent got.
func (a *auditor) answered(c *call, rec *recorder, reason string) {
	c.ended = true
	ours := reason != ""
	switch {
	case !ours:
	case strings.HasPrefix(reason, "keybrake_upstream_unknown"), reason == "keybrake_upstream_credential":
	case reason == "keybrake_upstream_unreachable":
	case c.departures > 0 && c.write && !slices.Contains([]string{"keybrake_key_killed", "keybrake_key_readonly", "keybrake_key_expired"}, reason):
		a.fail("I-32", "%s was answered %d %s though a write had left", c.run, rec.code, reason)
	}
	if rec.code == http.StatusServiceUnavailable {
		c.unheard = true
	}
	if c.class.must != "" && reason != c.class.must && !slices.Contains(excuses, reason) && !slices.Contains(c.class.may, reason) {
		a.fail("I-20", "%s (%s) was answered %d %q, want %s", c.run, c.class.name, rec.code, reason, c.class.must)
	}
}

// excuses are what may come instead of the reason that a call has to be refused for.
var excuses = []string{"keybrake_key_killed", "keybrake_key_readonly", "keybrake_unavailable", "keybrake_upstream_unreachable", "keybrake_key_frozen", "keybrake_key_expired", "keybrake_key_invalid"}
