package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what sort of thing is wrong.
type Kind string

// The kinds.
const (
	CapUsed    Kind = "cap"        // so much of a cap is used
	Denials    Kind = "denials"    // a key is refused again and again
	Brake      Kind = "brake"      // somebody or something stopped calls
	Frozen     Kind = "frozen"     // a key's money is frozen, or all of it
	Loop       Kind = "loop"       // a key does the same again and again
	Unresolved Kind = "unresolved" // an outcome is not known for long
	Expiry     Kind = "expiry"     // a key ends soon
	Rotation   Kind = "rotation"   // a key or an upstream's secret is due
	Chain      Kind = "chain"      // the record is not as it was written
	Store      Kind = "store"      // money calls are not taken
	Upstream   Kind = "upstream"   // a vendor fails or does not answer
)

// Kinds are all kinds.
var Kinds = []Kind{CapUsed, Denials, Brake, Frozen, Loop, Unresolved, Expiry, Rotation, Chain, Store, Upstream}

// Severity says how soon somebody should look.
type Severity string

// The severities, each above the one before.
const (
	Info     Severity = "info"     // when there is time
	Warning  Severity = "warning"  // today
	Critical Severity = "critical" // now
)

var severities = []Severity{Info, Warning, Critical}

// rank is a severity's place; -1 for none.
func (s Severity) rank() int { return slices.Index(severities, s) }

// Condition is something that is wrong now.
type Condition struct {
	Kind    Kind
	Subject string // with Kind: what makes it the same as a moment ago
	Key     string // id of the key that it is about; empty: none
	Severity
	Title, Text string
	// State is how Title ends where it tells how something stands: another one is told anew, whatever the severity.
	State string
}

// Seen is what the rules look at.
type Seen struct {
	Now       time.Time
	Caps      []Cap
	Denials   []DenialBurst
	Brakes    []BrakeOn
	Loops     []Repeat
	Open      OpenCalls
	Due       []Date
	Upstreams []Traffic
	// Trouble is why money calls are not taken, Damage where the record is not as it was written; empty: neither.
	Trouble, Damage string
	// Verified is when the whole record was checked last and found as it was written; zero: not since the start.
	Verified time.Time
}

// Cap is a cap of a key as it stands.
type Cap struct {
	Key, Name           string
	Resource, Per, Unit string
	Permille            int
	Limit, Left         string    // as people read them
	Resets              time.Time // zero = never
}

// DenialBurst is how often a key was refused lately.
type DenialBurst struct {
	Key, Name string
	Count     int64
	Within    time.Duration
}

// BrakeOn is a brake, or a freeze.
type BrakeOn struct {
	Scope, ID, Name, Mode, By, Reason string
	At                                time.Time
}

// Repeat is an operation of a key that came again and again for one customer or object.
type Repeat struct {
	Key, Name, Operation, Subject string
	Count                         int
	Within                        time.Duration
}

// OpenCalls are calls whose outcome is not known.
type OpenCalls struct {
	Count  int
	More   bool // there are more than were counted
	Oldest time.Time
	USD    string // of those that were counted
}

// Date is when something ends or is due.
type Date struct {
	Kind            Kind // Expiry or Rotation
	What, Key, Name string
	At              time.Time
}

// Traffic is how a vendor answered lately.
type Traffic struct {
	Name          string
	Calls, Failed int64
	Within        time.Duration
}

// Thresholds are what the rules compare with. A zero field is its default.
type Thresholds struct {
	Caps            []int         `yaml:"caps"`             // per cent; 50, 80, 100
	Denials         int           `yaml:"denials"`          // of a key within five minutes; 30
	Repeats         int           `yaml:"repeats"`          // of an operation for one customer or object within ten minutes; 10
	UnresolvedAfter time.Duration `yaml:"unresolved_after"` // 15m
	ExpiryBefore    time.Duration `yaml:"expiry_before"`    // 168h
	RotationBefore  time.Duration `yaml:"rotation_before"`  // 168h
	UpstreamFailed  int           `yaml:"upstream_failed"`  // per cent of at least ten calls within five minutes; 50
}

// leastCalls is how many calls an upstream must have had for its failures to say something.
const leastCalls = 10

func (t Thresholds) withDefaults() Thresholds {
	set := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	span := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if len(t.Caps) == 0 {
		t.Caps = []int{50, 80, 100}
	}
	set(&t.Denials, 30)
	set(&t.Repeats, 10)
	set(&t.UpstreamFailed, 50)
	span(&t.UnresolvedAfter, 15*time.Minute)
	span(&t.ExpiryBefore, 7*24*time.Hour)
	span(&t.RotationBefore, 7*24*time.Hour)
	return t
}

// LeastCap is the least per cent of a cap that is told: caps below it need not be looked at.
func (t Thresholds) LeastCap() int { return slices.Min(t.withDefaults().Caps) }

// Ahead is how long before its day something that ends or is due is told: later days need not be looked at.
func (t Thresholds) Ahead() time.Duration {
	t = t.withDefaults()
	return max(t.ExpiryBefore, t.RotationBefore)
}

// Conditions is everything that is wrong.
func (t Thresholds) Conditions(s *Seen) (out []Condition) {
	t = t.withDefaults()
	for _, rule := range []func(*Seen) []Condition{t.caps, t.denials, t.brakes, t.loops, t.open, t.due, t.upstreams, t.server} {
		out = append(out, rule(s)...)
	}
	return out
}

func (t Thresholds) caps(s *Seen) (out []Condition) {
	for _, c := range s.Caps {
		reached := -1
		for _, level := range t.Caps {
			if c.Permille >= level*10 {
				reached = max(reached, level)
			}
		}
		if reached < 0 {
			continue
		}
		severity := Info
		switch {
		case reached >= 100:
			severity = Critical
		case reached >= 80:
			severity = Warning
		}
		what := c.Resource
		if what == "*" {
			what = "all resources"
		}
		out = append(out, Condition{
			Kind: CapUsed, Subject: strings.Join([]string{c.Key, c.Resource, c.Per, c.Unit, c.Resets.UTC().Format(time.RFC3339)}, " "), Key: c.Key, Severity: severity,
			Title: fmt.Sprintf("%s has used %d %% of its cap on %s per %s", c.Name, c.Permille/10, what, c.Per),
			Text:  fmt.Sprintf("%s left of %s. At 100 %% its calls are refused until %s. If that is not its work: keybrake kill %s", c.Left, c.Limit, until(c.Resets), c.Name),
		})
	}
	return out
}

// minutes writes a span for people.
func minutes(d time.Duration) string { return fmt.Sprintf("%d min", int(d.Minutes())) }

func until(t time.Time) string {
	if t.IsZero() {
		return "somebody raises it"
	}
	return t.UTC().Format("2 Jan 15:04 UTC")
}

func (t Thresholds) denials(s *Seen) (out []Condition) {
	for _, d := range s.Denials {
		if d.Count < int64(t.Denials) {
			continue
		}
		out = append(out, Condition{
			Kind: Denials, Subject: d.Key, Key: d.Key, Severity: Warning,
			Title: fmt.Sprintf("%s was refused %d times in %s", d.Name, d.Count, minutes(d.Within)),
			Text:  "It asks for what it may not do, or is out of money and does not stop. Its refusals: keybrake audit list --key " + d.Name + " --verdict deny",
		})
	}
	return out
}

func (t Thresholds) brakes(s *Seen) (out []Condition) {
	for _, b := range s.Brakes {
		c := Condition{Kind: Brake, Subject: strings.TrimSpace(b.Scope + " " + b.ID), Severity: Warning}
		what := b.Name
		switch b.Scope {
		case "all":
			what, c.Severity = "Everything", Critical
		case "books":
			what, c.Kind, c.Severity = "The money of all keys", Frozen, Critical
		case "freeze":
			c.Kind, c.Severity = Frozen, Critical
			fallthrough
		case "key":
			c.Key = b.ID
		case "upstream":
			what = "The upstream " + b.Name
		}
		switch {
		case c.Kind == Frozen:
			c.Title = what + " is frozen: the books and the vendor do not agree"
		default:
			c.Title, c.State = what+" is "+b.Mode, b.Mode
		}
		c.Text = "By " + b.By + " at " + b.At.UTC().Format("2 Jan 15:04:05 UTC") + "."
		if b.Reason != "" {
			c.Text += " Reason: " + strings.TrimSuffix(b.Reason, ".") + "."
		}
		c.Text += " It stays until it is lifted: keybrake resume"
		out = append(out, c)
	}
	return out
}

func (t Thresholds) loops(s *Seen) (out []Condition) {
	for _, l := range s.Loops {
		if l.Count < t.Repeats {
			continue
		}
		out = append(out, Condition{
			Kind: Loop, Subject: strings.Join([]string{l.Key, l.Operation, l.Subject}, " "), Key: l.Key, Severity: Critical,
			Title: l.Name + " may be in a loop",
			Text:  fmt.Sprintf("%s for %s: %d calls in %s. To stop it: keybrake kill %s", l.Operation, l.Subject, l.Count, minutes(l.Within), l.Name),
		})
	}
	return out
}

func (t Thresholds) open(s *Seen) []Condition {
	if s.Open.Count == 0 || s.Now.Sub(s.Open.Oldest) < t.UnresolvedAfter {
		return nil
	}
	most, least := "", "$"
	if s.Open.More {
		most, least = "more than ", "More than $"
	}
	return []Condition{{
		Kind: Unresolved, Subject: "calls", Severity: Warning,
		Title: fmt.Sprintf("The outcome of %s%s is not known since %s", most, calls(s.Open.Count), s.Open.Oldest.UTC().Format("2 Jan 15:04 UTC")),
		Text:  least + s.Open.USD + " stay held until Stripe tells or an operator decides: keybrake reconcile",
	}}
}

func calls(n int) string {
	if n == 1 {
		return "a call"
	}
	return fmt.Sprintf("%d calls", n)
}

func (t Thresholds) due(s *Seen) (out []Condition) {
	for _, d := range s.Due {
		before, verb := t.ExpiryBefore, "ends"
		if d.Kind == Rotation {
			before, verb = t.RotationBefore, "is due for rotation"
		}
		rest := d.At.Sub(s.Now)
		if d.At.IsZero() || rest > before || d.Kind == Expiry && rest <= 0 { // what has ended needs nobody any more
			continue
		}
		c := Condition{Kind: d.Kind, Subject: d.What + " " + d.Name + " " + d.At.UTC().Format(time.RFC3339), Key: d.Key, Severity: Info}
		switch {
		case rest <= 0:
			c.Severity, verb = Warning, "was due for rotation"
		case rest <= 24*time.Hour:
			c.Severity = Warning
		}
		c.Title = fmt.Sprintf("The %s %s %s on %s", d.What, d.Name, verb, d.At.UTC().Format("2 Jan 2006"))
		switch {
		case d.Kind == Expiry:
			c.Text = "Its calls are refused from then on. If the agent goes on: keybrake key update " + d.Name + " --expires"
		case d.Key == "":
			c.Text = "Vault keys stay as they are: keybrake upstream rotate " + d.Name
		default:
			c.Text = "Both texts work for a while: keybrake key rotate " + d.Name
		}
		out = append(out, c)
	}
	return out
}

func (t Thresholds) upstreams(s *Seen) (out []Condition) {
	for _, u := range s.Upstreams {
		if u.Calls < leastCalls || u.Failed*100 < int64(t.UpstreamFailed)*u.Calls {
			continue
		}
		out = append(out, Condition{
			Kind: Upstream, Subject: u.Name, Severity: Critical,
			Title: fmt.Sprintf("%d of %d calls to %s failed in %s", u.Failed, u.Calls, u.Name, minutes(u.Within)),
			Text:  "It did not answer, or with an error of its own. What it may have done stays held until it is known. https://status.stripe.com",
		})
	}
	return out
}

func (t Thresholds) server(s *Seen) (out []Condition) {
	if s.Trouble != "" {
		out = append(out, Condition{
			Kind: Store, Subject: "server", Severity: Critical,
			Title: "Money calls are not taken", Text: s.Trouble + ". What was held stays held. keybrake doctor says more",
		})
	}
	if s.Damage != "" {
		out = append(out, Condition{
			Kind: Chain, Subject: "record", Severity: Critical,
			Title: "The record is not as it was written", Text: s.Damage + ". keybrake audit verify names the place; keep the store and its backups as they are",
		})
	}
	return out
}
