package sandbox

import "strconv"

// part is a nested parameter, or all of them, with its name as Stripe writes it
// in errors: items[0]. Its types were checked before the call began. What is
// first found wrong with it, or with any part read out of it, is kept: a reader
// takes all it needs and then asks for the fault.
type part struct {
	n    *node
	name string
	bad  *fault
	own  bool // written by the sandbox itself, which may name prices that are for one use
}

// fault is the first thing that was wrong.
type fault struct{ f *stripeError }

// whole is all parameters of the call.
func (c *call) whole() part { return part{n: c.p, bad: &fault{}} }

// fault is the first thing that was wrong, or nil.
func (p part) fault() *stripeError { return p.bad.f }

// refuse keeps a fault of a field of p.
func (p part) refuse(field, code, message string) {
	p.keep(errInvalid(p.nameOf(field), code, message))
}

// keep keeps a fault that was found elsewhere; nil is none.
func (p part) keep(f *stripeError) {
	if p.bad.f == nil {
		p.bad.f = f
	}
}

func (p part) nameOf(field string) string {
	if p.name == "" {
		return field
	}
	return p.name + "[" + field + "]"
}

// sub is a part of p; one that was not sent has nothing in it.
func (p part) sub(field string) part {
	return part{n: p.n.get(field), name: p.nameOf(field), bad: p.bad, own: p.own}
}

// list is the elements of a list in p.
func (p part) list(field string) []part {
	items, _ := p.n.get(field).items()
	out := make([]part, len(items))
	for i, n := range items {
		out[i] = part{n: n, name: p.nameOf(field) + "[" + strconv.Itoa(i) + "]", bad: p.bad, own: p.own}
	}
	return out
}

// texts is the elements of a list of strings in p; nil where none was sent.
func (p part) texts(field string) []string {
	var out []string
	for _, v := range p.list(field) {
		out = append(out, v.n.text())
	}
	return out
}

// sent reports that a field is there, maybe empty to unset it.
func (p part) sent(field string) bool { return p.n.get(field) != nil }

// has reports that a field is there and not empty.
func (p part) has(field string) bool { return !p.n.get(field).blank() }

func (p part) str(field string) string { return p.n.get(field).text() }

// or is a string; def where none was sent.
func (p part) or(field, def string) string {
	if p.has(field) {
		return p.str(field)
	}
	return def
}

// int is a whole number; zero where none was sent.
func (p part) int(field string) int64 { v, _ := parseInt(p.n.get(field)); return v }

// count is a whole number of zero or more; def where none was sent.
func (p part) count(field string, def int64) int64 {
	if !p.has(field) {
		return def
	}
	v := p.int(field)
	if v < 0 {
		p.refuse(field, "parameter_invalid_integer", "Invalid non-negative integer")
	}
	return v
}

func (p part) bool(field string) bool { v, _ := parseBool(p.n.get(field)); return v }

// must refuses p where a field is not there.
func (p part) must(field string) {
	if !p.has(field) {
		p.keep(errMissingParam(p.nameOf(field)))
	}
}

// currency is a currency code; Stripe takes any letter case.
func (p part) currency(field string) string {
	code, f := readCurrency(p.nameOf(field), p.str(field))
	p.keep(f)
	return code
}

// metadata merges p's metadata into m.
func (p part) metadata(m pairs) pairs {
	out, f := mergeMetadata(p.nameOf("metadata"), p.n.get("metadata"), m)
	p.keep(f)
	return out
}
