// Package sdktypes reads the operations of Stripe's API v2 out of the npm package stripe: the OpenAPI document has
// API v1 only. The package's files are generated and regular, so a small part of TypeScript is enough.
package sdktypes

import (
	"fmt"
	"strings"
)

// lexer cuts a file into words and signs, without comments.
type lexer struct {
	tokens []string
	at     int
}

func lex(text string) *lexer {
	l := &lexer{}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case strings.HasPrefix(text[i:], "/*"):
			i += 2 + strings.Index(text[i+2:], "*/") + 2
		case strings.HasPrefix(text[i:], "//"):
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return l
			}
			i += end
		case c == '\'' || c == '"' || c == '`':
			end := i + 1 + strings.IndexByte(text[i+1:], c)
			l.tokens = append(l.tokens, text[i:end+1])
			i = end + 1
		case isWord(c):
			end := i
			for end < len(text) && isWord(text[end]) {
				end++
			}
			l.tokens = append(l.tokens, text[i:end])
			i = end
		case strings.HasPrefix(text[i:], "=>"):
			l.tokens = append(l.tokens, "=>")
			i += 2
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
		default:
			l.tokens = append(l.tokens, string(c))
			i++
		}
	}
	return l
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *lexer) peek() string {
	if l.at < len(l.tokens) {
		return l.tokens[l.at]
	}
	return ""
}

func (l *lexer) next() string {
	t := l.peek()
	l.at++
	return t
}

func (l *lexer) take(want string) bool {
	if l.peek() == want {
		l.at++
		return true
	}
	return false
}

func (l *lexer) need(want string) {
	if !l.take(want) {
		panic(syntax(fmt.Sprintf("%q where %q should be, near %s", l.peek(), want, strings.Join(l.tokens[max(0, l.at-12):min(len(l.tokens), l.at+4)], " "))))
	}
}

// syntax is a file that is not as regular as it was; parse turns it into an error.
type syntax string

// skipTo leaves everything up to a sign at the same depth, and the sign itself.
func (l *lexer) skipTo(sign string) {
	depth := 0
	for l.peek() != "" {
		t := l.next()
		switch t {
		case "{", "(", "[":
			depth++
		case "}", ")", "]":
			depth--
		}
		if t == sign && depth == 0 {
			return
		}
	}
}
