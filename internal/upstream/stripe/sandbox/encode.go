package sandbox

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// enc appends JSON by hand: the benchmark runs the sandbox on the same cores as
// the gateway, and reflection would be most of its cost.
type enc struct {
	b []byte
	s *account
	// fail is set when an expansion was not permitted; the whole call fails then.
	fail *stripeError
	// v2 leaves out what has no value.
	v2 bool
	// who limits what may be expanded; nil is Stripe itself (events).
	who *credential
}

// view is what a handler answers with.
type view interface {
	render(e *enc, x *expansion)
}

func (e *enc) comma() {
	if n := len(e.b); n > 0 && e.b[n-1] != '{' && e.b[n-1] != '[' && e.b[n-1] != ':' && e.b[n-1] != ',' {
		e.b = append(e.b, ',')
	}
}

func (e *enc) open()  { e.comma(); e.b = append(e.b, '{') }
func (e *enc) close() { e.b = append(e.b, '}') }

func (e *enc) key(k string) {
	e.comma()
	e.b = append(e.b, '"')
	e.b = append(e.b, k...)
	e.b = append(e.b, '"', ':')
}

func (e *enc) str(k, v string) {
	e.key(k)
	e.b = appendString(e.b, v)
}

// opt writes null for an empty string, as Stripe does for unset fields.
func (e *enc) opt(k, v string) {
	if v == "" {
		e.null(k)
		return
	}
	e.str(k, v)
}

func (e *enc) int(k string, v int64) {
	e.key(k)
	e.b = strconv.AppendInt(e.b, v, 10)
}

// optInt writes null for zero: the times and dates that are not set.
func (e *enc) optInt(k string, v int64) {
	if v == 0 {
		e.null(k)
		return
	}
	e.int(k, v)
}

func (e *enc) bool(k string, v bool) {
	e.key(k)
	e.b = strconv.AppendBool(e.b, v)
}

func (e *enc) null(k string) {
	e.key(k)
	e.b = append(e.b, "null"...)
}

// raw writes a value that is JSON already; empty is null.
func (e *enc) raw(k, json string) {
	if json == "" {
		e.null(k)
		return
	}
	e.key(k)
	e.b = append(e.b, json...)
}

// constant writes several "key":value pairs at once, for the many fields that
// never differ.
func (e *enc) constant(pairs string) {
	e.comma()
	e.b = append(e.b, pairs...)
}

func (e *enc) metadata(m pairs) {
	e.key("metadata")
	e.b = append(e.b, '{')
	for _, kv := range m {
		e.comma()
		e.b = append(appendString(e.b, kv.k), ':')
		e.b = appendString(e.b, kv.v)
	}
	e.b = append(e.b, '}')
}

// ref writes an id, or the object behind it where the caller asked to expand.
func (e *enc) ref(k, id string, x *expansion) {
	if id == "" {
		e.null(k)
		return
	}
	sub := x.child(k)
	if sub == nil {
		e.str(k, id)
		return
	}
	target, resource := e.s.find(id)
	if target == nil {
		e.str(k, id)
		return
	}
	if e.who != nil && !e.who.may(resource, Read) && e.fail == nil {
		e.fail = errPermission(e.s, e.who, resource, Read)
	}
	if m, ok := target.(*paymentMethod); ok && k == "default_source" {
		target = asSource(m)
	}
	e.key(k)
	target.render(e, sub)
}

// foreign is ref for an id on the books of another account.
func (e *enc) foreign(k, id string, of *account, x *expansion) {
	if id == "" || of == nil {
		e.opt(k, id)
		return
	}
	own := e.s
	e.s = of
	e.ref(k, id, x)
	e.s = own
}

// refs writes a list of ids, or the objects behind them where asked for.
func (e *enc) refs(k string, ids []string, x *expansion) {
	sub := x.child(k)
	e.key(k)
	e.b = append(e.b, '[')
	for _, id := range ids {
		if target, _ := e.s.find(id); sub != nil && target != nil {
			target.render(e, sub)
			continue
		}
		e.comma()
		e.b = appendString(e.b, id)
	}
	e.b = append(e.b, ']')
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += size
		}
	}
	return append(b, '"')
}

// json appends the node as a JSON value; all scalars are strings.
func (n *node) json(b []byte) []byte {
	if items, ok := n.items(); ok {
		b = append(b, '[')
		for i, v := range items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.json(b)
		}
		return append(b, ']')
	}
	if n.blank() {
		return append(b, "null"...)
	}
	if n.written == bareInJSON {
		return append(b, n.str...)
	}
	if n.kind == nodeString {
		return appendString(b, n.str)
	}
	b = append(b, '{')
	for i, k := range n.keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = n.vals[i].json(b)
	}
	return append(b, '}')
}

// pair is one metadata entry; pairs keep the order in which they were set.
type pair struct{ k, v string }

type pairs []pair

func (m pairs) get(k string) string {
	for _, kv := range m {
		if kv.k == k {
			return kv.v
		}
	}
	return ""
}

// overlay puts the members of one JSON object over those of another.
func overlay(all, over string) string {
	merged := map[string]json.RawMessage{}
	for _, text := range []string{all, over} {
		if err := json.Unmarshal([]byte(text), &merged); err != nil {
			panic(fmt.Sprintf("sandbox: overlay %s: %v", text, err)) // both are written by this package
		}
	}
	out, err := json.Marshal(merged)
	if err != nil {
		panic(fmt.Sprintf("sandbox: overlay %s: %v", all, err)) // raw messages that were read before
	}
	return string(out)
}
