package stripe

import (
	"net/http"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// headerGuarded marks an answer whose body was cut down.
const headerGuarded = "Keybrake-Guarded"

// passedHeaders are the answer's headers that agents may see. Idempotency-Key is not among them: Stripe
// echoes our namespaced key, the gateway writes the agent's own back.
var passedHeaders = [...]string{
	"Content-Type", "Idempotent-Replayed", "Original-Request", "Request-Id", "Retry-After", "Stripe-Account",
	"Stripe-Notice", "Stripe-Rate-Limited-Reason", "Stripe-Should-Retry", "Stripe-Version",
}

// Guard turns Stripe's answer into what the agent may see.
//
// Secrets do not pass: client_secret (unless the policy lets it), signing secrets and other credentials (unless
// the policy lets secrets pass and admits the very operation under `unmetered`), card numbers and codes, and
// anything that looks like a Stripe key in a text. Taking a member out leaves all other bytes as they were.
//
// Under a customer list every customer that the answer names by field is judged. A foreign one trips the
// guard: a read is to be replaced by a denial, and of an executed write the bare facts are left, because
// hiding that it happened would make the agent repeat it. So does a guest in a read that the call was not
// already resolved for; null beside or below an allowed customer is no guest. An error changes nothing, so
// one that names a foreign customer is replaced by a bare one and trips nothing. In shadow mode the customer
// rule only marks: a foreign customer is reported (Tripped, Foreign), and the answer stays whole.
func (a *Adapter) Guard(call *upstream.Call, p *policy.Policy, answer *upstream.Answer) upstream.Guarded {
	out := upstream.Guarded{Status: answer.Status, Header: guardHeader(answer.Header), Body: answer.Body}
	if len(answer.Body) == 0 || isDocument(call, answer) {
		return out
	}
	g := newGuard(call, p, answer)
	if !g.judge && !g.encoded && !mayHoldSecret(answer.Body, g.texts) {
		return out
	}
	executed := answer.Status >= 200 && answer.Status < 300
	if g.encoded || !g.run() {
		return guardUnreadable(out, call, executed, g)
	}
	foreign := g.foreign != "" || g.guest && guestTrips(call)
	switch {
	case !executed:
		if !g.soft && (foreign || g.judge && namesUnsent(call, answer.Body)) {
			out.Header.Set(headerGuarded, "true")
			out.Body = bareError(answer)
			return out
		}
	case foreign:
		out.Tripped, out.Foreign = true, g.foreign
		if call.Writes() && !g.soft {
			out.Header.Set(headerGuarded, "true")
			out.Body = bareFacts(answer.Body)
			return out
		}
	}
	out.Withheld = g.withheld
	out.Body = g.edited()
	return out
}

// isDocument reports whether an answer is a document that Stripe has printed (a quote's PDF), and not JSON. Whose
// it is was judged before the call was sent: the object in its path is one of an allowed customer.
func isDocument(call *upstream.Call, answer *upstream.Answer) bool {
	row := requestOf(call).Row
	return row.Method == "GET" && row.Host == HostFiles && answer.Status == 200 &&
		answer.Header.Get("Content-Type") == "application/pdf" && answer.Header.Get("Content-Encoding") == ""
}

// guestTrips reports whether a null customer in the answer means somebody else's guest. It does not where
// the look-ups have tied the call's object to an allowed customer (a refund of an allowed charge may have no
// customer of its own), nor in the answer to a write, which was judged before it was sent.
func guestTrips(call *upstream.Call) bool {
	tie := &call.Operation.Customer
	resolved := tie.Kind == policy.TieKnown && len(tie.Customers) > 0 && !tie.Guest
	return !resolved && !call.Writes()
}

// guardUnreadable handles an answer that is not JSON, or JSON that nobody can look through. Without a
// customer list it passes, its text cleaned; with one nobody can say whose it is.
func guardUnreadable(out upstream.Guarded, call *upstream.Call, executed bool, g *guard) upstream.Guarded {
	if (!g.judge || g.soft) && !g.encoded && !g.tooDeep {
		body, n := cleanAll(out.Body, g.pass)
		out.Body, out.Withheld = body, n
		return out
	}
	out.Header.Set(headerGuarded, "true")
	out.Header.Set("Content-Type", "application/json")
	switch {
	case !executed:
		out.Body = encodeError(errorObject{Type: string(typeAPI), Message: messageWithheld})
	case call.Writes():
		out.Body = []byte("{}")
	default:
		out.Tripped, out.Body = true, []byte("{}")
	}
	return out
}

func guardHeader(h http.Header) http.Header {
	out := make(http.Header, 8)
	for _, name := range passedHeaders {
		if v := h[name]; len(v) > 0 {
			out[name] = v[:1:1]
		}
	}
	return out
}

// guard is the state of one pass over an answer.
type guard struct {
	jsonReader
	// judge: customers are looked at, list holds the allowed ones (sorted), created the id of the customer
	// that this very call made.
	judge   bool
	soft    bool // shadow mode: judged, and nothing done about it
	list    []policy.CustomerID
	created string
	pass    secrets
	// texts: some text of the answer may hold a key and all are looked at.
	texts   bool
	encoded bool
	tooDeep bool

	edits    []edit // sorted by start once the pass is over
	unsorted bool
	withheld int
	foreign  policy.CustomerID
	guest    bool
}

// edit replaces a stretch of the answer.
type edit struct {
	span
	with string
}

func newGuard(call *upstream.Call, p *policy.Policy, answer *upstream.Answer) *guard {
	g := &guard{jsonReader: jsonReader{b: answer.Body}, judge: true}
	if e := answer.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		g.encoded = true // we never ask for it, so nothing here can read it
	}
	if p != nil {
		g.judge, g.list = !p.Customers.Any, p.Customers.List
		// A credential is the whole point of an operation that hands one out and that the policy admits uncounted.
		g.pass = secrets{client: p.ClientSecrets, issued: p.ClientSecrets && p.Unmeters(call.Operation.Name)}
		g.soft = p.Enforcement == policy.Shadow
	}
	g.texts = suspicious(answer.Body)
	if g.judge && call.Operation.CreatesCustomer && call.Writes() && validJSON(answer.Body) &&
		findText(answer.Body, Field{"object"}) == "customer" {
		g.created = findText(answer.Body, Field{"id"})
	}
	return g
}

// run makes the pass; false means that the answer cannot be read.
func (g *guard) run() bool {
	v, ok := g.value(0, memberOther, false)
	if !ok {
		return false
	}
	g.space()
	if g.i != len(g.b) {
		return false
	}
	g.guest = v.guest
	return true
}

// seen is what one value told about whose it is.
type seen struct {
	kind  jsonKind
	at    span
	id    span // of an object, between the quotes; empty for none
	owned bool // names an allowed customer, or belongs to one
	guest bool // has a null customer somewhere that no allowed customer around it explains
}

// value looks through one value. class is that of the member that has it; free is true inside metadata,
// where names are the users' own.
func (g *guard) value(depth int, class memberClass, free bool) (v seen, ok bool) {
	v.kind = g.kind()
	v.at.start = g.i
	switch v.kind {
	case 0:
		return v, false
	case jsonString:
		s, escaped, read := g.text()
		if !read {
			return v, false
		}
		v.owned = g.string(s, escaped, class, free)
		ok = true
	case jsonObject, jsonArray:
		if depth >= maxAnswerDepth {
			g.tooDeep = true
			return v, false
		}
		if v.kind == jsonObject {
			ok = g.object(&v, depth+1, class, free)
		} else {
			ok = g.array(&v, depth+1, class, free)
		}
	default:
		_, ok = g.scalar(v.kind)
	}
	v.at.end = g.i
	return v, ok
}

// string judges a text and takes keys out of it; it reports whether the text is an allowed customer.
func (g *guard) string(s span, escaped bool, class memberClass, free bool) (owned bool) {
	if g.texts || escaped {
		g.cleanText(s, escaped)
	}
	if !g.judge || free || !class.identity() || s.start == s.end {
		return false
	}
	return g.allowed(s)
}

func (g *guard) array(v *seen, depth int, class memberClass, free bool) bool {
	g.i++
	for first := true; ; first = false {
		more, ok := g.next(']', first)
		if !ok || !more {
			return ok
		}
		e, ok := g.value(depth, class, free)
		if !ok {
			return false
		}
		v.guest = v.guest || e.guest
		v.owned = v.owned || e.owned
	}
}

// object looks through a hash: members that may not pass are cut out, those that name a customer judged.
func (g *guard) object(v *seen, depth int, class memberClass, free bool) bool {
	o := objectPass{cut: -1, last: -1}
	g.i++
	for first := true; ; first = false {
		more, ok := g.next('}', first)
		if !ok {
			return false
		}
		if !more {
			break
		}
		start := g.i
		name, escaped, ok := g.key()
		if !ok {
			return false
		}
		var buf [64]byte
		mc := classify(unescape(name.of(g.b), escaped, buf[:]))
		drop := g.drops(mc, free)
		if !drop {
			g.closeCut(&o, start)
		}
		before := len(g.edits)
		withheld := g.withheld
		m, ok := g.value(depth, mc, free || mc == memberMetadata)
		if !ok {
			return false
		}
		if drop {
			g.edits, g.withheld = g.edits[:before], withheld
			g.dropMember(&o, start, m)
		} else {
			o.kept = true
			o.note(g, mc, m)
		}
		o.last = g.i
	}
	if o.cut >= 0 {
		g.edits = append(g.edits, edit{span: span{o.cut, o.last}})
	}
	g.closeObject(&o, v, class, free)
	return true
}

// objectPass is the state of the pass over one hash.
type objectPass struct {
	kept bool
	cut  int // where a cut at the hash's beginning starts; -1 for none
	last int // end of the member before; -1 for none

	id, number         span
	customer           bool // says of itself that it is a customer
	owned, guest, null bool
	account            bool // names a customer account
	card               bool // has what only a card has
}

// note remembers what a kept member tells about its hash.
func (o *objectPass) note(g *guard, mc memberClass, m seen) {
	o.guest = o.guest || m.guest
	switch mc {
	case memberCustomer:
		o.null = o.null || m.kind == jsonNull
		o.owned = o.owned || m.owned
	case memberCustomerAccount:
		o.account = o.account || m.kind != jsonNull
		o.owned = o.owned || m.owned
	case memberID:
		if m.kind == jsonString {
			o.id = span{m.at.start + 1, m.at.end - 1}
		}
	case memberObject, memberType:
		if m.kind == jsonString {
			o.customer = o.customer || isCustomerType(g.meaning(span{m.at.start + 1, m.at.end - 1}))
		}
	case memberNumber:
		if m.kind == jsonString || m.kind == jsonNumber {
			o.number = m.at
		}
	case memberExpiry:
		o.card = true
	}
}

// closeObject draws the conclusions once the whole hash is known: members come in any order.
func (g *guard) closeObject(o *objectPass, v *seen, class memberClass, free bool) {
	if o.card && isPAN(g.b, o.number) {
		g.edits = append(g.edits, edit{o.number, `"` + withheldText + `"`})
		g.unsorted = true
		g.withheld++
	}
	if !g.judge || free {
		return
	}
	v.id = o.id
	if (o.customer || class.identity()) && o.id.end > o.id.start {
		o.owned = g.allowed(o.id) || o.owned
	}
	v.owned = o.owned
	v.guest = (o.guest || o.null && !o.account) && !o.owned
}

// drops reports whether a member may not pass, by its name. Inside metadata only the names that nobody
// chooses by accident are taken out.
func (g *guard) drops(mc memberClass, free bool) bool {
	switch mc {
	case memberClientSecret:
		return !g.pass.client
	case memberSecret:
		return !free && !g.pass.issued
	case memberCVC:
		return true
	}
	return false
}

// dropMember cuts a member out together with one comma: the one before it, or, at the beginning of the
// hash, the one after it, which closeCut finds.
func (g *guard) dropMember(o *objectPass, start int, m seen) {
	if m.kind != jsonNull {
		g.withheld++
	}
	switch {
	case o.kept:
		g.edits = append(g.edits, edit{span: span{o.last, g.i}})
	case o.cut < 0:
		o.cut = start
	}
}

func (g *guard) closeCut(o *objectPass, next int) {
	if o.cut >= 0 {
		g.edits = append(g.edits, edit{span: span{o.cut, next}})
		o.cut = -1
	}
}

// allowed judges an id and remembers the first foreign one.
func (g *guard) allowed(s span) bool {
	id := g.meaning(s)
	lo, hi := 0, len(g.list)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if string(g.list[mid]) < string(id) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(g.list) && string(g.list[lo]) == string(id) || g.created != "" && g.created == string(id) {
		return true
	}
	if g.foreign == "" {
		g.foreign = policy.CustomerID(id)
	}
	return false
}
