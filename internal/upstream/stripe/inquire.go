package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

const (
	// inquiryPages bounds what is read of one list for one call: with 100 entries to a page, all that an account did
	// in some minutes. What lies behind it is not known, so then nothing is said to be absent.
	inquiryPages = 10
	// clockSkew is how far Stripe's clock may be from ours, then or now. A call that ran by a clock further away would be
	// taken for absent, so it is much: what else happened in that time is told apart by its events.
	clockSkew = 30 * time.Minute
)

// parents are parameters that name the object whose list the made object will be in. Lists filter by other names too,
// but what those mean is not in every list the same.
var parents = []string{"customer", "charge", "payment_intent", "invoice", "subscription", "financial_account"}

// inquirer is the work of one Inquire. It belongs to one goroutine.
type inquirer struct {
	ctx     context.Context
	look    upstream.Lookup
	catalog *Catalog
	q       *upstream.Inquiry
	call    *upstream.Call
	req     *Request

	candidates [][]byte         // objects of the time that nobody is counted for
	others     map[string]bool  // made by another request, as an event says
	acts       string           // the id of the object that the call acts on
	ended      map[string]bool  // brought to its last state by another request, as an event says
	ours       upstream.Outcome // what an event with our idempotency key says
	log        string           // what the log of events says, for the record
}

// Inquire implements upstream.Inquirer.
func (a *Adapter) Inquire(ctx context.Context, q *upstream.Inquiry, look upstream.Lookup) (upstream.Outcome, error) {
	in := &inquirer{ctx: ctx, look: look, catalog: a.catalog, q: q, others: make(map[string]bool), ended: make(map[string]bool)}
	if why := in.parse(a); why != "" {
		return upstream.Outcome{Why: why}, nil
	}
	seen, err := in.seen()
	if err != nil {
		return upstream.Outcome{}, err
	}
	if err := in.readLog(); err != nil {
		return upstream.Outcome{}, err
	}
	switch {
	case in.ours.Fate == upstream.Moved:
		seen = in.ours
	case len(in.candidates) > 0:
		seen = in.choose(seen)
	case seen.Fate == upstream.Moved && in.ends() && in.ended[in.acts]:
		seen = upstream.Outcome{Fate: upstream.Refused, Why: in.acts + " was brought to its end by another request"}
	}
	if seen.Fate != upstream.Moved {
		seen.NewCustomer, seen.Why = "", seen.Why+"; "+in.log
		return seen, nil
	}
	return seen, in.followEnd(&seen)
}

// followEnd adds what has become of the objects since: an event, or the answer to a confirmation, tells how they were, and
// nobody tells of it again.
func (in *inquirer) followEnd(out *upstream.Outcome) error {
	for i, e := range in.req.Effects {
		id := out.Moved[i].Object
		words := in.catalog.finals[e.CountKey]
		if id == "" || len(words) == 0 {
			continue
		}
		path, ok := words[0].Ref.Path(func(string) (string, bool) { return string(id), true })
		if !ok {
			continue
		}
		body, ok, err := in.get(path, "")
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		finals, err := lastWords(words, id, body)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		for _, final := range finals {
			if !slices.Contains(out.Finals, final) {
				out.Finals = append(out.Finals, final)
			}
		}
	}
	return nil
}

// parse reads the call as it was sent.
func (in *inquirer) parse(a *Adapter) (why string) {
	sent := in.q.Sent
	raw := &upstream.RawCall{Method: sent.Method, Path: sent.Path, Query: sent.Query, Header: sent.Header, Body: sent.Body}
	call, refusal := a.Parse(raw, first(sent.Header, "Stripe-Version"))
	if refusal != nil {
		return "the stored request cannot be read any more: " + string(refusal.Code)
	}
	in.call, in.req = call, requestOf(call)
	if len(in.q.Effects) != len(call.Operation.Effects) {
		return "what was held does not fit what " + string(call.Operation.Name) + " does now"
	}
	call.Operation.Effects = in.q.Effects
	return ""
}

// seen reads the list that the call's object would be in, or the object that the call acts on.
func (in *inquirer) seen() (upstream.Outcome, error) {
	row := in.req.Row
	if len(in.req.Effects) == 0 && !in.ends() {
		return upstream.Outcome{Why: string(row.Name) + " moves nothing that could be seen"}, nil
	}
	if list := in.listed(); list != nil {
		return in.fromList(list)
	}
	if ref, ok := in.acted(); ok {
		return in.fromObject(ref)
	}
	return upstream.Outcome{Why: "Stripe has no list that would show " + string(row.Name)}, nil
}

// aliases are operations whose objects are in a list of another path.
var aliases = map[string]string{
	"/v1/charges/{charge}/refund": "/v1/refunds",
}

// listed is the operation that lists what the call makes; nil if it makes nothing that is listed.
func (in *inquirer) listed() *Row {
	row := in.req.Row
	template := row.Template
	if alias, ok := aliases[template]; ok {
		template = alias
	} else if last := template[strings.LastIndexByte(template, '/')+1:]; strings.HasPrefix(last, "{") {
		return nil // it acts on the object that it names
	}
	list := in.catalog.byCall[http.MethodGet+" "+template]
	if list == nil || list.Params == nil || list.declares(Field{"limit"}) != nil {
		return nil
	}
	return list
}

// acted is the look-up of the object that the call acts on: the longest beginning of its path that can be read.
func (in *inquirer) acted() (LookupRef, bool) {
	template := in.req.Row.Template
	for template != "" {
		row := in.catalog.byCall[http.MethodGet+" "+template]
		if row != nil && strings.HasSuffix(template, "}") {
			ref, err := ParseLookupRef(http.MethodGet + " " + template)
			return ref, err == nil
		}
		template = template[:strings.LastIndexByte(template, '/')]
	}
	return LookupRef{}, false
}

// get reads one object or list; ok is false if Stripe has none.
func (in *inquirer) get(path, query string) (body []byte, ok bool, err error) {
	status, body, err := in.look(in.ctx, upstream.Look{Method: http.MethodGet, Path: path, Query: query})
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("read %s: %w", path, err)
	case status == http.StatusNotFound:
		return nil, false, nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, false, fmt.Errorf("read %s: %w (status %d)", path, upstream.ErrCredential, status)
	case status != http.StatusOK || !validJSON(body):
		return nil, false, fmt.Errorf("read %s: status %d", path, status)
	}
	return body, true, nil
}

// fromObject reads the object that the call acts on.
func (in *inquirer) fromObject(ref LookupRef) (upstream.Outcome, error) {
	path, ok := ref.Path(in.req.Value)
	if !ok {
		return upstream.Outcome{Why: "the call names no object that can be read"}, nil
	}
	body, ok, err := in.get(path, "")
	if err != nil {
		return upstream.Outcome{}, err
	}
	if !ok {
		return upstream.Outcome{Fate: upstream.Refused, Why: path + " does not exist"}, nil
	}
	in.acts = findText(body, Field{"id"})
	out := in.outcome(body)
	status := closedWord(findText(body, Field{"status"}))
	switch {
	case !in.visible():
		return upstream.Outcome{Why: path + " does not show what the call did"}, nil
	case out.Fate != upstream.Moved || !in.shows(body, &out) || in.collects() && untried(body):
		return upstream.Outcome{Fate: upstream.Refused, Why: path + " is " + status + ": the call did nothing to it"}, nil
	case in.collects() && findText(body, Field{"object"}) == "invoice" && status == "open":
		return upstream.Outcome{Why: path + " is open, and somebody tried to collect it"}, nil
	}
	out.Why = path + " is " + status
	return out, nil
}

// collects reports whether the call tries to take a payment on its object, which its status then tells.
func (in *inquirer) collects() bool {
	return slices.ContainsFunc(in.req.Effects, func(e *EffectRule) bool { return e.Klass == KlassMoveIn && !e.CountsWhen.Always })
}

// untried reports an intent or an invoice on which no payment was ever tried. The answer to an attempt may show such a
// status too, and counts because of what may follow; but where there was no attempt nothing follows from one.
func untried(body []byte) bool {
	switch findText(body, Field{"object"}) {
	case "payment_intent":
		return findText(body, Field{"status"}) == "requires_confirmation" && identity(body, Field{"latest_charge"}) == ""
	case "invoice":
		_, attempted := findJSON(body, Field{"attempted"})
		return findText(body, Field{"status"}) == "open" && string(attempted) == "false"
	}
	return false
}

// visible reports whether the object tells at all if the call ran: by a status that only the call leads to, or by
// the total that it asked for.
func (in *inquirer) visible() bool {
	return !slices.ContainsFunc(in.req.Effects, func(e *EffectRule) bool {
		return e.CountsWhen.Always && !e.showsTotal() && !in.ends()
	})
}

// showsTotal reports whether the object's amount is what the call brings it to.
func (e *EffectRule) showsTotal() bool {
	return e.Mode == policy.Total && len(e.Settle) > 0 && e.Settle[0].Kind == FromResponse
}

// ends reports whether the call is one that brings its object to its last state, where that can be read.
func (in *inquirer) ends() bool { return in.req.Row.Money.Final != nil }

// shows reports whether the object is as the call would have left it, where its status alone does not tell.
func (in *inquirer) shows(body []byte, out *upstream.Outcome) bool {
	for i, e := range in.req.Effects {
		if !e.CountsWhen.Always {
			continue
		}
		if in.ends() {
			if len(out.Finals) == 0 {
				return false
			}
			continue
		}
		// The object's own amount: what is settled for the time being is never less than was held.
		if n, ok := wholeNumber(body, e.Settle[0].Field); !e.showsTotal() || !ok || n != in.q.Effects[i].Amount.Minor {
			return false
		}
	}
	return true
}

// outcome reads an object as if it were the answer to the call.
func (in *inquirer) outcome(object []byte) upstream.Outcome {
	answer := &upstream.Answer{
		Status: http.StatusOK, Sent: true, Body: object,
		Header: http.Header{"Content-Type": []string{"application/json"}},
	}
	out := upstream.Outcome{}
	readSuccess(in.call, answer, &out)
	return out
}

// page is one page of a list.
type page struct {
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
}

// list reads a list between two times, newest first, up to so many pages. whole is false if there is more.
func (in *inquirer) list(path, query string, each func(entry []byte) (stop bool, err error)) (whole bool, err error) {
	after := ""
	for range inquiryPages {
		q := query
		if after != "" {
			q += "&starting_after=" + string(appendEscaped(nil, after))
		}
		body, ok, err := in.get(path, q)
		if err != nil || !ok {
			return ok, err
		}
		var p page
		if err := json.Unmarshal(body, &p); err != nil {
			return false, fmt.Errorf("read %s: %w", path, err)
		}
		for _, entry := range p.Data {
			stop, err := each(entry)
			if err != nil || stop {
				return true, err
			}
			after = findText(entry, Field{"id"})
		}
		if !p.HasMore || after == "" {
			return true, nil
		}
	}
	return false, nil
}

// span is the filter for what Stripe may have made while the call ran.
func (in *inquirer) span() string {
	return "created%5Bgte%5D=" + strconv.FormatInt(in.q.From.Add(-clockSkew).Unix(), 10) +
		"&created%5Blte%5D=" + strconv.FormatInt(in.q.To.Add(clockSkew).Unix(), 10)
}

// fromList looks for the object that the call would have made among those of the same parents.
func (in *inquirer) fromList(list *Row) (upstream.Outcome, error) {
	ref := LookupRef{Method: http.MethodGet, Template: list.Template, Placeholders: list.Placeholders}
	path, ok := ref.Path(in.req.Value)
	if !ok {
		return upstream.Outcome{Why: "the call names no list that can be read"}, nil
	}
	query := "limit=100"
	if list.declares(Field{"created", "gte"}) == nil {
		query += "&" + in.span()
	}
	for _, name := range parents {
		if v, ok := in.req.Value(name); ok && !slices.Contains(list.Placeholders, name) && list.declares(Field{name}) == nil {
			query += "&" + name + "=" + string(appendEscaped(nil, v))
		}
	}
	if list.Template == "/v1/subscriptions" {
		query += "&status=all" // without it those that ended already are left out
	}
	whole, err := in.list(path, query, func(entry []byte) (bool, error) {
		created, dated := wholeNumber(entry, Field{"created"})
		if dated && !in.during(created) {
			return false, nil
		}
		owned, err := in.q.Owned(policy.ObjectID(findText(entry, Field{"id"})))
		if err == nil && !owned {
			in.candidates = append(in.candidates, entry)
		}
		return false, err
	})
	if err != nil {
		return upstream.Outcome{}, err
	}
	if !whole {
		return upstream.Outcome{Why: path + " has more entries of that time than are read"}, nil
	}
	return upstream.Outcome{Fate: upstream.Refused, Why: path + " shows nothing of it"}, nil
}

// choose looks for the call's object among the candidates. Without one the list says what it said, unless there is an
// object that nobody knows: then it may have come of this call in a form that we do not understand.
func (in *inquirer) choose(seen upstream.Outcome) upstream.Outcome {
	for _, object := range in.candidates {
		id := findText(object, Field{"id"})
		if in.others[id] {
			continue
		}
		if !in.fits(object) {
			seen = upstream.Outcome{Why: id + " is of that time, and no call is counted for it"}
			continue
		}
		found := in.outcome(object)
		found.NewCustomer = "" // it fits; whose it is, nobody has said
		found.Why = id + " is what the call asked for, and no other call is counted for it"
		if found.Fate == upstream.Refused {
			found.Why = id + " is what the call asked for, and is " + closedWord(findText(object, Field{"status"}))
		}
		if found.Fate == upstream.Moved {
			return found
		}
		seen = found
	}
	return seen
}

func (in *inquirer) during(created int64) bool {
	at := time.Unix(created, 0)
	return !at.Before(in.q.From.Add(-clockSkew)) && !at.After(in.q.To.Add(clockSkew))
}

// fits reports whether an object is what the call asked for, as far as both say it.
func (in *inquirer) fits(object []byte) bool {
	for _, name := range [...]string{"customer", "charge", "payment_intent", "invoice", "destination", "subscription", "currency"} {
		asked, ok := in.req.Value(name)
		has := identity(object, Field{name})
		if ok && has != "" && !strings.EqualFold(asked, has) {
			return false
		}
	}
	for i, e := range in.req.Effects {
		held := in.q.Effects[i].Amount
		if !in.q.Effects[i].Known || len(e.Settle) == 0 {
			continue
		}
		field := e.Settle[0].Field
		if e.Pin != nil && len(field) == 0 {
			field = Field{"amount"} // of what is made; the answer was to be another object
		}
		if len(field) == 0 || e.Settle[0].Kind == FromLookup {
			continue
		}
		n, ok := wholeNumber(object, field)
		if n < 0 && (e.Signed || e.Settle[0].Kind == FromResponseAbs) {
			n = -n
		}
		if asked := len(e.Amount) > 0 && e.Amount[0].Kind == FromRequest; !ok || asked && n != held.Minor {
			return false
		}
		if !sameCurrency(e.CurrencyField, held.Currency, object) {
			return false
		}
	}
	return true
}

// event is what is read of Stripe's log of events.
type event struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Request struct {
		ID             string `json:"id"`
		IdempotencyKey string `json:"idempotency_key"`
	} `json:"request"`
	Data struct {
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

// readLog reads Stripe's log of events of the time. An event names the idempotency key of the request that caused it:
// ours belongs to this call alone. That there is none proves nothing.
func (in *inquirer) readLog() error {
	if in.q.Sent.IdempotencyKey == "" || in.req.Row.V2() {
		in.log = "no log of events tells of it"
		return nil
	}
	in.log = "no event names it"
	whole, err := in.list("/v1/events", "limit=100&"+in.span(), func(entry []byte) (bool, error) {
		var e event
		if err := json.Unmarshal(entry, &e); err != nil {
			return false, err
		}
		return in.readEvent(&e), nil
	})
	switch {
	case errors.Is(err, upstream.ErrCredential):
		in.log = "the log of events may not be read"
		return nil
	case err == nil && !whole && in.ours.Fate != upstream.Moved:
		in.log = "there are more events of that time than are read"
	}
	return err
}

// readEvent reads one event; stop says that it tells everything.
func (in *inquirer) readEvent(e *event) (stop bool) {
	object := e.Data.Object
	if key := e.Request.IdempotencyKey; key != in.q.Sent.IdempotencyKey {
		// Every call of ours has a key. What was made without any request was not made by one of ours either, but whether
		// Stripe always names the request of what it makes a little later is not known.
		if key == "" && e.Request.ID == "" {
			return false
		}
		switch id := findText(object, Field{"id"}); {
		case strings.HasSuffix(e.Type, ".created"):
			in.others[id] = true
		case e.Type == "payment_intent.succeeded", e.Type == "charge.captured":
			in.ended[id] = true
		}
		return false
	}
	in.log = "the event " + e.ID + " names it and does not say what it came to"
	if want := in.req.Row.Object; want != "" && findText(object, Field{"object"}) != want {
		return false
	}
	out := in.outcome(object)
	if out.Fate != upstream.Moved {
		return false
	}
	out.Why = "the event " + e.ID + " names its idempotency key"
	in.ours = out
	return true
}
