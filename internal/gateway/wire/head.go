package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// field is a header that means something here, one bit each; zero is all others.
type field uint16

const (
	fieldHost field = 1 << iota
	fieldLength
	fieldCoding
	fieldExpect
	fieldAuthorization
	fieldIdempotency
	fieldContentType
	fieldStripe // any Stripe-* header
)

// Bytes that may stand in the parts of a head.
const (
	inTarget = 1 << iota // a path; the percent sign and the question mark are handled apart
	inQuery
	inValue
	inHost
)

var (
	classes [256]uint8
	// lower maps the bytes of a token to lower case and all others to 0.
	lower [256]byte
)

func init() {
	for c := range 256 {
		b := byte(c)
		printable := b > 0x20 && b < 0x7f
		if printable && b != '#' {
			classes[b] |= inQuery
			if b != '%' && b != '?' {
				classes[b] |= inTarget
			}
		}
		// Bytes above ASCII are opaque and legal in values; SDKs put names of systems there.
		if printable || b == ' ' || b == '\t' || b >= 0x80 {
			classes[b] |= inValue
		}
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		digit := b >= '0' && b <= '9'
		if letter || digit || strings.IndexByte(".-_:[]%", b) >= 0 {
			classes[b] |= inHost
		}
		if letter || digit || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			lower[b] = b
		}
		if b >= 'A' && b <= 'Z' {
			lower[b] = b - 'A' + 'a'
		}
	}
}

// step takes one step in the head. b is not empty.
func (s *scanner) step(b []byte) (int, Reason) {
	switch s.state {
	case stMethod:
		return s.method(b[0])
	case stTargetStart:
		if b[0] != '/' {
			return 0, BadTarget
		}
		s.state = stTarget
		return 1, ""
	case stTarget:
		return s.target(b)
	case stPercent1, stPercent2:
		if _, ok := hexDigit(b[0]); !ok {
			return 0, BadTarget
		}
		if s.state++; s.state == stQuery {
			s.state = stTarget
		}
		return 1, ""
	case stQuery:
		return s.query(b)
	case stVersion:
		return s.version(b[0])
	case stLineStart:
		return s.lineStart(b[0])
	case stName:
		return s.headerName(b)
	case stValueStart:
		if b[0] == ' ' || b[0] == '\t' {
			return 1, ""
		}
		s.state = stValue
		return 0, ""
	case stValue:
		return s.headerValue(b)
	case stValueLF:
		if b[0] != '\n' {
			return 0, BareCR
		}
		s.state = stLineStart
		return 1, s.endLine()
	default: // stHeadLF
		if b[0] != '\n' {
			return 0, BareCR
		}
		return 1, s.endHead()
	}
}

// method takes one byte of it: capital letters, then a space. CONNECT asks for a tunnel.
func (s *scanner) method(c byte) (int, Reason) {
	switch {
	case c >= 'A' && c <= 'Z' && s.pos < maxMethod:
		s.name[s.pos] = c
		s.pos++
		return 1, ""
	case c == ' ' && s.pos > 0 && string(s.name[:s.pos]) != "CONNECT":
		s.state = stTargetStart
		return 1, ""
	}
	return 0, BadMethod
}

// target takes bytes of the path. net/http refuses a broken %-escape there, so it is refused here, in a form
// that SDKs understand.
func (s *scanner) target(b []byte) (int, Reason) {
	n := 0
	for n < len(b) && classes[b[n]]&inTarget != 0 {
		n++
	}
	if n == len(b) {
		return n, ""
	}
	switch b[n] {
	case '%':
		s.state = stPercent1
	case '?':
		s.state = stQuery
	case ' ':
		s.state, s.pos = stVersion, 0
	default:
		return n, unexpected(b[n], BadTarget)
	}
	return n + 1, ""
}

func (s *scanner) query(b []byte) (int, Reason) {
	n := 0
	for n < len(b) && classes[b[n]]&inQuery != 0 {
		n++
	}
	if n == len(b) {
		return n, ""
	}
	if b[n] != ' ' {
		return n, unexpected(b[n], BadTarget)
	}
	s.state, s.pos = stVersion, 0
	return n + 1, ""
}

// unexpected is the reason for a byte that cannot stand where it does: line ends and control bytes have
// reasons of their own.
func unexpected(c byte, otherwise Reason) Reason {
	switch {
	case c == '\n':
		return BareLF
	case c == '\r':
		return otherwise
	case c < 0x20 || c == 0x7f:
		return ControlByte
	}
	return otherwise
}

const versionLine = "HTTP/1.1\r\n"

// version takes one byte of the only version there is and of the end of its line.
func (s *scanner) version(c byte) (int, Reason) {
	if c == versionLine[s.pos] {
		if s.pos++; s.pos == len(versionLine) {
			s.state = stLineStart
		}
		return 1, ""
	}
	if s.pos == len(versionLine)-1 {
		return 0, BareCR
	}
	return 0, unexpected(c, BadVersion)
}

func (s *scanner) lineStart(c byte) (int, Reason) {
	switch c {
	case '\r':
		s.state = stHeadLF
		return 1, ""
	case '\n':
		return 0, BareLF
	case ' ', '\t':
		return 0, FoldedHeader
	}
	if s.lines++; s.lines > s.limits.HeaderLines {
		return 0, TooManyHeaders
	}
	s.state, s.nameLen, s.valueLen = stName, 0, 0
	return 0, ""
}

// headerName takes bytes of a name and, with the colon, finds out which header it is.
func (s *scanner) headerName(b []byte) (int, Reason) {
	n := 0
	for n < len(b) {
		c := lower[b[n]]
		if c == 0 {
			break
		}
		if s.nameLen == maxName {
			return n, BadHeaderName
		}
		s.name[s.nameLen] = c
		s.nameLen++
		n++
	}
	if n == len(b) {
		return n, ""
	}
	switch b[n] {
	case ':':
		if s.nameLen == 0 {
			return n, BadHeaderName
		}
		s.state = stValueStart
		return n + 1, s.classify()
	case ' ', '\t':
		return n, SpaceBeforeColon
	}
	return n, unexpected(b[n], BadHeaderName)
}

// repeated says which reason a second header of a kind has.
func repeated(f field) Reason {
	switch f {
	case fieldLength:
		return BadLength
	case fieldCoding:
		return BadCoding
	}
	return RepeatedHeader
}

// classify finds out which header a name is, and refuses those that may not come, or not again.
func (s *scanner) classify() Reason {
	name := s.name[:s.nameLen]
	s.field = 0
	switch string(name) {
	case "host":
		s.field = fieldHost
	case "content-length":
		s.field = fieldLength
	case "transfer-encoding":
		s.field = fieldCoding
	case "expect":
		s.field = fieldExpect
	case "authorization":
		s.field = fieldAuthorization
	case "idempotency-key":
		s.field = fieldIdempotency
	case "content-type":
		s.field = fieldContentType
	case "upgrade":
		return Upgrade
	case "trailer":
		return Trailers
	default:
		if bytes.HasPrefix(name, []byte("stripe-")) {
			s.field = fieldStripe
			return s.stripeHeader(name)
		}
		return ""
	}
	if s.seen&s.field != 0 {
		return repeated(s.field)
	}
	s.seen |= s.field
	return ""
}

// stripeHeader refuses the second Stripe-* header of one name. Names are remembered by their FNV-1a hash: two
// names with one hash refuse a request that could have passed, never the reverse.
func (s *scanner) stripeHeader(name []byte) Reason {
	const offset, prime = 14695981039346656037, 1099511628211
	hash := uint64(offset)
	for _, c := range name {
		hash = (hash ^ uint64(c)) * prime
	}
	for _, seen := range s.stripe[:s.stripes] {
		if seen == hash {
			return RepeatedHeader
		}
	}
	if s.stripes == maxStripe {
		return TooManyHeaders
	}
	s.stripe[s.stripes] = hash
	s.stripes++
	return ""
}

// plain is how many bytes at the front of b surely may stand in a value, found eight at a time: most of a head is
// values.
func plain(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for len(b)-n >= 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		control := (x - 0x20*ones) & ^x // a top bit is set where some byte is below 0x20
		y := x ^ 0x7f*ones
		del := (y - ones) & ^y // and here where some byte is DEL
		if (control|del)&tops != 0 {
			break
		}
		n += 8
	}
	return n
}

// headerValue takes bytes of a value, and keeps them where the value means something here.
func (s *scanner) headerValue(b []byte) (int, Reason) {
	n := plain(b)
	for n < len(b) && classes[b[n]]&inValue != 0 {
		n++
	}
	if s.field&(fieldHost|fieldLength|fieldCoding|fieldExpect) != 0 {
		if why := s.keepValue(b[:n]); why != "" {
			return 0, why
		}
	}
	if n == len(b) {
		return n, ""
	}
	if b[n] != '\r' {
		return n, unexpected(b[n], ControlByte)
	}
	s.state = stValueLF
	return n + 1, ""
}

// keepValue keeps b, or, of a Host, only checks it: nothing but its form matters.
func (s *scanner) keepValue(b []byte) Reason {
	if s.field == fieldHost {
		return s.host(b)
	}
	if s.valueLen < maxValue {
		copy(s.value[s.valueLen:], b)
	}
	s.valueLen += len(b)
	return ""
}

// host checks the bytes of a Host; spaces may follow it, but nothing after them.
func (s *scanner) host(b []byte) Reason {
	for _, c := range b {
		switch {
		case c == ' ' || c == '\t':
			s.pos = -1
		case s.pos < 0 || classes[c]&inHost == 0:
			return BadHost
		default:
			s.valueLen++
		}
	}
	return ""
}

// endLine judges the value of a header that means something here.
func (s *scanner) endLine() Reason {
	switch s.field {
	case fieldHost:
		s.pos = 0
		if s.valueLen == 0 {
			return BadHost
		}
	case fieldLength:
		return s.contentLength(s.trimmed())
	case fieldCoding:
		if !bytes.EqualFold(s.trimmed(), []byte("chunked")) {
			return BadCoding
		}
		s.chunked = true
	case fieldExpect:
		if !bytes.EqualFold(s.trimmed(), []byte("100-continue")) {
			return BadExpect
		}
	}
	return ""
}

// trimmed is the kept value without the spaces after it; one that did not fit is nothing, which no check takes.
func (s *scanner) trimmed() []byte {
	if s.valueLen > maxValue {
		return nil
	}
	return bytes.TrimRight(s.value[:s.valueLen], " \t")
}

// contentLength reads digits and nothing else; a zero in front of others is octal to some readers.
func (s *scanner) contentLength(v []byte) Reason {
	if len(v) == 0 || len(v) > maxLengthDigits || len(v) > 1 && v[0] == '0' {
		return BadLength
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return BadLength
		}
		s.length = s.length*10 + uint64(c-'0')
	}
	return ""
}

// endHead decides how the body is framed.
func (s *scanner) endHead() Reason {
	switch {
	case s.seen&fieldHost == 0:
		return BadHost
	case s.seen&fieldLength != 0 && s.chunked:
		return TwoFramings
	case s.chunked:
		s.state = stChunkSize
	case s.length > 0:
		s.state = stLength
	default:
		s.state = stDone
	}
	return ""
}
