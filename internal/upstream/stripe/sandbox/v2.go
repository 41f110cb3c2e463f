package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// isV2 reports a path of Stripe's second API: JSON in, times as text, errors and
// lists in another shape, and idempotency keys that run again after a failure.
func isV2(path string) bool { return strings.HasPrefix(path, "/v2/") }

// idempotencyLifeV2 is how long Stripe promises to remember a key of v2.
const idempotencyLifeV2 = 30 * 24 * time.Hour

var errNotJSON = errors.New("the body is not one JSON object")

// parseJSONBody reads a body of v2. As in Ruby, a later duplicate replaces an
// earlier one.
func parseJSONBody(body []byte) (*node, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	n, err := parseJSONValue(d, maxDepth)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || n.kind != nodeMap {
		return nil, errNotJSON
	}
	return n, nil
}

func parseJSONValue(d *json.Decoder, depth int) (*node, error) {
	if depth <= 0 {
		return nil, errTooDeep
	}
	token, err := d.Token()
	if err != nil {
		return nil, errNotJSON
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return parseJSONObject(d, depth)
		}
		out := &node{kind: nodeList}
		for d.More() {
			v, err := parseJSONValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			out.list = append(out.list, v)
		}
		_, err := d.Token()
		return out, err
	case string:
		return &node{kind: nodeString, str: t, written: inJSON}, nil
	case json.Number:
		return &node{kind: nodeString, str: t.String(), written: bareInJSON}, nil
	case bool:
		return &node{kind: nodeString, str: fmt.Sprint(t), written: bareInJSON}, nil
	}
	return &node{}, nil // null
}

func parseJSONObject(d *json.Decoder, depth int) (*node, error) {
	out := &node{kind: nodeMap}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, errNotJSON
		}
		name, ok := key.(string)
		if !ok {
			return nil, errNotJSON
		}
		v, err := parseJSONValue(d, depth-1)
		if err != nil {
			return nil, err
		}
		out.set(name, v)
	}
	_, err := d.Token()
	return out, err
}

// renderV2 writes an error as v2 does: a code always, a type for those that SDKs
// have a class for.
func (f *stripeError) renderV2(e *enc) {
	e.open()
	e.key("error")
	e.open()
	code := f.code
	switch {
	case code == "" || strings.HasPrefix(code, "parameter_"):
		code = "invalid_fields"
	case code == "resource_missing":
		code = "not_found"
	}
	e.str("code", code)
	e.str("message", f.message)
	e.str("type", f.typ)
	if f.code != "" {
		e.str("user_message", "This request could not be completed.")
	}
	e.close()
	e.close()
}

// errV2 is a refusal of v2 that SDKs have a class for.
func errV2(typ, code, message string) *stripeError {
	f := errInvalid("", code, message)
	f.typ = typ
	return f
}

// stamp is a time as v2 writes it.
func stamp(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02T15:04:05.000Z") }

// listV2 answers a list call of v2: keep may be nil.
func listV2(m *model, keep func(*call, *thing) bool) handler {
	return func(c *call) (view, *stripeError) {
		return c.pageV2(c.s.shelf(m), func(o *thing) bool { return keep == nil || keep(c, o) })
	}
}

// pageV2 is one page, newest first; its page parameter names the last object of
// the page before.
func (c *call) pageV2(shelf *collection[*thing], keep func(*thing) bool) (view, *stripeError) {
	limit := int64(20)
	if c.has("limit") {
		if limit = c.amount("limit"); limit < 1 || limit > maxLimit {
			return nil, errInvalid("limit", "parameter_invalid_integer", "limit must be between 1 and 100.")
		}
	}
	all := shelf.order
	from := len(all)
	if after := strings.TrimPrefix(c.str("page"), "page_"); after != "" {
		cursor, ok := shelf.byID[after]
		if !ok {
			return nil, errInvalid("page", "", "page is not one that a list has answered.")
		}
		from, _ = slices.BinarySearchFunc(all, cursor.seq, func(x *thing, seq int) int { return x.seq - seq })
	}
	within := createdV2(c.p.get("created"))
	out := &listViewV2{}
	for i := from - 1; i >= 0; i-- {
		o := all[i]
		if o.deleted || !within(stamp(o.created)) || !keep(o) {
			continue
		}
		if len(out.data) == int(limit) {
			q := url.Values{"limit": {fmt.Sprint(limit)}, "page": {"page_" + out.data[limit-1].(*thing).id}}
			out.next = c.url() + "?" + q.Encode()
			break
		}
		out.data = append(out.data, o)
	}
	return out, nil
}

// createdV2 reads created[gte] and the like; times of one form compare as text.
func createdV2(n *node) func(string) bool {
	return func(at string) bool {
		for i, op := range mapKeys(n) {
			bound := n.vals[i].text()
			if op == "gt" && at <= bound || op == "gte" && at < bound || op == "lt" && at >= bound || op == "lte" && at > bound {
				return false
			}
		}
		return true
	}
}

// listViewV2 is a page of objects.
type listViewV2 struct {
	data []view
	next string
}

func (l *listViewV2) render(e *enc, _ *expansion) {
	e.open()
	e.key("data")
	e.b = append(e.b, '[')
	for _, v := range l.data {
		v.render(e, nil)
	}
	e.b = append(e.b, ']')
	e.opt("next_page_url", l.next)
	e.null("previous_page_url")
	e.close()
}

// isOneOf reports whether a list parameter is absent or names the value.
func (c *call) isOneOf(name, value string) bool {
	items, ok := c.p.get(name).items()
	if !ok {
		return true
	}
	return slices.ContainsFunc(items, func(n *node) bool { return n.text() == value })
}

// eventV2Model is a thin notification: what happened to which object.
var eventV2Model = &model{object: "v2.core.event", prefix: "evt", resource: "v2.core.events", v2: true,
	defaults: `{"context":null,"created":0,"livemode":false,"reason":null,"related_object":null,"type":""}`}

// emitV2 stores a notification about o.
func (c *call) emitV2(typ string, o *thing) {
	ev := c.bare(eventV2Model)
	ev.put("type", typ, "related_object", map[string]any{"id": o.id, "type": string(o.model.object), "url": o.model.path + "/" + o.id})
	if c.reqID != "" && !c.quiet {
		ev.put("reason", map[string]any{"type": "request", "request": map[string]any{"id": c.reqID, "idempotency_key": c.idemKey}})
	}
	if c.s != c.s.platform {
		ev.put("context", c.s.accountID)
	}
	c.s.shelf(eventV2Model).insert(ev)
}

var eventV2Routes = []*operation{
	get("/v2/core/events", "v2.core.events", kindNone, listV2(eventV2Model, func(c *call, o *thing) bool {
		id := c.str("object_id")
		return (id == "" || o.at("related_object", "id") == id) && c.isOneOf("types", o.str("type"))
	})),
	get("/v2/core/events/{id}", "v2.core.events", kindNone, retrieve(eventV2Model)),
}
