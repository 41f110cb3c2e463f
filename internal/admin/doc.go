// Package admin is the control plane: what operators do to vault keys, upstreams, brakes, rates and tokens,
// as a service, as a JSON API over HTTP and as the client of that API.
//
// Every action is one store transaction with exactly one audit record that names who did it, from where and
// why; the ring in memory follows after the commit. A stop is the exception in order, not in kind: the brake
// in memory is pulled first, because it must hold on the very next call, and the row is made durable after.
//
// The package knows no vendor (what is probed and where upstreams are by default comes in as Config) and
// dials nobody itself. Secrets pass through it once, on their way to the one answer that shows them.
package admin
