// Package console is the web pages for operators: server-rendered, readable without a script, live by server-sent events.
//
// Pages know only the admin API (admin.As): what a page shows or changes goes through the same handler, roles and records as
// what comes over the network. A file is a page: keys.go reads what templates/keys.html shows. What several pages show the
// same way (cap bars, chips, times, charts) is made in parts.go, words.go and chart.go.
//
// The content policy lets nothing inline pass, neither script nor style: templates carry neither, and geometry in charts is
// in attributes.
package console
