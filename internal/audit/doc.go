// Package audit is the record of what was decided and what came of it: hash-chained, signed at its head,
// exportable and verifiable without the server.
//
// The stored bytes are what is hashed. A record is encoded once, by AppendJSON, and never again: nothing
// that a later version does to the encoder can change an old record's hash.
//
//	hash(n) = SHA-256("keybrake-audit-v1\n" || hash(n-1) || bytes(n)),  hash(0) = 32 zero bytes
//
// Invariants:
//   - sequences of a chain begin at 1 and have no gap;
//   - no secret and no card number is in a record: free text is scrubbed and bounded by the encoder;
//   - verification names the first record that is not as it was written.
//
// The package knows no store, no clock and no private key: entries are iterated by the caller, time and
// the signing function are arguments.
package audit
