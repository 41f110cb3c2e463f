// Package vault holds every credential: the vault keys that agents present, the upstream secrets that
// Stripe gets, the operators' tokens, the master key that protects them all, and the brakes on them. It
// is the only package that touches key material and ciphers.
//
// Invariants:
//   - a vault key and an operator's token are stored as keyed hashes; their text exists once, in the
//     answer that shows it;
//   - an upstream secret is stored sealed and leaves only through Upstream.Attach, to its pinned host;
//   - a Secret never prints;
//   - the zero Brake is Stopped, an unknown key and a key without an upstream are refused, and a new Ring
//     is stopped until its brake is set;
//   - when Ring.SetBrake has returned, no Depart that starts later passes it.
//
// The package knows no store, no HTTP server and no clock: rows come in, time is an argument.
package vault
