package sandbox

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxDepth is how deep parameters may nest before Rack gives up.
	maxDepth = 32
	// maxBody bounds a request body in bytes, and maxFile that of an upload.
	maxBody = 1 << 20
	maxFile = 16 << 20
)

var (
	errBadEncoding = errors.New("invalid %-encoding")
	errTypeClash   = errors.New("expected another parameter type")
	errTooDeep     = errors.New("parameters nest too deeply")
)

// nodeKind says what a parsed parameter is.
type nodeKind uint8

const (
	nodeNil nodeKind = iota // a key without "="
	nodeString
	nodeList
	nodeMap
)

// node is one parsed parameter value: nothing, a string, a list, or an ordered map.
type node struct {
	kind nodeKind
	str  string
	list []*node
	keys []string
	vals []*node
	// written is how a string was written in JSON; zero is in a form.
	written written
	// filename is that of a file in a multipart form.
	filename string
}

// written says whether a JSON value had quotes: v2 tells 1 from "1".
type written uint8

const (
	inForm written = iota
	inJSON
	bareInJSON
)

func (n *node) get(key string) *node {
	if n == nil || n.kind != nodeMap {
		return nil
	}
	if i := slices.Index(n.keys, key); i >= 0 {
		return n.vals[i]
	}
	return nil
}

func (n *node) set(key string, v *node) {
	if i := slices.Index(n.keys, key); i >= 0 {
		n.vals[i] = v
		return
	}
	n.keys = append(n.keys, key)
	n.vals = append(n.vals, v)
}

func (n *node) remove(key string) *node {
	i := slices.Index(n.keys, key)
	if i < 0 {
		return nil
	}
	v := n.vals[i]
	n.keys = slices.Delete(n.keys, i, i+1)
	n.vals = slices.Delete(n.vals, i, i+1)
	return v
}

// text is the value as a string; lists and maps have none.
func (n *node) text() string {
	if n == nil || n.kind != nodeString {
		return ""
	}
	return n.str
}

// blank reports a value that Stripe reads as "unset".
func (n *node) blank() bool {
	return n == nil || n.kind == nodeNil || n.kind == nodeString && n.str == ""
}

// items is the value as a list: a list itself, or a map whose keys are all
// numbers (a[0], a[7]), in the order of those numbers.
func (n *node) items() ([]*node, bool) {
	if n == nil {
		return nil, false
	}
	if n.kind == nodeList {
		return n.list, true
	}
	if n.kind != nodeMap {
		return nil, false
	}
	type indexed struct {
		at int
		v  *node
	}
	all := make([]indexed, 0, len(n.keys))
	for i, k := range n.keys {
		at, err := strconv.Atoi(k)
		if err != nil || at < 0 {
			return nil, false
		}
		all = append(all, indexed{at, n.vals[i]})
	}
	slices.SortStableFunc(all, func(a, b indexed) int { return a.at - b.at })
	out := make([]*node, len(all))
	for i := range all {
		out[i] = all[i].v
	}
	return out, true
}

// parseForm reads a query string or a form body as Rack 2 does: "&" and ";"
// separate (with blanks after them), a later duplicate replaces an earlier one,
// and a key without "=" has no value.
func parseForm(s string, into *node) error {
	for s != "" {
		var pair string
		if i := strings.IndexAny(s, "&;"); i >= 0 {
			pair, s = s[:i], strings.TrimLeft(s[i+1:], " ")
		} else {
			pair, s = s, ""
		}
		if pair == "" {
			continue
		}
		rawKey, rawVal, has := strings.Cut(pair, "=")
		key, err := unescape(rawKey)
		if err != nil {
			return err
		}
		v := &node{}
		if has {
			text, err := unescape(rawVal)
			if err != nil {
				return err
			}
			v = &node{kind: nodeString, str: text}
		}
		if err := normalize(into, key, v, maxDepth); err != nil {
			return err
		}
	}
	return nil
}

func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	out, err := url.QueryUnescape(s)
	if err != nil {
		return "", fmt.Errorf("unescape %q: %w", s, errBadEncoding)
	}
	return out, nil
}

// splitName takes the first segment off a bracketed name. Leading and closing
// brackets around it vanish, which is how "[amount]" becomes "amount".
func splitName(name string) (key, after string) {
	start := 0
	for start < len(name) && (name[start] == '[' || name[start] == ']') {
		start++
	}
	end := start
	for end < len(name) && name[end] != '[' && name[end] != ']' {
		end++
	}
	if end == start {
		return "", ""
	}
	rest := end
	for rest < len(name) && name[rest] == ']' {
		rest++
	}
	return name[start:end], name[rest:]
}

// normalize puts v under the bracketed name, as Rack::QueryParser does.
func normalize(into *node, name string, v *node, depth int) error {
	if depth <= 0 {
		return errTooDeep
	}
	key, after := splitName(name)
	switch {
	case key == "":
		return nil
	case after == "":
		into.set(key, v)
		return nil
	case after == "[":
		into.set(name, v)
		return nil
	case strings.HasPrefix(after, "[]"):
		return normalizeList(into, key, after[2:], v, depth)
	}
	child := into.get(key)
	if child == nil {
		child = &node{kind: nodeMap}
		into.set(key, child)
	}
	if child.kind != nodeMap {
		return fmt.Errorf("parameter %q: %w", key, errTypeClash)
	}
	return normalize(child, after, v, depth-1)
}

// normalizeList handles a[]=v and a[][x]=v; a repeated x opens a new element.
func normalizeList(into *node, key, rest string, v *node, depth int) error {
	child := into.get(key)
	if child == nil {
		child = &node{kind: nodeList}
		into.set(key, child)
	}
	if child.kind != nodeList {
		return fmt.Errorf("parameter %q: %w", key, errTypeClash)
	}
	if rest == "" {
		child.list = append(child.list, v)
		return nil
	}
	first, _ := splitName(rest)
	var last *node
	if n := len(child.list); n > 0 {
		last = child.list[n-1]
	}
	if last == nil || last.kind != nodeMap || last.get(first) != nil {
		last = &node{kind: nodeMap}
		child.list = append(child.list, last)
	}
	return normalize(last, rest, v, depth-1)
}

// errMedia is a body whose content type Stripe does not read.
type errMedia string

func (e errMedia) Error() string { return "unsupported content type " + string(e) }

// parseRequest makes the one bucket of parameters out of query and body.
// Top-level keys of the body replace those of the query.
func parseRequest(rawQuery, contentType string, body []byte, v2 bool) (*node, error) {
	query := &node{kind: nodeMap}
	if err := parseForm(rawQuery, query); err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return query, nil
	}
	form, err := parseBody(contentType, body, v2)
	if err != nil {
		return nil, err
	}
	if len(query.keys) == 0 {
		return form, nil
	}
	for i, k := range form.keys {
		query.set(k, form.vals[i])
	}
	return query, nil
}

func parseBody(contentType string, body []byte, v2 bool) (*node, error) {
	form := &node{kind: nodeMap}
	if media, _, err := mime.ParseMediaType(contentType); v2 {
		if err != nil || media != "application/json" {
			return nil, errMedia(contentType)
		}
		return parseJSONBody(body)
	}
	if contentType == "application/x-www-form-urlencoded" || contentType == "" {
		return form, parseForm(string(body), form)
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, errMedia(contentType)
	}
	switch media {
	case "application/x-www-form-urlencoded":
		return form, parseForm(string(body), form)
	case "multipart/form-data":
		r := multipart.NewReader(strings.NewReader(string(body)), params["boundary"])
		for {
			part, err := r.NextPart()
			if errors.Is(err, io.EOF) {
				return form, nil
			}
			if err != nil {
				return nil, fmt.Errorf("read form part: %w", err)
			}
			text, err := io.ReadAll(part)
			if err != nil {
				return nil, fmt.Errorf("read form part: %w", err)
			}
			if err := normalize(form, part.FormName(), &node{kind: nodeString, str: string(text), filename: part.FileName()}, maxDepth); err != nil {
				return nil, err
			}
		}
	}
	return nil, errMedia(media)
}

// canonical appends n in one form for equal parameters, whatever their order or
// spelling was: idempotency compares parameters, not bytes.
func (n *node) canonical(b []byte) []byte {
	if items, ok := n.items(); ok && len(items) > 0 {
		b = append(b, '[')
		for _, v := range items {
			b = append(v.canonical(b), ',')
		}
		return append(b, ']')
	}
	switch n.kind {
	case nodeString:
		return strconv.AppendQuote(b, n.str)
	case nodeMap:
		order := make([]int, len(n.keys))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(x, y int) int { return strings.Compare(n.keys[x], n.keys[y]) })
		b = append(b, '{')
		for _, i := range order {
			b = append(strconv.AppendQuote(b, n.keys[i]), ':')
			b = append(n.vals[i].canonical(b), ',')
		}
		return append(b, '}')
	}
	return append(b, '~')
}
