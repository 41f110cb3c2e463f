// Package stripe is what Keybrake knows of the Stripe API: which operation a request is, what it would do
// to money and to whom, what to ask Stripe before it is admitted, what an answer means, and how a denial
// looks to Stripe's SDKs.
//
// The knowledge is data: the tables of the folder tables/ hold one row per operation, in a small language
// that this package parses once, when New is called. A row that does not parse stops the program; a row
// whose form the interpreter does not know denies its calls as unmeterable. Nothing that a row does not
// mention is ever allowed.
//
// The package never forwards what it did not parse: paths, parameters and headers are rebuilt from the
// decided form (see Params and Adapter.Parse).
package stripe
