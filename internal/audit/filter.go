package audit

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Filter selects records: those that have all that is set. The zero Filter selects every record.
type Filter struct {
	Key         policy.KeyID
	Call        int64 // number of the call's intent
	Reservation int64
	Request     string               // ours, or the vendor's
	Operation   policy.OperationName // exactly
	Resource    policy.Resource      // of the operation, or a bucket that its money counts in
	Verdict     string               // allow or deny; outcomes and operators' actions have none
	Code        policy.Code          // of any rule that was broken
	Customer    policy.CustomerID
	// MinUSD and MaxUSD bound some movement of money, both inclusive; 0 = open. What is not known in dollars is in no range.
	MinUSD, MaxUSD money.USD
	Agent          string // a part of the User-Agent, of the run id or of the trace id, letter for letter
	// Since and Until bound the time: inclusive, exclusive; zero = open.
	Since, Until time.Time
}

// Matcher returns the test of an entry. It is pure and safe for concurrent use. What a record says is decoded only
// where the bytes have what is looked for, so that millions of others cost little. A record that cannot be decoded
// has nothing that could be asked of it.
func (f Filter) Matcher() func(*Entry) bool {
	needles, decode := f.needles(), f.decodes()
	return func(e *Entry) bool {
		switch {
		case f.Key != "" && e.Key != f.Key,
			f.Call != 0 && e.Call != f.Call,
			!f.Since.IsZero() && e.At.Before(f.Since),
			!f.Until.IsZero() && !e.At.Before(f.Until):
			return false
		case !decode:
			return true
		}
		for _, one := range needles {
			if !slices.ContainsFunc(one, func(needle []byte) bool { return bytes.Contains(e.Bytes, needle) }) {
				return false
			}
		}
		if f.asksUSD() && !mayMove(e.Bytes, f.hasUSD) {
			return false
		}
		r, err := Decode(e.Bytes)
		return err == nil && f.says(r)
	}
}

// decodes reports whether anything is asked that only the body says.
func (f *Filter) decodes() bool {
	body := *f
	body.Key, body.Call, body.Since, body.Until = "", 0, time.Time{}, time.Time{}
	return body != Filter{}
}

// needles are bytes that a record must have to be selected: of each group, one. They are as the encoder writes
// them, and only spare decoding: a record that has them may still say something else.
func (f *Filter) needles() (out [][][]byte) {
	field := func(key, value string) []byte { return text(nil, key, value, maxMessage) }
	want := func(is bool, one ...[]byte) {
		if is {
			out = append(out, one)
		}
	}
	want(f.Reservation != 0, number(nil, "reservation", f.Reservation))
	want(f.Request != "", field("request", f.Request), field("upstream_request", f.Request))
	want(f.Operation != "", field("operation", string(f.Operation)))
	want(f.Resource != "" && plainName(string(f.Resource)), []byte(`,"operation":"`+string(f.Resource)+`.`), []byte(`{"bucket":"`+string(f.Resource)+`"`))
	want(f.Verdict != "", field("verdict", f.Verdict))
	want(f.Code != "", []byte(`{"code":`+string(appendText(nil, string(f.Code), maxID))))
	want(f.Customer != "", appendText(nil, string(f.Customer), maxID))
	want(f.Agent != "" && plainText(f.Agent), []byte(f.Agent))
	return out
}

// plainName reports whether a text is like a resource's name: what the encoder leaves as it is, also as the beginning
// of a longer one.
func plainName(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c != '_' && c != '.' && (c < 'a' || c > 'z') })
}

// plainText reports whether the encoder writes every character of a text as itself.
func plainText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' })
}

func (f *Filter) asksUSD() bool { return f.MinUSD != 0 || f.MaxUSD != 0 }

// hasUSD reports whether an amount is one that is asked for.
func (f *Filter) hasUSD(usd money.USD) bool {
	return usd != 0 && usd >= f.MinUSD && (f.MaxUSD == 0 || usd <= f.MaxUSD)
}

// mayMove reports whether a record has an amount in dollars that is asked for, without decoding it.
func mayMove(body []byte, asked func(money.USD) bool) bool {
	field := []byte(`,"usd":"`)
	for {
		_, after, found := bytes.Cut(body, field)
		if !found {
			return false
		}
		end := bytes.IndexByte(after, '"') + 1
		var usd money.USD
		if err := usd.UnmarshalJSON(append([]byte{'"'}, after[:end]...)); err != nil || asked(usd) {
			return true // what cannot be read is for Decode to judge
		}
		body = after[end:]
	}
}

// says reports whether a record says all that is asked of its body.
func (f *Filter) says(r *Record) bool {
	bucket := func(e Effect) bool { return e.Bucket == string(f.Resource) }
	switch {
	case f.Reservation != 0 && r.Reservation != f.Reservation,
		f.Request != "" && r.Request != f.Request && r.UpstreamRequest != f.Request,
		f.Operation != "" && r.Operation != f.Operation,
		f.Resource != "" && ResourceOf(r.Operation) != f.Resource && !slices.ContainsFunc(r.Effects, bucket),
		f.Verdict != "" && r.Verdict != f.Verdict,
		f.Code != "" && !slices.ContainsFunc(r.Failures, func(x policy.Failure) bool { return x.Code == f.Code }),
		f.Customer != "" && !slices.Contains(r.Customers, f.Customer),
		f.asksUSD() && !slices.ContainsFunc(r.Effects, func(e Effect) bool { return f.hasUSD(e.USD) }),
		f.Agent != "" && !strings.Contains(r.UserAgent, f.Agent) && !strings.Contains(r.RunID, f.Agent) && !strings.Contains(r.Trace, f.Agent):
		return false
	}
	return true
}

// ResourceOf is the resource of an operation: its name without the method.
func ResourceOf(name policy.OperationName) policy.Resource {
	return policy.Resource(name[:max(0, strings.LastIndexByte(string(name), '.'))])
}

// String says in words what is selected, for an export that holds no more; empty for everything.
func (f Filter) String() string {
	var words []string
	say := func(what, value string) {
		if value != "" {
			words = append(words, what+" "+value)
		}
	}
	when := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	say("key", string(f.Key))
	if f.Call != 0 {
		say("call", ID(FirstChain, f.Call))
	}
	say("reservation", count(f.Reservation))
	say("request", f.Request)
	say("operation", string(f.Operation))
	say("resource", string(f.Resource))
	say("verdict", f.Verdict)
	say("code", string(f.Code))
	say("customer", string(f.Customer))
	if f.MinUSD != 0 {
		say("at least", f.MinUSD.String()+" USD")
	}
	if f.MaxUSD != 0 {
		say("at most", f.MaxUSD.String()+" USD")
	}
	say("agent", f.Agent)
	say("since", when(f.Since))
	say("until", when(f.Until))
	return strings.Join(words, ", ")
}
