package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/keybrake/keybrake/internal/upstream"
)

const (
	// pageSize is the most that Stripe lists at once.
	pageSize = 100
	// maxPages bounds one list of one statement: 100,000 lines.
	maxPages = 1000
	// eventsLast is how long Stripe lists events.
	eventsLast = 30 * 24 * time.Hour
)

// booksQuery asks for lines with what moved, so that none has to be asked for again.
const booksQuery = "expand%5B0%5D=data.source"

// eventTypes tell which call made a movement, or what led to it. Stripe takes 20 at most.
var eventTypes = []string{
	"charge.succeeded", "charge.pending", "charge.captured", "refund.created", "payout.created", "transfer.created",
	"transfer.reversed", "topup.created", "application_fee.refunded", "charge.dispute.created", "climate.order.created",
	"invoice_payment.paid", "invoice.paid", "checkout.session.completed",
}

// Movements reads balance transactions, and the events that tell who made them as far as there still are any: the
// first for ever, the second for 30 days.
func (a *Adapter) Movements(
	ctx context.Context, span upstream.Span, now time.Time, look upstream.Lookup, tell func(pages int) error,
) (upstream.Statement, error) {
	r := &pages{ctx: ctx, look: look, tell: tell}
	var out upstream.Statement
	var lines []bookLine
	err := r.each("/v1/balance_transactions", booksQuery, span, func(raw json.RawMessage) (string, error) {
		var line bookLine
		err := json.Unmarshal(raw, &line)
		lines = append(lines, line)
		return line.ID, err
	})
	if err != nil {
		return out, fmt.Errorf("read Stripe's balance transactions: %w", err)
	}
	slices.Reverse(lines) // Stripe lists the newest first
	told := newTold()
	out.EventsFrom, err = r.events(span, now, told)
	if err != nil {
		return out, fmt.Errorf("read Stripe's events: %w", err)
	}
	switch {
	case out.EventsFrom.IsZero() && r.closed:
		out.Notes = append(out.Notes, "The upstream's secret may not read events, so nobody can tell which call made what: "+
			"tick Events: Read for it. Lines are matched by the ids of objects alone.")
	case out.EventsFrom.IsZero():
		out.Notes = append(out.Notes, "Stripe keeps events for 30 days, and the period is older: which call made what cannot be told any more. "+
			"Lines are matched by the ids of objects alone.")
	case out.EventsFrom.After(span.From):
		out.Notes = append(out.Notes, "Stripe keeps events for 30 days: which call made what cannot be told for lines before "+
			out.EventsFrom.UTC().Format(time.RFC3339)+". They are matched by the ids of objects alone.")
	}
	out.Movements = movements(lines, told)
	return out, nil
}

// pages reads lists to their end.
type pages struct {
	ctx    context.Context
	look   upstream.Lookup
	tell   func(int) error
	read   int
	closed bool // the secret may not read events
}

// refusedRead is an answer that is not what was asked for, as an error for operators.
func refusedRead(status int, body []byte) error {
	err := fmt.Errorf("status %d %s", status, says(body))
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Errorf("%w: %w", upstream.ErrCredential, err)
	}
	return err
}

// each calls f with every object of a list, newest first. f returns its id.
func (p *pages) each(path, query string, span upstream.Span, f func(json.RawMessage) (string, error)) error {
	query += fmt.Sprintf("&created%%5Bgte%%5D=%d&created%%5Blt%%5D=%d&limit=%d", span.From.Unix(), span.To.Unix(), pageSize)
	after := ""
	for range maxPages {
		status, body, err := p.look(p.ctx, upstream.Look{Method: http.MethodGet, Path: path, Query: query + after})
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return refusedRead(status, body)
		}
		var page struct {
			Data    []json.RawMessage `json:"data"`
			HasMore bool              `json:"has_more"`
		}
		if err := json.Unmarshal(body, &page); err != nil || page.Data == nil {
			return errors.New("the answer is no list") // and surely not an empty one
		}
		last := ""
		for _, raw := range page.Data {
			if last, err = f(raw); err != nil {
				return fmt.Errorf("an object of the list cannot be read: %w", err)
			}
			if last == "" {
				return errors.New("an object of the list has no id")
			}
		}
		p.read++
		if err := p.tell(p.read); err != nil {
			return err
		}
		if !page.HasMore || last == "" {
			return nil
		}
		after = "&starting_after=" + url.QueryEscape(last)
	}
	return upstream.ErrTooLong
}

// events reads what Stripe still tells of a span, and returns since when it does.
func (p *pages) events(span upstream.Span, now time.Time, told *told) (time.Time, error) {
	if kept := now.Add(-eventsLast); span.From.Before(kept) {
		span.From = kept
	}
	if !span.From.Before(span.To) {
		return time.Time{}, nil
	}
	query := ""
	for i, t := range eventTypes {
		query += fmt.Sprintf("&types%%5B%d%%5D=%s", i, t)
	}
	err := p.each("/v1/events", query[1:], span, func(raw json.RawMessage) (string, error) {
		var e toldEvent
		err := json.Unmarshal(raw, &e)
		told.add(&e)
		return e.ID, err
	})
	if errors.Is(err, upstream.ErrCredential) {
		p.closed = true
		return time.Time{}, nil
	}
	return span.From, err
}
