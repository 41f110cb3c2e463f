package wire

// state is where in a request the scanner stands. The order matters: the head's states come first.
type state uint8

const (
	stMethod state = iota // zero: nothing is taken for granted
	stTargetStart
	stTarget
	stPercent1 // after a % in the path
	stPercent2
	stQuery
	stVersion
	stLineStart
	stName
	stValueStart
	stValue
	stValueLF
	stHeadLF

	stLength // a body of known length
	stChunkSize
	stChunkSizeLF
	stChunkData
	stChunkDataCR
	stChunkDataLF
	stLastCR
	stLastLF

	stDone // the request is over; reset before the next
)

func (s state) inHead() bool { return s <= stHeadLF }

const (
	// maxMethod is longer than any method in HTTP's registry that a client of an API sends.
	maxMethod = 16
	// maxName bounds a header's name in bytes; the longest that load balancers add are near 60.
	maxName = 128
	// maxValue bounds the values that are read here: lengths, codings, expectations.
	maxValue = 32
	// maxStripe bounds the number of Stripe-* headers; there are four.
	maxStripe = 8
	// maxLengthDigits keeps a Content-Length inside an int64.
	maxLengthDigits = 18
	// maxSizeDigits keeps a chunk below 4 GiB; bodies are bounded far below, by the handler.
	maxSizeDigits = 8
)

// scanner follows one connection's requests byte by byte. What it finds does not depend on how the bytes were
// cut into reads.
type scanner struct {
	limits *Limits
	state  state
	pos    int // within the method or the version
	head   int // bytes of the head so far
	lines  int // header lines so far

	name    [maxName]byte // of the current header, in lower case; the method before that
	nameLen int
	field   field
	value   [maxValue]byte
	// valueLen counts also what did not fit.
	valueLen int

	seen    field // one bit for each header that may come once
	stripe  [maxStripe]uint64
	stripes int

	length  uint64 // of the body, or of what is left of it or of the current chunk
	chunked bool
	digits  int // of the current chunk's size
}

// reset prepares for the next request.
func (s *scanner) reset() {
	s.state, s.pos, s.head, s.lines = stMethod, 0, 0, 0
	s.seen, s.stripes, s.length, s.chunked, s.digits = 0, 0, 0, false, 0
	s.nameLen, s.valueLen, s.field = 0, 0, 0
}

// scan looks at b up to the end of the current request and returns how many bytes that took. A reason means
// that b has, at the returned place, what no request may have.
func (s *scanner) scan(b []byte) (int, Reason) {
	n := 0
	for n < len(b) && s.state != stDone {
		var k int
		var why Reason
		if s.state.inHead() {
			k, why = s.scanHead(b[n:])
		} else {
			k, why = s.scanBody(b[n:])
		}
		n += k
		if why != "" {
			return n, why
		}
	}
	return n, ""
}

// scanHead looks at no more bytes than the head may still have.
func (s *scanner) scanHead(b []byte) (int, Reason) {
	left := s.limits.Head - s.head
	if left <= 0 {
		return 0, HeadTooLong
	}
	if len(b) > left {
		b = b[:left]
	}
	n := 0
	for n < len(b) && s.state.inHead() {
		k, why := s.step(b[n:])
		n += k
		if why != "" {
			return n, why
		}
	}
	s.head += n
	return n, ""
}

// scanBody takes one step in the body. b is not empty.
func (s *scanner) scanBody(b []byte) (int, Reason) {
	switch s.state {
	case stLength:
		return s.skip(b, stDone), ""
	case stChunkData:
		return s.skip(b, stChunkDataCR), ""
	case stChunkSize:
		return s.chunkSize(b[0])
	case stChunkSizeLF:
		if b[0] != '\n' {
			return 0, BareCR
		}
		s.state = stChunkData
		if s.length == 0 {
			s.state = stLastCR
		}
		s.digits = 0
		return 1, ""
	case stChunkDataCR:
		return s.expect(b[0], '\r', stChunkDataLF, BadChunk)
	case stChunkDataLF:
		return s.expect(b[0], '\n', stChunkSize, BareCR)
	case stLastCR:
		return s.expect(b[0], '\r', stLastLF, Trailers)
	default: // stLastLF
		return s.expect(b[0], '\n', stDone, BareCR)
	}
}

// skip passes over the rest of what length counts.
func (s *scanner) skip(b []byte, then state) int {
	if uint64(len(b)) < s.length {
		s.length -= uint64(len(b))
		return len(b)
	}
	n := int(s.length)
	s.length = 0
	s.state = then
	return n
}

// expect takes one byte that can only be want.
func (s *scanner) expect(c, want byte, then state, why Reason) (int, Reason) {
	switch {
	case c == want:
		s.state = then
		return 1, ""
	case c == '\n':
		return 0, BareLF
	}
	return 0, why
}

// chunkSize takes one byte of the line before a chunk: hexadecimal digits, then CR LF, and nothing else.
func (s *scanner) chunkSize(c byte) (int, Reason) {
	digit, ok := hexDigit(c)
	switch {
	case ok && s.digits < maxSizeDigits:
		s.length = s.length<<4 | digit
		s.digits++
		return 1, ""
	case ok || s.digits == 0:
		return 0, BadChunk
	case c == '\r':
		s.state = stChunkSizeLF
		return 1, ""
	case c == '\n':
		return 0, BareLF
	case c == ';':
		return 0, ChunkExtension
	}
	return 0, BadChunk
}

func hexDigit(c byte) (uint64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0'), true
	case c >= 'a' && c <= 'f':
		return uint64(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return uint64(c-'A') + 10, true
	}
	return 0, false
}
