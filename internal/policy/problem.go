package policy

import (
	"fmt"
	"strings"
)

// Problem is one thing for which a policy file is refused.
type Problem struct {
	Line, Column int    // from 1; 0 = the whole file
	Field        string // in the policy's words: "caps[0].usd", "scopes.refund"
	Message      string // what is wrong and what to write instead
}

// Warning is one thing that is allowed and rarely meant. Its parts are those of a Problem.
type Warning Problem

// ParseError is a refused policy file, with everything that is wrong with it.
type ParseError struct {
	File     string
	Problems []Problem // in the order of the file
}

// Error writes one line per problem: `file:line:column: message`.
func (e *ParseError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = locate(e.File, p.Line, p.Column) + p.Message
	}
	return strings.Join(lines, "\n")
}

// In writes the warning as a line about the named file.
func (w Warning) In(file string) string { return locate(file, w.Line, w.Column) + w.Message }

func locate(file string, line, column int) string {
	if line == 0 {
		return file + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", file, line, column)
}
