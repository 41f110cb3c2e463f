// Package sandbox is a stateful Stripe in memory, spoken to over HTTP.
//
// It is the upstream of "serve --dev" and of the tests, and an independent
// witness: it shares no code with the gateway, so a request that slips past the
// gateway's strict parser meets here the generous reading that Stripe inherits
// from Rack (the last duplicate wins, query and body are one bucket, "[amount]"
// means "amount", ";" separates, dots in paths are resolved) and is really
// executed. What was executed is then in [Server.Effects], what arrived is in
// [Server.Journal], and an auditor compares both with what the gateway says.
//
// What it holds true:
//
//   - Money moves once per effect, and every movement has a balance transaction
//     and an [Effect].
//   - The same seed and the same order of calls give the same ids.
//   - A POST with an idempotency key runs at most once in 24 hours of the clock
//     it was given, unless a [Fault] says otherwise.
//   - Everything outside its table of operations is Stripe's 404.
//
// It refuses to know what Keybrake is. Its routes under /_sandbox/ control it
// and ask for no credential: serve it on a loopback address only.
//
// What operations take (params.txt), what can be expanded (expand.txt) and, for
// the tests, what operations answer (testdata/shapes.txt) are facts taken from
// Stripe's OpenAPI document of API version 2026-08-26.dahlia by gentables in the
// module test.
package sandbox
