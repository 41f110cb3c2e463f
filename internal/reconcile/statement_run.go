package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// Bounds of a statement.
const (
	// DefaultRate is how many pages a second are asked for: well under the vendor's limits, so that agents keep theirs.
	DefaultRate = 10
	// MaxRate bounds what may be asked for instead.
	MaxRate = 100
	// MaxDays is the longest period.
	MaxDays = 366
	// lookBack is how far back calls are looked at that may have counted what moved in the period: an authorization
	// lives a month at most, and refunds come back within weeks.
	lookBack = 90 * 24 * time.Hour
	// lookAhead is how long after the period lines are read that may still belong to a call in it. What moves later
	// is asked for by its object.
	lookAhead = 2 * 24 * time.Hour
	// mostFinds bounds how many objects are asked for one by one.
	mostFinds = 200
	// pageTries and pageRetry are for pages that the vendor turns away or that get lost.
	pageTries = 4
	pageRetry = time.Second
	// pageDeadline ends one page.
	pageDeadline = 30 * time.Second
	// ledgerPage is how many reservations are read from the store at once.
	ledgerPage = 500
)

// ErrStatementBusy says that another statement is being made: each takes memory, and its share of the vendor's limits.
var ErrStatementBusy = errors.New("another statement is being made")

var errPageFull = errors.New("the page is full")

// Statements makes statements. Safe for concurrent use.
type Statements struct {
	Store  store.DB
	Ring   *vault.Ring
	Client *upstream.Client
	Books  upstream.Bookkeeper
	// Version is the vendor's version in which Books reads.
	Version string

	making sync.Mutex
}

// Ask says what a statement is about.
type Ask struct {
	Upstream *vault.Upstream
	Key      policy.KeyID // empty: all, and what no key made
	// From and To are the first and the last day, "2026-11-23".
	From, To  string
	PerSecond int // pages; 0 = DefaultRate
}

// Report is a statement.
type Report struct {
	AsOf  time.Time
	Lines []Line
	// Read is how many lines of the vendor's books there were.
	Read       int
	EventsFrom time.Time
	Notes      []string
}

// Make reads the vendor's books and the ledger and compares them. It asks whether or not a brake is pulled: a stop is
// for agents, and right after one is when somebody wants to know. tell hears how many pages were read and may end it.
// Errors wrap ErrStatementBusy, upstream.ErrCredential and upstream.ErrTooLong, or are the vendor's.
func (s *Statements) Make(ctx context.Context, ask Ask, tell func(pages int) error) (Report, error) {
	if !s.making.TryLock() {
		return Report{}, ErrStatementBusy
	}
	defer s.making.Unlock()
	span, err := s.spanOf(ask)
	if err != nil {
		return Report{}, err
	}
	if ask.PerSecond == 0 {
		ask.PerSecond = DefaultRate
	}
	r := &reading{
		Statements: s, ask: ask, span: span, tell: tell, limiter: rate.NewLimiter(rate.Limit(ask.PerSecond), 1),
		report: Report{AsOf: s.Store.Now()}, zones: make(map[policy.KeyID]*time.Location),
	}
	// The vendor first: what it shows was admitted before, so the ledger has it when it is read after.
	if err := r.books(ctx, "", span); err != nil {
		return Report{}, err
	}
	r.want()
	if err := r.ledger(ctx); err != nil {
		return Report{}, err
	}
	past := span
	if past.To.After(r.report.AsOf) {
		past.To = r.report.AsOf // these are read after the ledger
	}
	for _, account := range r.accounts() {
		if err := r.books(ctx, account, past); err != nil {
			return Report{}, fmt.Errorf("connected account %s: %w", account, err)
		}
	}
	r.claimUncounted()
	r.report.Lines = Compare(Comparison{
		From: ask.From, To: ask.To, Zone: func(k policy.KeyID) *time.Location { return r.zones[k] },
		Ours: vault.IsUpstreamIdempotencyKey, Entries: r.entries, Movements: r.movements, AsOf: r.report.AsOf,
	})
	if err := r.findOut(ctx); err != nil {
		return Report{}, err
	}
	if ask.Key != "" {
		r.report.Lines = slices.DeleteFunc(r.report.Lines, func(l Line) bool { return l.Key != ask.Key })
		r.report.Notes = append(r.report.Notes, "Only what this vault key made is shown: what no vault key made is nobody's line.")
	}
	return r.report, nil
}

// spanOf is the time that lines are read of: the days in the time zones of the upstream's keys and in UTC, and what may still
// belong to them.
func (s *Statements) spanOf(ask Ask) (upstream.Span, error) {
	zones := []*time.Location{time.UTC}
	for _, k := range s.Ring.Keys() {
		if k.Upstream == ask.Upstream.ID && k.Policy.Timezone != nil && !slices.Contains(zones, k.Policy.Timezone) {
			zones = append(zones, k.Policy.Timezone)
		}
	}
	var span upstream.Span
	for _, zone := range zones {
		from, err := time.ParseInLocation(time.DateOnly, ask.From, zone)
		if err != nil {
			return span, fmt.Errorf("the first day: %w", err)
		}
		to, err := time.ParseInLocation(time.DateOnly, ask.To, zone)
		if err != nil {
			return span, fmt.Errorf("the last day: %w", err)
		}
		// A day may begin an hour before the midnight that it has by name, or end after it: clocks change.
		from, to = from.Add(-2*time.Hour), to.AddDate(0, 0, 1).Add(2*time.Hour+lookAhead)
		if span.From.IsZero() || from.Before(span.From) {
			span.From = from
		}
		if to.After(span.To) {
			span.To = to
		}
	}
	return span, nil
}

// reading is one statement in the making.
type reading struct {
	*Statements
	ask       Ask
	span      upstream.Span
	tell      func(int) error
	limiter   *rate.Limiter
	pages     int
	report    Report
	movements []Moving
	entries   []Entry
	uncounted []Entry
	// wanted are the names under which something moved: calls outside of the period are only kept if they have one.
	wanted map[string]bool
	zones  map[policy.KeyID]*time.Location
}

// books reads the vendor's lines of one account.
func (r *reading) books(ctx context.Context, account policy.AccountID, span upstream.Span) error {
	read := r.pages
	got, err := r.Books.Movements(ctx, span, r.report.AsOf, r.look(account), func(pages int) error {
		r.pages = read + pages
		return r.tell(r.pages)
	})
	if err != nil {
		return err
	}
	for _, m := range got.Movements {
		r.movements = append(r.movements, Moving{Movement: m, Account: account})
	}
	r.report.Read += len(got.Movements)
	if account == "" {
		r.report.EventsFrom = got.EventsFrom
	}
	for _, n := range got.Notes {
		if !slices.Contains(r.report.Notes, n) {
			r.report.Notes = append(r.report.Notes, n)
		}
	}
	return nil
}

// want notes what the lines that were read can be claimed by.
func (r *reading) want() {
	r.wanted = make(map[string]bool)
	for i := range r.movements {
		for _, name := range r.movements[i].names() {
			r.wanted[name] = true
		}
		for _, id := range r.movements[i].Causes {
			r.wanted[string(id)] = true
		}
	}
}

// claims reports whether an entry is of the period, or can claim something that moved. Of connected accounts nothing was read
// yet, so their calls may.
func (r *reading) claims(e *Entry) bool {
	if !e.Elsewhere && !e.At.Before(r.span.From) || e.Account != "" {
		return true
	}
	return slices.ContainsFunc(e.names(), func(name string) bool { return r.wanted[name] }) ||
		slices.ContainsFunc(e.Objects, func(id policy.ObjectID) bool { return r.wanted[string(id)] })
}

// look asks the upstream with its own secret, in its turn, again where a page was turned away.
func (r *reading) look(account policy.AccountID) upstream.Lookup {
	header := http.Header{"Stripe-Version": {r.Version}}
	if account != "" {
		header["Stripe-Account"] = []string{string(account)}
	}
	return func(ctx context.Context, l upstream.Look) (status int, body []byte, err error) {
		for try := range pageTries {
			if try > 0 {
				if err := pause(ctx, time.Duration(try)*pageRetry); err != nil {
					return 0, nil, err
				}
			}
			if err := r.limiter.Wait(ctx); err != nil {
				return 0, nil, err
			}
			answer := r.once(ctx, l, header)
			status, body, err = answer.Status, answer.Body, answer.Err
			if err == nil && status != http.StatusTooManyRequests && status < http.StatusInternalServerError {
				return status, body, nil
			}
		}
		return status, body, err
	}
}

func (r *reading) once(ctx context.Context, l upstream.Look, header http.Header) upstream.Answer {
	ctx, cancel := context.WithTimeout(ctx, pageDeadline)
	defer cancel()
	return r.Client.Do(ctx, r.ask.Upstream.BaseURL, r.ask.Upstream, &upstream.Request{
		Method: l.Method, Path: l.Path, Query: l.Query, Body: l.Body, Header: header,
	})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ledger reads what was counted: by the keys of the upstream, and by those of others at the same host, which may have an
// upstream at the same account. It reads a page at a time: a long look into the store keeps its log from being cut.
func (r *reading) ledger(ctx context.Context) error {
	elsewhere := r.keys()
	since, last := r.span.From.Add(-lookBack), ledger.ReservationID(0)
	for {
		var page []*ledger.Reservation
		err := r.Store.View(ctx, func(tx store.Tx) error {
			page = page[:0]
			return tx.ReservationsSince("", since, func(v *ledger.Reservation) error {
				if v.ID <= last { // of the same instant, and read before
					return nil
				}
				if len(page) == ledgerPage {
					return errPageFull
				}
				page = append(page, v)
				return nil
			})
		})
		if err != nil && !errors.Is(err, errPageFull) {
			return fmt.Errorf("read reservations: %w", err)
		}
		for _, v := range page {
			if other, concerned := elsewhere[v.Key]; concerned {
				if err := r.add(v, other); err != nil {
					return err
				}
			}
		}
		if err == nil {
			return nil
		}
		since, last = page[len(page)-1].At, page[len(page)-1].ID
	}
}

// keys are those whose calls are looked at, with whether they are another upstream's. It notes their time zones.
func (r *reading) keys() (elsewhere map[policy.KeyID]bool) {
	elsewhere = make(map[policy.KeyID]bool)
	for _, k := range r.Ring.Keys() {
		other, ok := r.Ring.Upstream(k.Upstream)
		if ok && other.Mode == r.ask.Upstream.Mode && other.BaseURL.Host == r.ask.Upstream.BaseURL.Host {
			r.zones[k.ID], elsewhere[k.ID] = k.Policy.Timezone, other.ID != r.ask.Upstream.ID
		}
	}
	return elsewhere
}

// add makes the entries of a reservation. Those before the span are only there to claim what moved in it, and their rule is
// not looked for anew.
func (r *reading) add(v *ledger.Reservation, elsewhere bool) error {
	e := Entry{
		Reservation: v.ID, Effect: -1, Key: v.Key, Operation: v.Operation, At: v.At, Resolved: v.Resolved, State: v.State,
		Proof: v.Proof, Pending: v.Pending, Request: v.UpstreamRequest, IdempotencyKey: v.IdemKey, Elsewhere: elsewhere,
		Account: v.IdemAccount,
	}
	var sent *upstream.Request
	if len(v.Sent) > 0 {
		var err error
		if sent, err = upstream.DecodeSent(v.Sent); err != nil {
			return fmt.Errorf("reservation %d: %w", v.ID, err)
		}
		e.IdempotencyKey = sent.IdempotencyKey
	}
	if len(v.Effects) == 0 {
		if !e.At.Before(r.span.From) {
			r.uncounted = append(r.uncounted, e)
		}
		return nil
	}
	if v.At.Before(r.span.From) {
		sent = nil
	}
	traces := r.Books.Trace(v.Operation, sent, v.Effects)
	for i := range v.Effects {
		x := e
		x.Effect, x.Trace, x.Objects = i, traces[i], objectsOf(v, i)
		x.Amount = money.Amount{Minor: v.Counted[i], Currency: v.Effects[i].Amount.Currency}
		if v.Effects[i].Quote.Value > 0 {
			usd, err := v.Effects[i].Quote.USD(v.Counted[i])
			if err != nil {
				return fmt.Errorf("reservation %d: %w", v.ID, err)
			}
			x.USD = usd
		}
		if r.claims(&x) {
			r.entries = append(r.entries, x)
		}
	}
	return nil
}

// claimUncounted lets calls that counted nothing claim what the vendor says that they made.
func (r *reading) claimUncounted() {
	made := make(map[string][]upstream.MovementKind)
	for i := range r.movements {
		for _, by := range r.movements[i].Calls {
			for _, name := range [...]string{by.Request, by.IdempotencyKey} {
				made[name] = append(made[name], r.movements[i].Kind)
			}
		}
	}
	for _, e := range r.uncounted {
		var claimed []upstream.MovementKind
		for _, name := range [...]string{e.Request, e.IdempotencyKey} {
			for _, kind := range made[name] {
				if name != "" && !slices.Contains(claimed, kind) {
					claimed = append(claimed, kind)
					e.Trace = upstream.Trace{Kind: kind}
					r.entries = append(r.entries, e)
				}
			}
		}
	}
}

// objectsOf are the objects of a call, that of effect i first.
func objectsOf(v *ledger.Reservation, i int) []policy.ObjectID {
	var out []policy.ObjectID
	for n := range v.Effects {
		id := v.Effects[(i+n)%len(v.Effects)].Object
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// accounts are the connected accounts that calls of the period named.
func (r *reading) accounts() []policy.AccountID {
	var out []policy.AccountID
	for i := range r.entries {
		e := &r.entries[i]
		if e.Account != "" && !e.Elsewhere && !e.At.Before(r.span.From) && e.At.Before(r.span.To) && !slices.Contains(out, e.Account) {
			out = append(out, e.Account)
		}
	}
	slices.SortFunc(out, func(a, b policy.AccountID) int { return strings.Compare(string(a), string(b)) })
	return out
}

// findOut asks the vendor for what is behind differences: its object may tell that it waits, or that it moved outside of the
// lines that were read.
func (r *reading) findOut(ctx context.Context) error {
	asked := 0
	for i := range r.report.Lines {
		l := &r.report.Lines[i]
		late := l.Class == NotYet && l.Entries[0].Pending && r.report.AsOf.After(r.span.To) // its line may be a later one
		if l.Class != MissingThere && l.Class != Different && !late {
			continue
		}
		if asked == mostFinds {
			r.report.Notes = append(r.report.Notes, fmt.Sprintf("Only the first %d lines that lack something were asked for one by one.", mostFinds))
			return nil
		}
		for _, id := range l.Entries[0].Objects {
			found, ok, err := r.Books.Find(ctx, l.Kind, id, r.look(l.Entries[0].Account))
			if err != nil && !errors.Is(err, upstream.ErrCredential) {
				return err
			}
			if ok {
				asked++
				l.learn(found)
				break
			}
		}
	}
	return nil
}

// learn takes in what the vendor says about a line's object.
func (l *Line) learn(f upstream.Found) {
	switch {
	case f.Known && f.Moved == l.Ledger:
		l.Class, l.Vendor, l.By = Matched, f.Moved, "look_up"
		l.Why = "the object tells it; its line is outside of those that were read"
		if !f.At.IsZero() {
			l.Why = "it moved at " + f.At.Format(time.RFC3339) + ", outside of the lines that were read"
		}
	case l.Class == Different:
	case f.Known && f.Moved.Minor == 0 && l.Class == NotYet:
		l.Class, l.Why = MissingThere, "nothing is going to move any more ("+f.Why+"): the ledger follows when that is reconciled"
	case f.Known && f.Moved.Minor != 0:
		l.Class, l.Vendor, l.By, l.Why = Different, f.Moved, "look_up", "the object tells another amount: "+f.Why
	case f.Known:
		l.Why += ": " + f.Why
	case f.Shows == upstream.ShowsLater:
		l.Class, l.Why = NotYet, f.Why
	case l.Class == NotYet:
	case f.Shows == upstream.ShowsNever:
		l.Class, l.Why = NotMoney, f.Why
	default:
		l.Why += ": " + f.Why
	}
}
