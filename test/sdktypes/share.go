package sdktypes

import (
	"fmt"
	"strings"
)

// minShared is how long an object must be before it gets a line of its own to be shared.
const minShared = 48

// Tables are the sandbox's tables of API v2, by their path below internal/upstream/stripe.
func Tables(ops []Operation) map[string]string {
	params, shapes := newSharer(), newSharer()
	for _, op := range ops {
		params.count(op.Takes)
		shapes.count(op.Answers)
	}
	for _, op := range ops {
		params.line(op.Method+" "+op.Path, op.Takes)
		shapes.line(op.Method+" "+op.Path, op.Answers)
	}
	return map[string]string{
		"sandbox/params_v2.txt":          head("parameters") + params.defs.String() + params.lines.String(),
		"sandbox/testdata/shapes_v2.txt": head("answers") + shapes.defs.String() + shapes.lines.String(),
	}
}

func head(what string) string {
	return "# gentables: " + what + " of API v2, from the types of npm stripe 23.1.0. Generated: do not edit.\n"
}

// sharer writes objects that recur once, as "#7 {...}", and names them "#7".
type sharer struct {
	uses        map[string]int
	ids         map[string]int
	defs, lines strings.Builder
}

func newSharer() *sharer { return &sharer{uses: map[string]int{}, ids: map[string]int{}} }

// object is the end of the object that starts at i.
func object(text string, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

func (s *sharer) count(text string) {
	for i := 0; i < len(text); i++ {
		if text[i] != '{' {
			continue
		}
		o := text[i:object(text, i)]
		if s.uses[o]++; s.uses[o] > 1 {
			i += len(o) - 1 // what is in it has been counted
		}
	}
}

func (s *sharer) line(name, text string) {
	inner := text
	if strings.HasPrefix(text, "{") {
		inner = "{" + s.share(text[1:len(text)-1]) + "}" // a line of its own already
	}
	fmt.Fprintf(&s.lines, "%s %s\n", name, inner)
}

func (s *sharer) share(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '{' {
			out.WriteByte(text[i])
			i++
			continue
		}
		o := text[i:object(text, i)]
		i += len(o)
		inner := "{" + s.share(o[1:len(o)-1]) + "}"
		if s.uses[o] < 2 || len(o) < minShared {
			out.WriteString(inner)
			continue
		}
		if s.ids[o] == 0 {
			s.ids[o] = len(s.ids) + 1
			fmt.Fprintf(&s.defs, "#%d %s\n", s.ids[o], inner)
		}
		fmt.Fprintf(&out, "#%d", s.ids[o])
	}
	return out.String()
}
