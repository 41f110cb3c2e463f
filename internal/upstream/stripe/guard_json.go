package stripe

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// maxAnswerDepth bounds the nesting of an answer that is inspected. Stripe's deepest expansions stay below
// 30; beyond the bound an answer counts as unreadable.
const maxAnswerDepth = 64

// span is a stretch of an answer's bytes. The zero span is empty.
type span struct{ start, end int }

func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// jsonKind is the kind of a JSON value. The zero kind is none.
type jsonKind uint8

const (
	jsonString jsonKind = iota + 1
	jsonNumber
	jsonBool
	jsonNull
	jsonObject
	jsonArray
)

// jsonReader reads JSON in place, without allocating: it yields stretches of the bytes that it was given.
// It accepts exactly what encoding/json calls valid (up to maxAnswerDepth), so that nothing can hide in
// what one of the two reads otherwise. After a method returned ok=false the reader is of no more use.
type jsonReader struct {
	b []byte
	i int
}

func (r *jsonReader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

// kind tells what begins at the next byte that is not space; 0 if nothing can.
func (r *jsonReader) kind() jsonKind {
	r.space()
	if r.i >= len(r.b) {
		return 0
	}
	switch c := r.b[r.i]; c {
	case '"':
		return jsonString
	case '{':
		return jsonObject
	case '[':
		return jsonArray
	case 't', 'f':
		return jsonBool
	case 'n':
		return jsonNull
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return jsonNumber
		}
		return 0
	}
}

// plainInString marks the bytes of a string that mean themselves.
var plainInString = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// text reads a string and returns the stretch between its quotes.
func (r *jsonReader) text() (s span, escaped, ok bool) {
	b, i := r.b, r.i+1
	s.start = i
	for i < len(b) {
		c := b[i]
		if plainInString[c] {
			i++
			continue
		}
		if c == '"' {
			s.end, r.i = i, i+1
			return s, escaped, true
		}
		if c != '\\' || i+1 >= len(b) {
			return s, escaped, false
		}
		escaped = true
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if i+6 > len(b) || !hex4(b[i+2:i+6]) {
				return s, escaped, false
			}
			i += 6
		default:
			return s, escaped, false
		}
	}
	return s, escaped, false
}

// meaning returns what the stretch between two quotes means.
func (r *jsonReader) meaning(s span) []byte {
	raw := s.of(r.b)
	for _, c := range raw {
		if c == '\\' {
			return unescape(raw, true, nil)
		}
	}
	return raw
}

func hex4(b []byte) bool {
	for _, c := range b {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

// scalar reads a number, a boolean or null.
func (r *jsonReader) scalar(k jsonKind) (span, bool) {
	start := r.i
	ok := false
	switch k {
	case jsonNumber:
		ok = r.number()
	case jsonNull:
		ok = r.word("null")
	case jsonBool:
		ok = r.word("true") || r.word("false")
	}
	return span{start, r.i}, ok
}

func (r *jsonReader) word(w string) bool {
	if !bytes.HasPrefix(r.b[r.i:], []byte(w)) {
		return false
	}
	r.i += len(w)
	return true
}

func (r *jsonReader) number() bool {
	if r.at() == '-' {
		r.i++
	}
	if r.at() == '0' {
		r.i++
	} else if !r.digits() {
		return false
	}
	if r.at() == '.' {
		r.i++
		if !r.digits() {
			return false
		}
	}
	if c := r.at(); c == 'e' || c == 'E' {
		r.i++
		if c := r.at(); c == '+' || c == '-' {
			r.i++
		}
		return r.digits()
	}
	return true
}

func (r *jsonReader) at() byte {
	if r.i < len(r.b) {
		return r.b[r.i]
	}
	return 0
}

func (r *jsonReader) digits() bool {
	start := r.i
	for r.i < len(r.b) && '0' <= r.b[r.i] && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i > start
}

// next moves to the next entry of a hash or list that was entered past its opening sign; more is false at
// its end, which is then read.
func (r *jsonReader) next(end byte, first bool) (more, ok bool) {
	r.space()
	switch c := r.at(); {
	case c == end:
		r.i++
		return false, true
	case first:
		return true, r.i < len(r.b)
	case c == ',':
		r.i++
		r.space()
		return true, r.at() != end
	default:
		return false, false
	}
}

// key reads a member's name and the colon after it.
func (r *jsonReader) key() (s span, escaped, ok bool) {
	if r.at() != '"' {
		return s, false, false
	}
	if s, escaped, ok = r.text(); !ok {
		return s, escaped, false
	}
	r.space()
	if r.at() != ':' {
		return s, escaped, false
	}
	r.i++
	return s, escaped, true
}

// skip reads one whole value.
func (r *jsonReader) skip(depth int) (k jsonKind, s span, ok bool) {
	k = r.kind()
	s.start = r.i
	switch k {
	case 0:
		return k, s, false
	case jsonString:
		_, _, ok = r.text()
	case jsonObject, jsonArray:
		ok = depth < maxAnswerDepth && r.skipInside(k, depth+1)
	default:
		_, ok = r.scalar(k)
	}
	s.end = r.i
	return k, s, ok
}

func (r *jsonReader) skipInside(k jsonKind, depth int) bool {
	end := byte('}')
	if k == jsonArray {
		end = ']'
	}
	r.i++
	for first := true; ; first = false {
		more, ok := r.next(end, first)
		if !ok || !more {
			return ok
		}
		if k == jsonObject {
			if _, _, ok := r.key(); !ok {
				return false
			}
		}
		if _, _, ok := r.skip(depth); !ok {
			return false
		}
	}
}

// validJSON reports whether the whole of b is one JSON value within the depth bound.
func validJSON(b []byte) bool {
	r := jsonReader{b: b}
	if _, _, ok := r.skip(0); !ok {
		return false
	}
	r.space()
	return r.i == len(b)
}

// findJSON returns the raw value at a field of a JSON value that validJSON accepted. Of a member that
// appears twice the last counts, as with the SDKs' decoders. Fields through lists are not followed.
func findJSON(b []byte, f Field) (k jsonKind, raw []byte) {
	for depth := 0; ; depth++ {
		r := jsonReader{b: b}
		k = r.kind()
		if depth == len(f) {
			return k, bytes.TrimRight(b[r.i:], " \t\r\n")
		}
		if k != jsonObject {
			return 0, nil
		}
		r.i++
		raw = nil
		for first := true; ; first = false {
			more, ok := r.next('}', first)
			if !ok || !more {
				break
			}
			key, escaped, ok := r.key()
			if !ok {
				return 0, nil
			}
			_, s, ok := r.skip(0)
			if !ok {
				return 0, nil
			}
			if string(unescape(key.of(b), escaped, nil)) == f[depth] {
				raw = s.of(b)
			}
		}
		if raw == nil {
			return 0, nil
		}
		b = raw
	}
}

// findText returns the string at a field; empty if it is absent or no string.
func findText(b []byte, f Field) string {
	k, raw := findJSON(b, f)
	if k != jsonString {
		return ""
	}
	return string(unescape(raw[1:len(raw)-1], true, nil))
}

// unescape returns what a string's bytes mean. Without escapes they are returned as they are; otherwise the
// meaning is appended to buf[:0]. The bytes must have been read by text.
func unescape(s []byte, escaped bool, buf []byte) []byte {
	if !escaped {
		return s
	}
	out := buf[:0]
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		switch e := s[i+1]; e {
		case 'u':
			r := hexRune(s[i+2 : i+6])
			i += 6
			if utf16.IsSurrogate(r) {
				low := rune(0)
				if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
					low = hexRune(s[i+2 : i+6])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, escapes[e])
			i += 2
		}
	}
	return out
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func hexRune(b []byte) rune {
	var r rune
	for _, c := range b {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}
