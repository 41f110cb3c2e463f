package stripe

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// toldEvent is what is read of a notification.
type toldEvent struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Created int64  `json:"created"`
	Request *struct {
		ID             string `json:"id"`
		IdempotencyKey string `json:"idempotency_key"`
	} `json:"request"`
	Data struct {
		Object toldObject `json:"object"`
	} `json:"data"`
}

// toldObject has the members of all objects that events are read about; each has some of them.
type toldObject struct {
	ID            idOf `json:"id"`
	PaymentIntent idOf `json:"payment_intent"`
	PaymentLink   idOf `json:"payment_link"`
	Invoice       idOf `json:"invoice"`
	Subscription  idOf `json:"subscription"`
	Payment       struct {
		PaymentIntent idOf `json:"payment_intent"`
		Charge        idOf `json:"charge"`
	} `json:"payment"`
	Parent struct {
		Subscription struct {
			Subscription idOf `json:"subscription"`
		} `json:"subscription_details"`
	} `json:"parent"`
}

// idOf is an object's id, whether the object is expanded or not.
type idOf string

// UnmarshalJSON takes a text, an object with an id, or null. Anything else has no id.
func (i *idOf) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*i = idOf(text)
		return nil
	}
	var object struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(b, &object) // a list or a number names no object
	*i = idOf(object.ID)
	return nil
}

// note is one event about an object.
type note struct {
	kind string // the event's type
	at   int64
	by   upstream.MadeBy
}

// told is what events tell: who made an object's movement, and what stands behind a payment.
type told struct {
	notes map[idOf][]note
	// invoices and sessions are by payment: an intent or a charge.
	invoices, sessions map[idOf][]idOf
	// leads are what brought an invoice or a session about.
	leads map[idOf][]idOf
}

func newTold() *told {
	return &told{
		notes: make(map[idOf][]note), invoices: make(map[idOf][]idOf), sessions: make(map[idOf][]idOf), leads: make(map[idOf][]idOf),
	}
}

func link(m map[idOf][]idOf, from, to idOf) {
	if from != "" && to != "" && !slices.Contains(m[from], to) {
		m[from] = append(m[from], to)
	}
}

func (t *told) add(e *toldEvent) {
	o := &e.Data.Object
	switch e.Type {
	case "invoice_payment.paid":
		link(t.invoices, o.Payment.PaymentIntent, o.Invoice)
		link(t.invoices, o.Payment.Charge, o.Invoice)
	case "invoice.paid":
		link(t.leads, o.ID, o.Parent.Subscription.Subscription)
		link(t.leads, o.ID, o.Subscription)
		link(t.invoices, o.PaymentIntent, o.ID) // versions before 2025-03-31
	case "checkout.session.completed":
		link(t.sessions, o.PaymentIntent, o.ID)
		link(t.sessions, o.Invoice, o.ID)
		link(t.leads, o.ID, o.PaymentLink)
		link(t.leads, o.ID, o.Subscription)
	default:
		n := note{kind: e.Type, at: e.Created}
		if e.Request != nil {
			n.by = upstream.MadeBy{Request: e.Request.ID, IdempotencyKey: e.Request.IdempotencyKey}
		}
		t.notes[o.ID] = append(t.notes[o.ID], n)
	}
}

// behind completes a payment with what stands behind it: its invoice and its session are the same money, and what
// made those may make more.
func (t *told) behind(m *upstream.Movement) {
	for i := 0; i <= len(m.Same); i++ { // grows while it is read
		id := idOf(m.Object)
		if i > 0 {
			id = idOf(m.Same[i-1])
		}
		for _, more := range slices.Concat(t.invoices[id], t.sessions[id]) {
			m.Same = addID(m.Same, more)
		}
		for _, lead := range t.leads[id] {
			m.Causes = addID(m.Causes, lead)
		}
	}
}

func addID(ids []policy.ObjectID, id idOf) []policy.ObjectID {
	if id == "" || slices.Contains(ids, policy.ObjectID(id)) {
		return ids
	}
	return append(ids, policy.ObjectID(id))
}

// parentsNotes is how far an event about a parent (a transfer, a fee) may be from the line of its part: both are written by one
// request, in whole seconds.
const parentsNotes = 2 * time.Second

// who completes a line with the calls that it goes back to. parent is the object whose events tell of the line's own,
// where it has none.
func (t *told) who(m *upstream.Movement, parent idOf) {
	notes := t.notes[idOf(m.Object)]
	for _, n := range t.notes[parent] {
		if d := m.At.Sub(time.Unix(n.at, 0)); parent != "" && (n.kind == "transfer.reversed" || n.kind == "application_fee.refunded") &&
			d.Abs() <= parentsNotes {
			notes = append(slices.Clone(notes), n)
		}
	}
	for _, n := range notes {
		if n.by.Request != "" || n.by.IdempotencyKey != "" {
			m.Origin = upstream.OriginCall
			if !slices.Contains(m.Calls, n.by) {
				m.Calls = append(m.Calls, n.by)
			}
		}
	}
	if m.Origin == upstream.OriginUnknown && len(notes) > 0 {
		m.Origin = upstream.OriginAutomatic
	}
}
