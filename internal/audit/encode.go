package audit

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// AppendJSON appends the record's canonical form: one line of JSON, keys in a fixed order,
// nothing empty, times as in timeFormat, dollars as decimal strings. It bounds and scrubs every text, so
// there is no way around that into the chain. It does not use reflection: it runs for every call.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, r.Seq, 10)
	b = append(b, `,"chain":`...)
	b = appendText(b, r.Chain, MaxChainName)
	b = append(b, `,"at":"`...)
	b = r.At.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","kind":`...)
	b = appendText(b, string(r.Kind), maxID)
	b = number(b, "ref", r.Ref)
	b = appendWho(b, r)
	b = appendWhat(b, r)
	b = appendJudged(b, r)
	b = appendResult(b, r)
	b = text(b, "operator", r.Operator, maxID)
	b = text(b, "action", r.Action, maxID)
	b = text(b, "subject", r.Subject, maxID)
	b = text(b, "diff", r.Diff, maxDiff)
	b = text(b, "reason", r.Reason, maxMessage)
	b = number(b, "in_flight", r.InFlight)
	b = number(b, "count", r.Count)
	return append(b, '}')
}

func appendWho(b []byte, r *Record) []byte {
	b = text(b, "key", string(r.Key), maxID)
	b = text(b, "key_name", r.KeyName, maxID)
	b = text(b, "credential", r.Credential, maxID)
	b = text(b, "presented", r.Presented, maxID)
	b = text(b, "upstream", string(r.Upstream), maxID)
	b = text(b, "mode", r.Mode, maxID)
	b = hexID(b, "policy", r.Policy, maxDigest)
	b = text(b, "from", r.From, maxID)
	b = text(b, "user_agent", r.UserAgent, maxAgent)
	b = text(b, "run_id", r.RunID, maxRunID)
	b = hexID(b, "trace", r.Trace, maxTrace)
	b = hexID(b, "parent_span", r.ParentSpan, maxTrace)
	b = hexID(b, "span", r.Span, maxTrace)
	b = text(b, "trace_state", r.TraceState, maxState)
	return text(b, "node", r.Node, maxID)
}

func appendWhat(b []byte, r *Record) []byte {
	b = text(b, "request", r.Request, maxID)
	b = text(b, "operation", string(r.Operation), maxID)
	b = text(b, "method", r.Method, maxID)
	b = text(b, "route", r.Route, maxRoute)
	b = text(b, "object", r.Object, maxID)
	b = list(b, "customers", r.Customers, MaxCustomers)
	b = text(b, "account", string(r.Account), maxID)
	for i, e := range r.Effects[:min(len(r.Effects), maxEffects)] {
		b = open(b, "effects", i)
		b = appendText(append(b, `{"bucket":`...), e.Bucket, maxID)
		b = append(b, `,"amount":`...)
		b = strconv.AppendInt(b, e.Amount.Minor, 10)
		b = append(b, `,"currency":`...)
		b = appendText(b, string(e.Amount.Currency), maxID)
		b = append(b, `,"usd":`...)
		b = appendUSD(b, e.USD)
		b = text(b, "rate", string(e.Rate), maxID)
		b = text(b, "object", e.Object, maxID)
		b = append(appendCounting(b, &e), '}')
	}
	b = closing(b, len(r.Effects))
	b = appendJudgedAs(b, &r.Judged)
	return text(b, "repeat", r.Repeat, maxID)
}

// appendCounting appends what the ledger would need to count a movement of money once more. Dollars have no rate to tell.
func appendCounting(b []byte, e *Effect) []byte {
	if e.Rate != "" {
		b = number(number(b, "rate_value", e.Value), "margin_bp", e.MarginBP)
	}
	return flag(number(mode(b, e.Mode), "ceiling", e.Ceiling), "looked_up", e.LookedUp)
}

func mode(b []byte, m policy.CountMode) []byte {
	if int(m) >= len(modeNames) {
		return b
	}
	return text(b, "mode", modeNames[m], maxID)
}

// modeNames are the modes in records; adding up is understood.
var modeNames = [...]string{policy.Gross: "", policy.Total: "total", policy.Part: "part"}

func appendFinals(b []byte, finals []Final) []byte {
	for i, f := range finals[:min(len(finals), maxEffects)] {
		b = open(b, "finals", i)
		b = appendText(append(b, `{"bucket":`...), f.Bucket, maxID)
		b = text(b, "object", f.Object, maxID)
		b = append(b, `,"amount":`...)
		b = strconv.AppendInt(b, f.Amount.Minor, 10)
		b = append(text(b, "currency", string(f.Amount.Currency), maxID), '}')
	}
	return closing(b, len(finals))
}

func appendJudged(b []byte, r *Record) []byte {
	b = text(b, "verdict", r.Verdict, maxID)
	b = flag(b, "shadowed", r.Shadowed)
	for i, f := range r.Failures[:min(len(r.Failures), maxFailures)] {
		b = open(b, "failures", i)
		b = appendText(append(b, `{"code":`...), string(f.Code), maxID)
		b = text(b, "rule", f.Rule, maxID)
		b = text(b, "param", f.Param, maxID)
		b = text(b, "message", f.Message, maxMessage)
		b = flag(b, "soft", f.Soft)
		b = append(b, '}')
	}
	b = closing(b, len(r.Failures))
	for i := range r.Caps[:min(len(r.Caps), maxCaps)] {
		b = appendCap(open(b, "caps", i), &r.Caps[i])
	}
	return closing(b, len(r.Caps))
}

func appendCap(b []byte, c *Cap) []byte {
	b = appendText(append(b, `{"resource":`...), c.Resource, maxID)
	b = text(b, "per", c.Per, maxID)
	b = append(append(append(b, `,"unit":"`...), c.Unit.String()...), '"')
	for _, f := range [...]struct {
		name  string
		value int64
	}{{"limit", c.Limit}, {"held", c.Held}, {"settled", c.Settled}, {"left", c.Left}} {
		b = name(b, f.name)
		if c.Unit == policy.UnitUSD {
			b = appendUSD(b, money.USD(f.value))
		} else {
			b = strconv.AppendInt(b, f.value, 10)
		}
	}
	if !c.ResetsAt.IsZero() {
		b = append(name(b, "resets_at"), '"')
		b = append(c.ResetsAt.UTC().AppendFormat(b, time.RFC3339), '"')
	}
	return append(b, '}')
}

func appendResult(b []byte, r *Record) []byte {
	b = number(b, "status", int64(r.Status))
	b = number(b, "upstream_status", int64(r.UpstreamStatus))
	b = text(b, "upstream_request", r.UpstreamRequest, maxID)
	b = text(b, "fate", r.Fate, maxID)
	b = text(b, "proof", r.Proof, maxID)
	b = number(b, "reservation", r.Reservation)
	b = flag(appendFinals(b, r.Finals), "pending", r.Pending)
	b = text(flag(b, "alone", r.Alone), "created", string(r.Created), maxID)
	b = text(b, "why", r.Why, maxMessage)
	b = flag(b, "replayed", r.Replayed)
	b = flag(b, "guarded", r.Guarded)
	b = number(b, "withheld", int64(r.Withheld))
	b = number(b, "ours_us", r.OursMicros)
	return number(b, "theirs_us", r.TheirsMicros)
}

// name begins a further field.
func name(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func number(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(name(b, key), n, 10)
}

func flag(b []byte, key string, set bool) []byte {
	if !set {
		return b
	}
	return append(name(b, key), "true"...)
}

func text(b []byte, key, s string, limit int) []byte {
	if s == "" {
		return b
	}
	return appendText(name(b, key), s, limit)
}

// hexID appends an id or a digest in lower-case hex as it is: scrubbed, about one in a hundred would lose the digits in it that pass
// for a card's. What is no such id is a text like any other.
func hexID(b []byte, key, s string, limit int) []byte {
	if s == "" || len(s) > limit || strings.Trim(s, "0123456789abcdef") != "" {
		return text(b, key, s, limit)
	}
	return append(append(append(name(b, key), '"'), s...), '"')
}

func list[S ~string](b []byte, key string, items []S, limit int) []byte {
	items = items[:min(len(items), limit)]
	for i, s := range items {
		b = appendText(open(b, key, i), string(s), maxID)
	}
	return closing(b, len(items))
}

// open begins element i of an array, and with the first one the array.
func open(b []byte, key string, i int) []byte {
	if i == 0 {
		return append(name(b, key), '[')
	}
	return append(b, ',')
}

func closing(b []byte, n int) []byte {
	if n == 0 {
		return b
	}
	return append(b, ']')
}

func appendUSD(b []byte, u money.USD) []byte {
	b = append(b, '"')
	magnitude := uint64(u)
	if u < 0 {
		b, magnitude = append(b, '-'), -magnitude
	}
	b = strconv.AppendUint(b, magnitude/uint64(money.Dollar), 10)
	frac := magnitude % uint64(money.Dollar)
	b = append(b, '.')
	for i, div := 0, uint64(money.Dollar)/10; i < 2 || frac > 0; i, div = i+1, div/10 {
		b = append(b, byte('0'+frac/div))
		frac %= div
	}
	return append(b, '"')
}

// appendText writes a JSON string: scrubbed, cut to limit bytes, with everything escaped that could move a
// cursor, end a line or turn the direction of writing when somebody prints it.
func appendText(b []byte, s string, limit int) []byte {
	b = append(b, '"')
	plain, suspect := glance(s)
	if !plain {
		s = valid(s)
	}
	if suspect {
		s = Scrub(s)
	}
	if plain && len(s) <= limit {
		return append(append(b, s...), '"')
	}
	s = bound(s, limit)
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\t':
			b = append(b, `\t`...)
		case unprintable(c):
			b = append(b, '\\', 'u', hexDigit(c>>12), hexDigit(c>>8), hexDigit(c>>4), hexDigit(c))
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}

func unprintable(c rune) bool {
	switch {
	case c < ' ', c >= 0x7f && c <= 0x9f: // C0, DEL, C1
		return true
	case c == 0x2028, c == 0x2029: // line and paragraph separators
		return true
	case c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069, c == 0x200e, c == 0x200f, c == 0x061c: // direction
		return true
	case c == 0xfeff: // byte order mark
		return true
	}
	return false
}

func hexDigit(c rune) byte { return "0123456789abcdef"[c&15] }

// valid replaces what is not UTF-8, byte for byte, by the replacement character.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

const ellipsis = "…"

// bound cuts a text to at most limit bytes, between characters, and shows that it did.
func bound(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
