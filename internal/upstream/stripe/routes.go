package stripe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// route is one node of the tree of templates, a path segment deep. Literals beat the placeholder and there
// is no way back from one: a request is routed as Stripe routes it or not at all.
type route struct {
	literals map[string]*route
	param    *route
	rows     [3]*Row // by methodIndex
}

func methodIndex(method string) int {
	switch method {
	case "GET":
		return 0
	case "POST":
		return 1
	case "DELETE":
		return 2
	}
	return -1
}

// goneRoutes are reads that newer versions of Stripe no longer have, but older ones, which an operator may
// pin, still serve. Without a place of their own they would be taken for an invoice called "upcoming".
var goneRoutes = []string{"/v1/invoices/upcoming", "/v1/invoices/upcoming/lines"}

func buildRoutes(rows []*Row) (*route, error) {
	root := &route{}
	for _, row := range rows {
		n := root.add(row.Template)
		i := methodIndex(row.Method)
		if n.rows[i] != nil {
			return nil, fmt.Errorf("%s %s and %s are one route", row.Method, row.Template, n.rows[i].Template)
		}
		n.rows[i] = row
	}
	for _, template := range goneRoutes {
		root.add(template)
	}
	return root, nil
}

// add makes the nodes of a template and returns the last.
func (root *route) add(template string) *route {
	n := root
	for seg := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		if seg[0] == '{' {
			if n.param == nil {
				n.param = &route{}
			}
			n = n.param
			continue
		}
		if n.literals == nil {
			n.literals = map[string]*route{}
		}
		if n.literals[seg] == nil {
			n.literals[seg] = &route{}
		}
		n = n.literals[seg]
	}
	return n
}

// maxPlaceholders is how many ids a template can have.
const maxPlaceholders = 4

// trimMount takes off the folder under which the API may be reached too.
func trimMount(path string) string {
	if rest, ok := strings.CutPrefix(path, "/stripe"); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return path
}

// match finds the row of a path as it is on the wire and appends its decoded ids to ids.
func (root *route) match(method, path string, ids []string) (*Row, []string, *policy.Refusal) {
	m := methodIndex(method)
	if m < 0 {
		return nil, nil, &policy.Refusal{Code: policy.CodeUnknownRoute,
			Message: fmt.Sprintf("The method %s is not used by Stripe's API; use GET, POST or DELETE.", clip(method))}
	}
	if r := checkPath(path); r != nil {
		return nil, nil, r
	}
	n, rest := root, trimMount(path)[1:]
	for rest != "" {
		seg := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			seg, rest = rest[:i], rest[i+1:]
		} else {
			rest = ""
		}
		if next := n.literals[seg]; next != nil {
			n = next
			continue
		}
		if n.param == nil || len(ids) == maxPlaceholders {
			return nil, nil, root.unknown(method, path)
		}
		id, r := decodeSegment(seg)
		if r == nil && id != seg && n.literals[id] != nil {
			// Written with percent codes it is not the literal here, but it would be at Stripe.
			r = malformed("", fmt.Sprintf("The path segment %q spells a route's name in percent codes; write it plainly.", clip(seg)))
		}
		if r != nil {
			return nil, nil, r
		}
		ids = append(ids, id)
		n = n.param
	}
	row := n.rows[m]
	if row == nil {
		return nil, nil, root.unknown(method, path)
	}
	if r := root.checkSlashes(row, ids); r != nil {
		return nil, nil, r
	}
	return row, ids, nil
}

// freeTextIDs are the resources whose ids are the merchant's own text and may have a slash in them.
var freeTextIDs = []policy.Resource{"coupons", "plans", "products"}

// checkSlashes refuses ids with a slash in them that whoever decodes a path before routing would take for
// another route: a charge called "ch_1/refund".
func (root *route) checkSlashes(row *Row, ids []string) *policy.Refusal {
	if !slices.ContainsFunc(ids, func(id string) bool { return strings.ContainsAny(id, `/\`) }) {
		return nil
	}
	decoded := row.Template
	for i, name := range row.Placeholders {
		decoded = strings.Replace(decoded, "{"+name+"}", strings.ReplaceAll(ids[i], `\`, "/"), 1)
	}
	if slices.Contains(freeTextIDs, row.Resource) && !root.leads(strings.Split(decoded[1:], "/")) {
		return nil
	}
	return malformed("", fmt.Sprintf("An id in the path has a slash in it, so that %q could be taken for another route.", clip(decoded)))
}

// leads reports whether the segments are a route of any method.
func (n *route) leads(segs []string) bool {
	for _, seg := range segs {
		next := n.literals[seg]
		if next == nil {
			next = n.param
		}
		if next == nil {
			return false
		}
		n = next
	}
	return true
}

// checkPath refuses paths that servers on the way could read in two ways.
func checkPath(path string) *policy.Refusal {
	var what string
	switch {
	case len(path) > maxPath:
		what = fmt.Sprintf("is longer than %d bytes", maxPath)
	case !strings.HasPrefix(path, "/"):
		what = "does not start with a slash; send the path only, not a whole address"
	case path == "/" || path == "/stripe":
		what = "names nothing; Stripe's operations are below /v1 and /v2"
	case strings.HasSuffix(path, "/"):
		what = "ends in a slash; leave it out"
	case strings.Contains(path, "//"):
		what = "has an empty segment (two slashes)"
	}
	for i := 0; i < len(path) && what == ""; i++ {
		switch c := path[i]; {
		case c <= 0x20 || c == 0x7f:
			what = "has a space or a control character"
		case c > 0x7f:
			what = "has a character outside ASCII; write it in percent codes"
		case c == ';' || c == '\\' || c == '?' || c == '#':
			what = fmt.Sprintf("has a bare %q; write it in percent codes if it belongs to an id", c)
		}
	}
	if what == "" {
		return nil
	}
	return malformed("", fmt.Sprintf("The path %s.", what))
}

// decodeSegment decodes an id once. What is left must be harmless however often somebody else decodes it.
func decodeSegment(seg string) (string, *policy.Refusal) {
	id := seg
	if strings.IndexByte(seg, '%') >= 0 {
		var ok bool
		if id, ok = percentDecode(seg, false); !ok {
			return "", malformed("", fmt.Sprintf("The path segment %q has a broken percent code.", clip(seg)))
		}
	}
	if len(id) > maxID {
		return "", malformed("", fmt.Sprintf("A path segment is longer than %d bytes.", maxID))
	}
	for i := 0; i < len(id); i++ {
		switch c := id[i]; {
		case c < 0x20 || c >= 0x7f:
			return "", malformed("", fmt.Sprintf("The path segment %q has a control character or one outside ASCII.", clip(seg)))
		case c == ';':
			return "", malformed("", fmt.Sprintf("The path segment %q has a semicolon, which some servers take for the end of the path.", clip(seg)))
		case c == '%' && i+2 < len(id) && isHex(id[i+1]) && isHex(id[i+2]):
			return "", malformed("", fmt.Sprintf("The path segment %q is percent-encoded twice.", clip(seg)))
		}
	}
	if id == "." || id == ".." || strings.ContainsAny(id, `/\`) {
		for part := range strings.SplitSeq(strings.ReplaceAll(id, `\`, "/"), "/") {
			if part == "" || part == "." || part == ".." {
				return "", malformed("", fmt.Sprintf("The path segment %q would lead to another path.", clip(seg)))
			}
		}
	}
	return id, nil
}

// unknown is the refusal of a path that no row has; it names what comes nearest.
func (root *route) unknown(method, path string) *policy.Refusal {
	message := fmt.Sprintf("%s %s is not an operation that Keybrake knows, so it is denied. Use a route of Stripe's documented API; a newer one needs a newer Keybrake.", clip(method), clip(path))
	if near := root.nearest(methodIndex(method), strings.Split(trimMount(path)[1:], "/")); near != "" {
		message += " The nearest known operation is " + near + "."
	}
	return &policy.Refusal{Code: policy.CodeUnknownRoute, Message: message}
}

// nearest walks as far as the path fits, choosing at each step the literal that is most alike, and names the
// row that it ends at. It looks at one node's children per segment, so a scan costs little.
func (root *route) nearest(m int, segs []string) string {
	n := root
	for _, seg := range segs {
		if next := n.literals[seg]; next != nil {
			n = next
			continue
		}
		best, distance := "", 4 // more than three edits apart is not a slip of the pen
		for name := range n.literals {
			if d := edits(clip(seg), name); d < distance || d == distance && best > name && best != "" {
				best, distance = name, d
			}
		}
		switch {
		case best != "":
			n = n.literals[best]
		case n.param != nil:
			n = n.param
		default:
			return n.anyRow(m)
		}
	}
	return n.anyRow(m)
}

// anyRow names the row of the wished method at a node, or another of its rows.
func (n *route) anyRow(m int) string {
	for _, i := range []int{m, 0, 1, 2} {
		if i >= 0 && n.rows[i] != nil {
			return n.rows[i].Method + " " + n.rows[i].Template
		}
	}
	return ""
}

// edits is the Levenshtein distance of two short strings.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// buildPath writes the path that is sent: the template with the ids escaped anew. raw is used as it is where
// it is canonical already.
func buildPath(row *Row, ids []string, raw string) string {
	raw = trimMount(raw)
	if len(ids) == 0 {
		return row.Template
	}
	if !slices.ContainsFunc(ids, func(id string) bool { return !canonicalID(id) }) && strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	out := make([]byte, 0, len(raw)+8)
	i := 0
	for seg := range strings.SplitSeq(row.Template[1:], "/") {
		out = append(out, '/')
		if seg[0] == '{' {
			out = appendEscaped(out, ids[i])
			i++
			continue
		}
		out = append(out, seg...)
	}
	return string(out)
}

// canonicalID reports whether escaping leaves an id as it is.
func canonicalID(s string) bool {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return true
}
