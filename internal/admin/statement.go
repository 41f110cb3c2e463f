package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// statementDays is the period of a statement that names none: today and the six days before.
const statementDays = 7

// StatementRequest asks for a statement: what the ledger says moved, held against the vendor's own books.
type StatementRequest struct {
	From string `json:"from,omitempty" doc:"first day, 2026-11-01; six days before the last if left out"`
	To   string `json:"to,omitempty" doc:"last day, inclusive; today if left out"`
	Key  string `json:"key,omitempty" doc:"id or name: only what this vault key made"`
	All  bool   `json:"all,omitempty" doc:"list what matches too"`
	// Others: the account is not Keybrake's alone, so what no vault key made is listed and is no difference.
	Others bool `json:"others,omitempty" doc:"other systems move money at this account too: what no vault key made is no difference"`
	Rate   int  `json:"rate,omitempty" doc:"pages per second that the vendor is asked for; 0 = 10"`
}

// Statement is the ledger held against the vendor's books. Amounts are decimal strings in their currency's unit.
type Statement struct {
	Upstream string    `json:"upstream"`
	Mode     string    `json:"mode"`
	From     string    `json:"from" doc:"first day"`
	To       string    `json:"to" doc:"last day, inclusive"`
	Key      string    `json:"key,omitempty"`
	AsOf     time.Time `json:"as_of"`
	// Passed: there is no difference.
	Passed      bool `json:"passed"`
	Differences int  `json:"differences"`
	Read        int  `json:"read" doc:"lines of the vendor's books"`
	// EventsFrom is since when the vendor still told which calls made what.
	EventsFrom time.Time       `json:"events_from,omitzero"`
	Notes      []string        `json:"notes"`
	Days       []StatementDay  `json:"days"`
	Classes    map[string]int  `json:"classes" doc:"how many lines of each class"`
	Items      []StatementLine `json:"items"`
	Next       string          `json:"next" doc:"always empty: a statement is whole"`
}

// StatementDay sums up a day of a key, for one kind of movement in one currency.
type StatementDay struct {
	Day         string `json:"day" doc:"in the key's time zone; UTC where there is no key"`
	Key         string `json:"key,omitempty"`
	KeyName     string `json:"key_name,omitempty"`
	Kind        string `json:"kind"`
	Currency    string `json:"currency"`
	Ledger      string `json:"ledger" doc:"what the ledger counts, held amounts included"`
	Vendor      string `json:"vendor" doc:"what the vendor's books show"`
	USD         string `json:"usd" doc:"the ledger's amount at the rates of its holds"`
	Matched     int    `json:"matched" doc:"lines"`
	Waiting     int    `json:"waiting" doc:"lines that are open or not yet moved"`
	Differences int    `json:"differences" doc:"lines"`
}

// StatementLine is one movement as both sides have it.
type StatementLine struct {
	Class      string `json:"class" enum:"matched,open,not_yet,not_money,at_most,unmetered,elsewhere,automatic,missing_here,missing_there,different"`
	Difference bool   `json:"difference"`
	Day        string `json:"day"`
	Key        string `json:"key,omitempty"`
	KeyName    string `json:"key_name,omitempty"`
	Kind       string `json:"kind"`
	Currency   string `json:"currency"`
	Ledger     string `json:"ledger"`
	Vendor     string `json:"vendor"`
	// VendorCurrency is set where it is another one.
	VendorCurrency string              `json:"vendor_currency,omitempty"`
	USD            string              `json:"usd"`
	Shared         bool                `json:"shared,omitempty" doc:"the vendor's amount stands on another key's line too: each key counts an object for itself"`
	MatchedBy      string              `json:"matched_by,omitempty" doc:"object, request, idempotency_key or look_up"`
	Origin         string              `json:"origin,omitempty" doc:"of what moved: call, automatic or unknown"`
	Why            string              `json:"why,omitempty"`
	Calls          []StatementCall     `json:"calls"`
	Movements      []StatementMovement `json:"movements"`
}

// StatementCall is a call as the ledger has it.
type StatementCall struct {
	Reservation string    `json:"reservation"`
	Operation   string    `json:"operation"`
	State       string    `json:"state"`
	Proof       string    `json:"proof,omitempty"`
	Account     string    `json:"account,omitempty"`
	At          time.Time `json:"at"`
	Amount      string    `json:"amount" doc:"what it counts for now"`
	Objects     []string  `json:"objects"`
	Request     string    `json:"request,omitempty" doc:"the vendor's id"`
}

// StatementMovement is a line of the vendor's books.
type StatementMovement struct {
	ID             string    `json:"id"`
	Type           string    `json:"type" doc:"the vendor's word"`
	Object         string    `json:"object,omitempty"`
	Account        string    `json:"account,omitempty"`
	At             time.Time `json:"at"`
	Amount         string    `json:"amount" doc:"in the line's currency, in the direction of its kind"`
	Booked         string    `json:"booked" doc:"what the balance changed by, in its own currency"`
	BookedCurrency string    `json:"booked_currency"`
	Fee            string    `json:"fee" doc:"in the balance's currency"`
	Requests       []string  `json:"requests" doc:"the vendor's ids of the calls that made it"`
}

// Statement holds the ledger against the vendor's books. It is a read of an operator's: no brake stops it, and the
// audit has it. tell hears how many pages were read.
func (s *Service) Statement(ctx context.Context, who Actor, idOrName string, req StatementRequest, tell func(Progress) error) (Statement, error) {
	ask, err := s.askOf(idOrName, req)
	if err != nil {
		return Statement{}, err
	}
	report, err := s.Statements.Make(ctx, ask, func(pages int) error { return tell(Progress{Done: pages}) })
	if err != nil {
		return Statement{}, whyNoStatement(ctx, ask.Upstream, err)
	}
	out := s.statementView(ask, req, &report)
	return out, s.act(ctx, store.LaneControl, who, "reconcile.statement", func(_ store.Tx, rec *audit.Record) error {
		rec.Subject, rec.Upstream, rec.Mode = "upstream "+ask.Upstream.Name, ask.Upstream.ID, ask.Upstream.Mode.String()
		rec.Key = ask.Key
		rec.Diff = fmt.Sprintf("days: %s to %s\nothers: %v\nread: %d\ndifferences: %d", out.From, out.To, req.Others, out.Read, out.Differences)
		for _, class := range slices.Sorted(maps.Keys(out.Classes)) {
			rec.Diff += fmt.Sprintf("\n%s: %d", class, out.Classes[class])
		}
		return nil
	})
}

func (s *Service) askOf(idOrName string, req StatementRequest) (reconcile.Ask, error) {
	u, err := s.upstream(idOrName)
	if err != nil {
		return reconcile.Ask{}, err
	}
	if s.Statements == nil {
		return reconcile.Ask{}, refuse(Unavailable, "this server cannot read its upstreams' books")
	}
	var bad faults
	if req.Rate < 0 || req.Rate > reconcile.MaxRate {
		bad.add("", wrong("body.rate", "the rate must be between 1 and %d pages per second", reconcile.MaxRate))
	}
	ask := reconcile.Ask{Upstream: u, From: req.From, To: req.To, PerSecond: req.Rate}
	ask.Key, err = s.keyID(req.Key)
	bad.add("body.key", err)
	to := s.Store.Now().UTC()
	if req.To != "" {
		if to, err = time.Parse(time.DateOnly, req.To); err != nil {
			bad.add("", wrong("body.to", "the last day %q is no day; write it like 2026-11-30", req.To))
		}
	}
	from := to.AddDate(0, 0, 1-statementDays)
	if req.From != "" {
		if from, err = time.Parse(time.DateOnly, req.From); err != nil {
			bad.add("", wrong("body.from", "the first day %q is no day; write it like 2026-11-01", req.From))
		}
	}
	if err := bad.refusal(); err != nil {
		return ask, err
	}
	ask.From, ask.To = from.Format(time.DateOnly), to.Format(time.DateOnly)
	switch days := int(to.Sub(from).Hours()/24) + 1; {
	case ask.From > ask.To:
		return ask, wrong("body.from", "the first day %s is after the last, %s", ask.From, ask.To)
	case days > reconcile.MaxDays:
		return ask, wrong("body.from", "%d days are too many for one statement; ask for at most %d", days, reconcile.MaxDays)
	}
	return ask, nil
}

// whyNoStatement turns what went wrong at the vendor into what an operator can do.
func whyNoStatement(ctx context.Context, u *vault.Upstream, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("make a statement of upstream %s: %w", u.Name, ctx.Err())
	case errors.Is(err, reconcile.ErrStatementBusy):
		return refuse(Conflict, "another statement is being made; ask again when it is done")
	case errors.Is(err, upstream.ErrCredential):
		return refuse(Conflict, "the secret of the upstream %s may not read the vendor's books (%v); tick Balance Transactions: Read and Events: Read for it", u.Name, err)
	case errors.Is(err, upstream.ErrTooLong):
		return refuse(Invalid, "the period has more lines than one statement reads (%v); ask for fewer days", err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrBusy):
		return understood("make a statement", err)
	default:
		return refuse(Unavailable, "the books of the upstream %s could not be read whole, so there is no statement: %v", u.Name, err)
	}
}

func (s *Service) statementView(ask reconcile.Ask, req StatementRequest, report *reconcile.Report) Statement {
	out := Statement{
		Upstream: ask.Upstream.Name, Mode: ask.Upstream.Mode.String(), From: ask.From, To: ask.To, AsOf: report.AsOf.UTC(),
		Read: report.Read, EventsFrom: utc(report.EventsFrom), Notes: append([]string{}, report.Notes...),
		Classes: map[string]int{}, Items: []StatementLine{},
	}
	names := map[policy.KeyID]string{}
	for _, k := range s.Ring.Keys() {
		names[k.ID] = k.Name
	}
	if ask.Key != "" {
		out.Key = string(ask.Key)
	}
	others := 0
	for i := range report.Lines {
		l := &report.Lines[i]
		view := lineView(l, names)
		if nobodys := l.Class == reconcile.MissingHere && l.Key == "" && !l.Ours; nobodys {
			others++
			view.Difference = !req.Others
		}
		out.Classes[view.Class]++
		if view.Difference {
			out.Differences++
		}
		if req.All || l.Class != reconcile.Matched {
			out.Items = append(out.Items, view)
		}
	}
	out.Days = statementDaysOf(report.Lines, names, req.Others)
	out.Passed = out.Differences == 0
	if others > 0 {
		out.Notes = append(out.Notes, "The vendor tells that a call was made, not with which of the account's keys. Movements that no vault key made may be "+
			"another system's, a person's, or the upstream's secret used past Keybrake.")
	}
	return out
}

// statementDaysOf sums lines up by day, key, kind and currency.
func statementDaysOf(lines []reconcile.Line, names map[policy.KeyID]string, others bool) []StatementDay {
	type sum struct {
		StatementDay
		ledger, vendor money.Amount
		usd            money.USD
	}
	sums := map[string]*sum{}
	for i := range lines {
		l := &lines[i]
		at := strings.Join([]string{l.Day, string(l.Key), string(l.Kind), string(l.Ledger.Currency)}, "|")
		d := sums[at]
		if d == nil {
			d = &sum{StatementDay: StatementDay{Day: l.Day, Key: string(l.Key), KeyName: names[l.Key], Kind: string(l.Kind), Currency: string(l.Ledger.Currency)}}
			d.ledger.Currency, d.vendor.Currency = l.Ledger.Currency, l.Ledger.Currency
			sums[at] = d
		}
		d.ledger.Minor += l.Ledger.Minor
		d.usd += l.USD
		if l.Vendor.Currency == l.Ledger.Currency {
			d.vendor.Minor += l.Vendor.Minor
		}
		nobodys := l.Class == reconcile.MissingHere && l.Key == "" && !l.Ours
		switch {
		case l.Class == reconcile.Matched:
			d.Matched++
		case l.Class == reconcile.Open || l.Class == reconcile.NotYet:
			d.Waiting++
		case l.Class.Difference() && !(others && nobodys):
			d.Differences++
		}
	}
	out := []StatementDay{}
	for _, at := range slices.Sorted(maps.Keys(sums)) {
		d := sums[at]
		d.Ledger, d.Vendor, d.USD = decimal(d.ledger), decimal(d.vendor), d.usd.String()
		out = append(out, d.StatementDay)
	}
	return out
}

func lineView(l *reconcile.Line, names map[policy.KeyID]string) StatementLine {
	v := StatementLine{
		Class: string(l.Class), Difference: l.Class.Difference(), Day: l.Day, Key: string(l.Key), KeyName: names[l.Key], Kind: string(l.Kind),
		Currency: string(l.Ledger.Currency), Ledger: decimal(l.Ledger), Vendor: decimal(l.Vendor), USD: l.USD.String(), Shared: l.Shared,
		MatchedBy: l.By, Why: l.Why, Calls: []StatementCall{}, Movements: []StatementMovement{},
	}
	if l.Vendor.Currency != l.Ledger.Currency {
		v.VendorCurrency = string(l.Vendor.Currency)
	}
	if len(l.Movements) > 0 {
		v.Origin = l.Origin.String()
	}
	for i := range l.Entries {
		e := &l.Entries[i]
		call := StatementCall{
			Reservation: fmt.Sprintf("rsv_%d", e.Reservation), Operation: string(e.Operation), State: e.State.String(), Proof: string(e.Proof),
			Account: string(e.Account), At: e.At.UTC(), Amount: decimal(e.Amount), Objects: []string{}, Request: e.Request,
		}
		for _, id := range e.Objects {
			call.Objects = append(call.Objects, string(id))
		}
		v.Calls = append(v.Calls, call)
	}
	for i := range l.Movements {
		m := &l.Movements[i]
		movement := StatementMovement{
			ID: m.ID, Type: m.Type, Object: string(m.Object), Account: string(m.Account), At: m.At.UTC(), Amount: decimal(m.Amount),
			Booked: decimal(m.Booked), BookedCurrency: string(m.Booked.Currency), Requests: []string{},
			Fee: decimal(money.Amount{Minor: m.Fee, Currency: m.Booked.Currency}),
		}
		for _, by := range m.Calls {
			if by.Request != "" {
				movement.Requests = append(movement.Requests, by.Request)
			}
		}
		v.Movements = append(v.Movements, movement)
	}
	return v
}

// decimal writes an amount in its currency's unit. Of a currency whose exponent is not known it writes minor units.
func decimal(a money.Amount) string {
	text, _, _ := strings.Cut(a.String(), " ")
	return text
}

func (a *api) statement() {
	stream(a, route{http.MethodPost, "upstreams/{upstream}/statement", "statement", "Hold the ledger against the vendor's books", vault.ToChange, 0},
		func(_ context.Context, who Actor, in *struct {
			Upstream string `path:"upstream" doc:"id or name"`
			Body     StatementRequest
		}) (string, writing, error) {
			return told(func(ctx context.Context, tell func(Progress) error) (any, error) {
				return a.s.Statement(ctx, who, in.Upstream, in.Body, tell)
			})
		}, jsonLines)
}
