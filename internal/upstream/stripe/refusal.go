package stripe

import "github.com/keybrake/keybrake/internal/policy"

// malformed is the refusal of a request that two readers could understand in two ways.
func malformed(param, message string) *policy.Refusal {
	return &policy.Refusal{Code: policy.CodeMalformed, Param: clip(param), Message: message}
}

// maxEcho bounds how much of a request is repeated in a refusal, in bytes.
const maxEcho = 80

// clip shortens what is repeated in a message and takes out what could break a log or a terminal.
func clip(s string) string {
	out := make([]byte, 0, min(len(s), maxEcho)+3)
	for i := 0; i < len(s); i++ {
		if len(out) >= maxEcho {
			return string(append(out, "..."...))
		}
		if s[i] < 0x20 || s[i] > 0x7e {
			out = append(out, '?')
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}
