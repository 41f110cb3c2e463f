package stripe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

const finalColumns = "type path bucket when amount notes"

// LastWord is one line of finals.csv: when the last word about an object has been spoken, whatever call or person
// brought it about, and what then remains counted in a bucket.
type LastWord struct {
	Ref    LookupRef
	Bucket policy.Resource
	When   Condition
	Amount Field // empty: nothing remains
}

// LastWords lists what is known of objects of a type, by type. It must not be changed.
func (c *Catalog) LastWords() map[string][]LastWord { return c.finals }

// ChangeTypes lists the events after which objects are looked at.
func ChangeTypes() []string { return slices.Clone(changeTypes[:]) }

func (c *Catalog) addFinal(r record) error {
	p := &parser{record: r}
	w := LastWord{Bucket: policy.Resource(r.get("bucket")), When: p.condition("when"), Amount: p.field("amount")}
	var err error
	w.Ref, err = ParseLookupRef(http.MethodGet + " " + r.get("path"))
	p.fail("path", err)
	if p.err != nil {
		return p.err
	}
	object := r.get("type")
	switch row := c.byCall[http.MethodGet+" "+w.Ref.Template]; {
	case row == nil || row.Object != object:
		return fmt.Errorf("GET %s does not read a %s", w.Ref.Template, object)
	case len(w.Ref.Placeholders) != 1:
		return fmt.Errorf("GET %s does not take one id", w.Ref.Template)
	case !c.counts(w.Bucket, object):
		return fmt.Errorf("nothing is counted once for a %s in %s", object, w.Bucket)
	case len(w.When.Terms) == 0:
		return fmt.Errorf("when: %q is not a state", r.get("when"))
	}
	if c.finals == nil {
		c.finals = make(map[string][]LastWord)
	}
	c.finals[object] = append(c.finals[object], w)
	return nil
}

// counts reports whether some effect counts such an object once in the bucket.
func (c *Catalog) counts(bucket policy.Resource, object string) bool {
	return slices.ContainsFunc(c.rows, func(row *Row) bool {
		return slices.ContainsFunc(row.Money.Effects, func(e *EffectRule) bool { return e.Bucket == bucket && e.CountKey == object })
	})
}

// changeTypes are the events after which an object may have reached its last state; Stripe filters by twenty at most.
var changeTypes = [...]string{
	"charge.captured", "charge.expired", "charge.refund.updated", "checkout.session.expired", "invoice.voided",
	"payment_intent.canceled", "payment_intent.succeeded", "payout.canceled", "payout.failed", "refund.failed", "refund.updated",
	"topup.canceled", "topup.failed", "treasury.inbound_transfer.canceled", "treasury.inbound_transfer.failed",
	"treasury.outbound_payment.canceled", "treasury.outbound_payment.failed", "treasury.outbound_payment.returned",
	"treasury.outbound_transfer.failed", "treasury.outbound_transfer.returned",
}

// Changes implements upstream.Later. A place is the id of an event. One that Stripe does not know any more (it keeps
// events for thirty days) is an error; the caller begins anew from a time.
func (a *Adapter) Changes(ctx context.Context, place string, since time.Time, look upstream.Lookup) ([]upstream.Changed, string, bool, error) {
	query := "limit=100"
	for i, t := range changeTypes {
		query += "&types%5B" + strconv.Itoa(i) + "%5D=" + t
	}
	in := &inquirer{ctx: ctx, look: look}
	var events []event
	keep := func(entry []byte) (bool, error) {
		var e event
		err := json.Unmarshal(entry, &e)
		events = append(events, e)
		return false, err
	}
	more := false
	if place == "" {
		// From a time on there is no way but from the newest back to it.
		whole, err := in.list("/v1/events", query+"&created%5Bgte%5D="+strconv.FormatInt(since.Unix(), 10), keep)
		if err != nil {
			return nil, "", false, err
		}
		if !whole {
			return nil, "", false, fmt.Errorf("read /v1/events: more than %d events since %s", inquiryPages*100, since.UTC().Format(time.RFC3339))
		}
	} else {
		body, ok, err := in.get("/v1/events", query+"&ending_before="+string(appendEscaped(nil, place)))
		if err != nil {
			return nil, "", false, err
		}
		var p page
		if !ok {
			return nil, "", false, fmt.Errorf("read /v1/events: %w", upstream.ErrForgotten)
		}
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, "", false, fmt.Errorf("read /v1/events: %w", err)
		}
		more = p.HasMore
		for _, entry := range p.Data {
			if _, err := keep(entry); err != nil {
				return nil, "", false, fmt.Errorf("read /v1/events: %w", err)
			}
		}
	}
	slices.Reverse(events)
	out := make([]upstream.Changed, 0, len(events))
	for i := range events {
		out, place = append(out, events[i].changed()), events[i].ID
	}
	return out, place, more, nil
}

func (e *event) changed() upstream.Changed {
	return upstream.Changed{
		Type: findText(e.Data.Object, Field{"object"}), Object: policy.ObjectID(findText(e.Data.Object, Field{"id"})), Event: e.ID,
	}
}

// Announced implements upstream.Later.
func (a *Adapter) Announced(message []byte) (upstream.Changed, error) {
	var e event
	if !validJSON(message) {
		return upstream.Changed{}, fmt.Errorf("the message is no JSON")
	}
	if err := json.Unmarshal(message, &e); err != nil {
		return upstream.Changed{}, fmt.Errorf("read the message: %w", err)
	}
	c := e.changed()
	if c.Event == "" || c.Type == "" || c.Object == "" {
		return upstream.Changed{}, fmt.Errorf("the message is no event about an object")
	}
	return c, nil
}

// Truths implements upstream.Later. It reads the object as it is now: an event tells how it was, and may come late.
func (a *Adapter) Truths(ctx context.Context, c upstream.Changed, look upstream.Lookup) ([]upstream.Truth, error) {
	words := a.catalog.finals[c.Type]
	if len(words) == 0 {
		return nil, nil
	}
	path, ok := words[0].Ref.Path(func(string) (string, bool) { return string(c.Object), true })
	if !ok {
		return nil, nil
	}
	in := &inquirer{ctx: ctx, look: look}
	body, ok, err := in.get(path, "")
	if err != nil || !ok {
		return nil, err
	}
	finals, err := lastWords(words, c.Object, body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	out := make([]upstream.Truth, len(finals))
	for i, final := range finals {
		out[i] = upstream.Truth{Final: final, Why: path + " is " + closedWord(findText(body, Field{"status"}))}
	}
	return out, nil
}

// lastWords reads what remains counted for an object, in each bucket in which its last word has been spoken.
func lastWords(words []LastWord, id policy.ObjectID, body []byte) (out []upstream.Final, err error) {
	currency, err := money.ParseCurrency(findText(body, Field{"currency"}))
	if err != nil || findText(body, Field{"id"}) != string(id) {
		return nil, fmt.Errorf("the object has no currency or another id")
	}
	for _, w := range words {
		if !w.When.Eval(answerField(body)) {
			continue
		}
		final := upstream.Final{Bucket: w.Bucket, Object: id, Amount: money.Amount{Currency: currency}}
		if len(w.Amount) > 0 {
			n, ok := wholeNumber(body, w.Amount)
			if !ok || n < 0 {
				return nil, fmt.Errorf("no usable %s", w.Amount)
			}
			final.Amount.Minor = n
		}
		out = append(out, final)
	}
	return out, nil
}

var (
	_ upstream.Inquirer = (*Adapter)(nil)
	_ upstream.Later    = (*Adapter)(nil)
)
