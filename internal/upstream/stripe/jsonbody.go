package stripe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keybrake/keybrake/internal/policy"
)

// parseJSON reads a v2 body strictly: one object, every key once in every letter case, no byte order mark,
// nothing behind it, numbers without exponents. An empty body is an empty object.
func parseJSON(body []byte) (*Params, *policy.Refusal) {
	p := &Params{root: Node{Kind: Hash}, json: true}
	if len(body) == 0 {
		return p, nil
	}
	if !utf8.Valid(body) || bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) {
		return nil, malformed("", "The body must be JSON in UTF-8 without a byte order mark.")
	}
	d := &bodyReader{dec: json.NewDecoder(bytes.NewReader(body))}
	d.dec.UseNumber()
	n, err := d.value("", 0, false)
	if err == nil && n.Kind != Hash {
		return nil, malformed("", "The body must be a JSON object.")
	}
	if err == nil {
		if _, end := d.dec.Token(); !errors.Is(end, io.EOF) {
			return nil, malformed("", "The body has something behind its JSON object.")
		}
	}
	if err != nil {
		var bad *jsonRefusal
		if errors.As(err, &bad) {
			return nil, bad.refusal
		}
		return nil, malformed("", "The body is not well-formed JSON: "+clip(err.Error())+".")
	}
	p.root = *n
	return p, nil
}

// jsonRefusal carries a refusal through the recursion.
type jsonRefusal struct{ refusal *policy.Refusal }

func (e *jsonRefusal) Error() string { return e.refusal.Message }

func refuseJSON(path, format string, args ...any) error {
	return &jsonRefusal{malformed(path, fmt.Sprintf(format, args...))}
}

type bodyReader struct {
	dec   *json.Decoder
	count int
}

func (d *bodyReader) value(path string, depth int, free bool) (*Node, error) {
	tok, err := d.dec.Token()
	if err != nil {
		return nil, err
	}
	if d.count++; d.count > maxParams {
		return nil, refuseJSON("", "The request has more than %d parameters.", maxParams)
	}
	switch t := tok.(type) {
	case nil:
		return &Node{Kind: Null}, nil
	case bool:
		if t {
			return &Node{Kind: Bool, Text: "true"}, nil
		}
		return &Node{Kind: Bool, Text: "false"}, nil
	case json.Number:
		if len(t) > maxNumber || strings.ContainsAny(string(t), "eE") {
			return nil, refuseJSON(path, "The number at %q must be written in at most %d plain digits.", clip(path), maxNumber)
		}
		return &Node{Kind: Number, Text: string(t)}, nil
	case string:
		if r := checkValue(path, t); r != nil {
			return nil, &jsonRefusal{r}
		}
		return &Node{Text: t}, nil
	}
	if depth >= maxDepth {
		return nil, refuseJSON(path, "A parameter is nested deeper than %d levels.", maxDepth)
	}
	if tok == json.Delim('[') {
		return d.array(path, depth, free)
	}
	return d.object(path, depth, free)
}

func (d *bodyReader) array(path string, depth int, free bool) (*Node, error) {
	n := &Node{Kind: Array}
	for d.dec.More() {
		v, err := d.value(path+"[]", depth+1, free)
		if err != nil {
			return nil, err
		}
		n.Members = append(n.Members, Member{Value: v})
	}
	_, err := d.dec.Token()
	return n, err
}

func (d *bodyReader) object(path string, depth int, free bool) (*Node, error) {
	n := &Node{Kind: Hash}
	folded := map[string]bool{}
	for d.dec.More() {
		tok, err := d.dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := tok.(string)
		if !ok || len(key) > maxKey || !plainName(key, free) {
			return nil, refuseJSON(path, "%q is not a parameter name.", clip(fmt.Sprint(tok)))
		}
		at, found := n.find(key)
		fold := key
		if !free {
			fold = strings.ToLower(key)
		}
		if found || folded[fold] {
			return nil, refuseJSON(key, "The parameter %q is there twice (letter case does not tell them apart).", clip(key))
		}
		folded[fold] = true
		below := key
		if path != "" {
			below = path + "[" + key + "]"
		}
		v, err := d.value(below, depth+1, freeKeys(key))
		if err != nil {
			return nil, err
		}
		n.Members = slices.Insert(n.Members, at, Member{Key: key, Value: v})
	}
	_, err := d.dec.Token()
	return n, err
}
