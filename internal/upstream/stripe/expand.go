package stripe

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// expansions is what `expand` can reach, from the OpenAPI document: a graph of objects.
type expansions struct {
	nodes map[string]expandNode
	roots map[*Row][]string
	// scopes says which scope an opened object belongs to; "" for objects that have none of their own.
	scopes map[string]policy.Resource
}

// expandNode is the expandable fields of one object.
type expandNode map[string]expandEdge

// expandEdge is what one field leads to.
type expandEdge struct {
	opens []string // objects that are shown only because they were asked for
	next  []string // nodes behind the field
}

func (c *Catalog) loadExpansions(files fs.FS) (*expansions, error) {
	x := &expansions{nodes: map[string]expandNode{}, roots: map[*Row][]string{}, scopes: map[string]policy.Resource{}}
	known := map[policy.Resource]bool{"": true}
	for _, row := range c.rows {
		known[row.Resource] = true
	}
	err := readTable(files, "tables/objects.csv", "object resource", func(r record) error {
		scope := policy.Resource(r.get("resource"))
		if !known[scope] {
			return fmt.Errorf("no operation belongs to the resource %q", scope)
		}
		x.scopes[r.get("object")] = scope
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := readLines(files, "tables/expand.txt", func(line string) error { return x.add(c, line) }); err != nil {
		return nil, err
	}
	for name, node := range x.nodes {
		for field, edge := range node {
			for _, object := range edge.opens {
				if _, ok := x.scopes[object]; !ok {
					return nil, fmt.Errorf("tables/objects.csv does not say to which scope %s belongs (%s.%s opens it)", object, name, field)
				}
			}
		}
	}
	return x, nil
}

func (x *expansions) add(c *Catalog, line string) error {
	if name, fields, ok := strings.Cut(line, " = "); ok {
		node := expandNode{}
		for field := range strings.FieldsSeq(fields) {
			field, targets, _ := strings.Cut(field, ">")
			var edge expandEdge
			for t := range strings.SplitSeq(targets, "|") {
				switch {
				case t == "":
				case t[0] == '+':
					edge.opens = append(edge.opens, t[1:])
					edge.next = append(edge.next, t[1:])
				case t[0] == '!':
					edge.opens = append(edge.opens, t[1:])
				default:
					edge.next = append(edge.next, t)
				}
			}
			node[field] = edge
		}
		x.nodes[name] = node
		return nil
	}
	parts := strings.Fields(line)
	if len(parts) != 3 {
		return fmt.Errorf("%q is neither a node nor an operation", line)
	}
	row := c.byCall[parts[0]+" "+parts[1]]
	if row == nil {
		return fmt.Errorf("%s %s is not in operations.csv", parts[0], parts[1])
	}
	x.roots[row] = strings.Split(parts[2], "|")
	return nil
}

// needs follows the paths of a call's `expand` parameter and appends the scopes that they open. A path that
// leads nowhere is refused: what we cannot follow we cannot judge.
func (x *expansions) needs(row *Row, p *Params, out []policy.Need) ([]policy.Need, *policy.Refusal) {
	n := p.Get(Field{"expand"})
	if n == nil || n.Plain() && n.Text == "" {
		return out, nil
	}
	if n.Kind != Array {
		return out, malformed("expand", "expand must be a list: send expand[]=... for each path.")
	}
	for _, m := range n.Members {
		if !m.Value.Plain() {
			return out, malformed("expand", "expand must be a list of plain paths, like expand[]=customer.")
		}
		var refusal *policy.Refusal
		if out, refusal = x.follow(row, m.Value.Text, out); refusal != nil {
			return out, refusal
		}
	}
	return out, nil
}

func (x *expansions) follow(row *Row, path string, out []policy.Need) ([]policy.Need, *policy.Refusal) {
	last := path[strings.LastIndexByte(path, '.')+1:]
	if last == "number" || last == "cvc" || last == "pin" {
		return out, &policy.Refusal{Code: policy.CodeParamDenied, Param: "expand",
			Message: fmt.Sprintf("expand %q would show card data, which never passes through Keybrake; leave it out.", path)}
	}
	if strings.Count(path, ".") >= maxExpandDepth {
		return out, malformed("expand", fmt.Sprintf("expand %q is deeper than %d levels.", clip(path), maxExpandDepth))
	}
	at := x.roots[row]
	for field := range strings.SplitSeq(path, ".") {
		next, opens, found := x.step(at, field)
		for _, object := range opens {
			out = addNeed(out, row.Resource, x.scopes[object], "expand[]="+path)
		}
		if !found {
			return out, malformed("expand", fmt.Sprintf("expand %q cannot be followed: %s has no expandable field %q there. Check the path or leave it out.",
				clip(path), row.Name, clip(field)))
		}
		at = next
	}
	return out, nil
}

// step goes from some objects through one field: to the objects behind it, each once (they open each other,
// and would multiply otherwise), and those that it opens.
func (x *expansions) step(at []string, field string) (next, opens []string, found bool) {
	for _, name := range at {
		edge, ok := x.nodes[name][field]
		if !ok {
			continue
		}
		found = true
		for _, n := range edge.next {
			if !slices.Contains(next, n) {
				next = append(next, n)
			}
		}
		for _, object := range edge.opens {
			if !slices.Contains(opens, object) {
				opens = append(opens, object)
			}
		}
	}
	return next, opens, found
}

// addNeed appends a read scope once, unless the operation's own scope covers it already.
func addNeed(needs []policy.Need, own, scope policy.Resource, because string) []policy.Need {
	if scope == "" || scope == own {
		return needs
	}
	for _, n := range needs {
		if n.Resource == scope {
			return needs
		}
	}
	return append(needs, policy.Need{Resource: scope, Access: policy.Read, Because: because})
}
