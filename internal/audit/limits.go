package audit

// Limits of a record's parts. A record is made from what strangers send: without them one call could write
// megabytes. Longer texts are cut and end in "…", longer lists lose their rest. Bytes, in UTF-8.
const (
	maxID      = 255  // ids and names; Stripe's ids and idempotency keys end there too
	maxRoute   = 255  // the catalog's longest template has about 120
	maxAgent   = 256  // User-Agent
	maxRunID   = 128  // X-Agent-Run-Id
	maxTrace   = 32   // ids of a trace
	maxDigest  = 64   // of a policy
	maxState   = 512  // tracestate
	maxMessage = 1024 // a failure's sentence, a reason, why
	maxDiff    = 8192 // a policy's change

	maxEffects  = 16
	maxFailures = 16
	maxCaps     = 64
)

// MaxCustomers is how many customers a record names at most; of more, the first.
const MaxCustomers = 64

// MaxRecord bounds an encoded record: the limits above with every byte escaped stay below it. Readers
// refuse longer ones.
const MaxRecord = 1 << 20
