package stripe

import "strings"

// searchCustomer reads the search language as far as it takes to know that every hit has one customer: terms
// joined by AND, of which exactly one is customer:"...". Anything else (OR, parentheses, a term of another
// form, two customers) is not understood and gives false.
func searchCustomer(query string) (id string, ok bool) {
	words, ok := searchWords(query)
	if !ok || len(words)%2 == 0 {
		return "", false
	}
	for i, word := range words {
		if i%2 == 1 {
			if word != "AND" && word != "and" {
				return "", false
			}
			continue
		}
		term, ok := readTerm(word)
		if !ok {
			return "", false
		}
		if term.field != "customer" || term.negated {
			continue
		}
		if id != "" || term.op != ":" || !term.quoted || !accountName(term.value, false) {
			return "", false
		}
		id = term.value
	}
	return id, id != ""
}

// searchWords splits a query at spaces outside quotes.
func searchWords(query string) ([]string, bool) {
	var words []string
	start, quote := -1, byte(0)
	for i := range len(query) {
		c := query[i]
		switch {
		case c < 0x20 || c == '\\':
			return nil, false
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == ' ':
			if start >= 0 {
				words, start = append(words, query[start:i]), -1
			}
			continue
		case c == '"' || c == '\'':
			quote = c
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		words = append(words, query[start:])
	}
	return words, quote == 0
}

// searchTerm is one term of a query: -field["key"]:"value".
type searchTerm struct {
	negated, quoted  bool
	field, op, value string
}

func readTerm(s string) (t searchTerm, ok bool) {
	s, t.negated = strings.CutPrefix(s, "-")
	end := 0
	for end < len(s) && (s[end] == '_' || s[end] == '.' || 'a' <= s[end] && s[end] <= 'z' || '0' <= s[end] && s[end] <= '9') {
		end++
	}
	t.field, s = s[:end], s[end:]
	if key, found := strings.CutPrefix(s, "["); found {
		_, rest, ok := readQuoted(key)
		if !ok || !strings.HasPrefix(rest, "]") {
			return t, false
		}
		t.field, s = t.field+"[]", rest[1:]
	}
	for _, op := range []string{":", "~", ">=", "<=", ">", "<"} {
		if rest, found := strings.CutPrefix(s, op); found {
			t.op, s = op, rest
			break
		}
	}
	if t.field == "" || t.op == "" || s == "" {
		return t, false
	}
	if s[0] == '"' || s[0] == '\'' {
		value, rest, ok := readQuoted(s)
		t.value, t.quoted = value, true
		return t, ok && rest == ""
	}
	t.value = s
	return t, canonicalID(s)
}

// readQuoted reads a quoted text; there are no escapes in it.
func readQuoted(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		return "", "", false
	}
	end := strings.IndexByte(s[1:], s[0])
	if end < 0 {
		return "", "", false
	}
	return s[1 : 1+end], s[2+end:], true
}
