package stripe

import (
	"encoding/json"
	"strconv"
)

const upperHex = "0123456789ABCDEF"

// Encode writes the parameters canonically: sorted keys, numbered arrays, everything but unreserved
// characters percent-encoded; JSON for v2 bodies. Equal trees give equal bytes. No parameters: nil.
func (p *Params) Encode() []byte {
	if p.Empty() {
		return nil
	}
	if p.json {
		return appendJSON(nil, &p.root)
	}
	return p.EncodeForm()
}

// EncodeForm writes the parameters as a form, whatever they came as: for queries.
func (p *Params) EncodeForm() []byte {
	if p.Empty() {
		return nil
	}
	var prefix [256]byte
	return appendForm(make([]byte, 0, 256), prefix[:0], &p.root, 0)
}

func appendForm(out, prefix []byte, n *Node, depth int) []byte {
	if n.Kind != Hash && n.Kind != Array {
		if len(out) > 0 {
			out = append(out, '&')
		}
		out = append(append(out, prefix...), '=')
		return appendEscaped(out, n.Text)
	}
	base := len(prefix)
	for i, m := range n.Members {
		prefix = prefix[:base]
		if depth > 0 {
			prefix = append(prefix, "%5B"...)
		}
		if n.Kind == Array {
			prefix = strconv.AppendInt(prefix, int64(i), 10)
		} else {
			prefix = appendEscaped(prefix, m.Key)
		}
		if depth > 0 {
			prefix = append(prefix, "%5D"...)
		}
		out = appendForm(out, prefix, m.Value, depth+1)
	}
	return out
}

// appendEscaped percent-encodes everything but RFC 3986's unreserved characters.
func appendEscaped(out []byte, s string) []byte {
	for _, c := range []byte(s) {
		if unreserved(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return out
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

func appendJSON(out []byte, n *Node) []byte {
	switch n.Kind {
	case Text:
		return appendQuoted(out, n.Text)
	case Null:
		return append(out, "null"...)
	case Number, Bool:
		return append(out, n.Text...)
	}
	open, end := byte('{'), byte('}')
	if n.Kind == Array {
		open, end = '[', ']'
	}
	out = append(out, open)
	for i, m := range n.Members {
		if i > 0 {
			out = append(out, ',')
		}
		if n.Kind == Hash {
			out = append(appendQuoted(out, m.Key), ':')
		}
		out = appendJSON(out, m.Value)
	}
	return append(out, end)
}

func appendQuoted(out []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("stripe: a string does not marshal: " + err.Error())
	}
	return append(out, b...)
}
