package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
)

// maxTraceState bounds what is kept of a tracestate: what the standard asks for at least.
const maxTraceState = 512

// Trace is where a call belongs in the agent's own trace (W3C Trace Context). The zero Trace belongs to none. All ids are
// lower-case hexadecimal.
type Trace struct {
	ID     string // 32 digits
	Parent string // the agent's span, 16 digits
	Span   string // this call's, 16 digits
	Flags  string // 2 digits, as the agent sent them
	State  string // the vendors' list, at most 512 bytes; empty if there was none, or a malformed one
}

// traceOf reads the trace that an agent's headers name. What is malformed, or there twice, is ignored: a trace decides
// nothing, so a broken one is no reason to refuse a call.
func traceOf(h http.Header) Trace {
	values := h["Traceparent"]
	if len(values) != 1 {
		return Trace{}
	}
	t, ok := parseTraceparent(values[0])
	if !ok {
		return Trace{}
	}
	t.State = traceState(h["Tracestate"])
	var span [8]byte
	_, _ = rand.Read(span[:]) // never fails: the runtime ends the process instead
	t.Span = hex.EncodeToString(span[:])
	return t
}

// parseTraceparent reads "00-<trace id>-<parent id>-<flags>". Of later versions the same fields count and what follows
// them does not.
func parseTraceparent(s string) (Trace, bool) {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Trace{}, false
	}
	version, t := s[:2], Trace{ID: s[3:35], Parent: s[36:52], Flags: s[53:55]}
	switch {
	case !lowerHex(version), version == "ff", !lowerHex(t.ID), !lowerHex(t.Parent), !lowerHex(t.Flags),
		strings.Trim(t.ID, "0") == "", strings.Trim(t.Parent, "0") == "",
		version == "00" && len(s) != length,
		len(s) > length && s[length] != '-':
		return Trace{}, false
	}
	return t, true
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// traceState joins the vendors' lists and keeps the first whole members that fit, as the standard has it.
func traceState(values []string) string {
	all := strings.Join(values, ",")
	for i := range len(all) {
		if (all[i] < 0x20 || all[i] > 0x7e) && all[i] != '\t' {
			return ""
		}
	}
	if len(all) <= maxTraceState {
		return all
	}
	return all[:max(0, strings.LastIndexByte(all[:maxTraceState+1], ','))]
}

// parent is what the answer says of the trace: the same one, with this call's span.
func (t Trace) parent() string {
	if t.ID == "" {
		return ""
	}
	return "00-" + t.ID + "-" + t.Span + "-" + t.Flags
}
