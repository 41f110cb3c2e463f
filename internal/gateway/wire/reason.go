package wire

// Reason says why a connection was refused. It is a closed list, fit for records and metrics; it never holds
// bytes that came from outside.
type Reason string

// The reasons for a refusal.
const (
	BadMethod        Reason = "bad_method"
	BadTarget        Reason = "bad_target"         // not a path, or bytes that no target has
	BadVersion       Reason = "bad_version"        // anything but HTTP/1.1
	BareLF           Reason = "bare_lf"            // a line that ends in LF without CR
	BareCR           Reason = "bare_cr"            // a CR that no LF follows
	ControlByte      Reason = "control_byte"       // NUL, another control byte, DEL
	FoldedHeader     Reason = "folded_header"      // a header line that begins with a space
	SpaceBeforeColon Reason = "space_before_colon" //
	BadHeaderName    Reason = "bad_header_name"    // empty, too long, no colon, or not a token
	BadHost          Reason = "bad_host"           // absent, empty, or not a host
	RepeatedHeader   Reason = "repeated_header"    // a header that may come once came twice
	HeadTooLong      Reason = "head_too_long"      //
	TooManyHeaders   Reason = "too_many_headers"   //
	BadLength        Reason = "bad_content_length" // several, or not a plain number
	BadCoding        Reason = "bad_transfer_encoding"
	TwoFramings      Reason = "two_framings" // Content-Length and Transfer-Encoding
	BadExpect        Reason = "bad_expect"   // anything but 100-continue
	Upgrade          Reason = "upgrade"      // to another protocol
	Trailers         Reason = "trailers"     // headers after the body
	BadChunk         Reason = "bad_chunk"    // size or end of a chunk
	ChunkExtension   Reason = "chunk_extension"
	TooSlow          Reason = "too_slow" // a head that was begun and did not end in time
)

// messages are what the agent reads. Every reason has one.
var messages = map[Reason]string{
	BadMethod:        "The request's method is not one that HTTP knows.",
	BadTarget:        "The request's target must be a path that begins with a slash, such as /v1/charges.",
	BadVersion:       "Only HTTP/1.1 is spoken here (behind nginx: proxy_http_version 1.1).",
	BareLF:           "A line of the request ends in LF alone; lines end in CR LF.",
	BareCR:           "The request has a CR that no LF follows.",
	ControlByte:      "The request's head has a control byte.",
	FoldedHeader:     "A header line begins with a space; folded headers are not taken.",
	SpaceBeforeColon: "A header has a space between its name and the colon.",
	BadHeaderName:    "A header line has no valid name.",
	BadHost:          "The request needs one Host header with a valid host.",
	RepeatedHeader:   "A header that may be sent once was sent more than once.",
	HeadTooLong:      "The request's head is too long. Send fewer or shorter headers, and long parameters in the body of a POST.",
	TooManyHeaders:   "The request has too many headers. Send fewer.",
	BadLength:        "Content-Length must be sent at most once, as a plain number.",
	BadCoding:        "Transfer-Encoding must be sent at most once, as chunked.",
	TwoFramings:      "The request has both Content-Length and Transfer-Encoding.",
	BadExpect:        "Expect can only be 100-continue.",
	Upgrade:          "No other protocol can be upgraded to.",
	Trailers:         "Headers after the body are not taken.",
	BadChunk:         "A chunk of the body is framed wrongly.",
	ChunkExtension:   "Chunk extensions are not taken.",
	TooSlow:          "The request's head did not arrive in time.",
}
