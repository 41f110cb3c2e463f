package stripe

// Limits of a request. Each is far above what the SDKs send and far below what would make judging it slow.
const (
	// maxPath bounds the path in bytes. Stripe's ids are at most 255, and a template has at most three.
	maxPath = 4096
	// maxQuery and maxBody bound parameters on the wire, in bytes. Stripe takes a subscription schedule of
	// some hundred phases in less.
	maxQuery = 64 << 10
	maxBody  = 1 << 20
	// maxParams bounds how many plain values a request has.
	maxParams = 2000
	// maxDepth bounds how deep parameters nest; the deepest declared one has eight levels.
	maxDepth = 12
	// maxKey bounds a parameter's full name in bytes, as sent.
	maxKey = 512
	// maxValue bounds one value in bytes, decoded. Stripe's longest text is 20,000 characters (evidence).
	maxValue = 100_000
	// maxExpandDepth bounds the dots of an expand path. Stripe follows four levels, lists add one each.
	maxExpandDepth = 8
	// maxID bounds a decoded path segment in bytes.
	maxID = 1024
	// maxHeader bounds a forwarded header in bytes.
	maxHeader = 2048
	// maxIdempotencyKey is Stripe's own limit.
	maxIdempotencyKey = 255
	// maxNumber bounds a JSON number in bytes.
	maxNumber = 20
)
