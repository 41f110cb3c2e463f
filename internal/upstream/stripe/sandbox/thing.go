package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// thing is an object whose fields are kept as they are answered. Most of
// Stripe's objects are things here; those whose state other rooms lean on are
// structs of their own.
type thing struct {
	head
	model  *model
	fields map[string]any // never nil; lists are []any, numbers int64 or json.Number
}

// model is what all things of one kind have in common.
type model struct {
	object   kind   // its "object", and its component for expansions
	v2       bool   // of API v2
	path     string // v2: where they are
	noun     string // of "No such x"; empty is the object
	prefix   string // of its ids
	resource string // the permission that reads it
	links    []string
	secret   []string // fields that are answered only to who expands them
	own      []string // fields that the parameter of the same name does not fill
	defaults string   // JSON: the fields of a new one, all that an answer shows
}

// models are the kinds of things; every account has a shelf for each.
var models = [][]*model{accountModels, externalModels, disputeModels, cashModels,
	storageModels, outboundModels, payoutV2Models, coreV2Models, vaultModels,
	issuingModels, treasuryModels, treasuryFlowModels, climateModels, sourceModels, fileModels, taxingModels}

func (o *thing) links() []string {
	var keys []string
	for _, name := range o.model.links {
		if id := o.str(name); id != "" {
			keys = append(keys, name+"="+id)
		}
	}
	return keys
}

func (o *thing) str(name string) string { s, _ := o.fields[name].(string); return s }

func (o *thing) int(name string) int64 { return asInt(o.fields[name]) }

func asInt(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case json.Number:
		i, _ := n.Int64()
		return i
	}
	return 0
}

// at walks into nested fields; nil where there is nothing.
func (o *thing) at(path ...string) any {
	var v any = o.fields
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// put overwrites fields, given as names and values in turn.
func (o *thing) put(pairs ...any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		o.fields[pairs[i].(string)] = pairs[i+1]
	}
}

// parseJSON reads a JSON object of the program's own.
func parseJSON(text string) map[string]any {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	fields := map[string]any{}
	if err := d.Decode(&fields); err != nil {
		panic(fmt.Sprintf("sandbox: %v in the defaults %.60s", err, text)) // a broken table, caught by any test
	}
	return fields
}

func (o *thing) render(e *enc, x *expansion) {
	e.open()
	e.str("id", o.id)
	if o.deleted {
		e.str("object", string(o.model.object))
		e.bool("deleted", true)
		e.close()
		return
	}
	e.str("object", string(o.model.object))
	was := e.v2
	e.v2 = o.model.v2
	defer func() { e.v2 = was }()
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		if e.v2 && o.fields[name] == nil || slices.Contains(o.model.secret, name) && x.child(name) == nil {
			continue
		}
		switch name {
		case "created":
			if e.v2 {
				e.str(name, stamp(o.created))
			} else {
				e.int(name, o.created)
			}
		case "livemode":
			e.bool(name, e.s.live())
		case "metadata":
			e.metadata(o.md)
		default:
			e.key(name)
			e.value(o.fields[name], x.child(name))
		}
	}
	e.close()
}

// value writes a value of a thing, with ids opened where x asks for it.
func (e *enc) value(v any, x *expansion) {
	switch t := v.(type) {
	case view:
		t.render(e, x)
	case string:
		e.valueText(t, x)
	case map[string]any:
		e.b = append(e.b, '{')
		for _, name := range slices.Sorted(maps.Keys(t)) {
			if e.v2 && t[name] == nil {
				continue
			}
			e.key(name)
			e.value(t[name], x.child(name))
		}
		e.b = append(e.b, '}')
	case []any:
		e.b = append(e.b, '[')
		for _, item := range t {
			e.comma()
			e.value(item, x)
		}
		e.b = append(e.b, ']')
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("sandbox: %v in a thing", err)) // handlers store JSON values only
		}
		e.b = append(e.b, text...)
	}
}

func (e *enc) valueText(id string, x *expansion) {
	if x != nil {
		if target, resource := e.s.find(id); target != nil {
			if e.who != nil && !e.who.may(resource, Read) && e.fail == nil {
				e.fail = errPermission(e.s, e.who, resource, Read)
			}
			target.render(e, x)
			return
		}
	}
	e.b = appendString(e.b, id)
}

// shelf is where an account keeps the things of m.
func (a *account) shelf(m *model) *collection[*thing] { return a.things[m.object] }

// openThings makes the shelves of all models.
func (a *account) openThings(limit int) {
	a.things = map[kind]*collection[*thing]{}
	for _, table := range models {
		for _, m := range table {
			c := &collection[*thing]{}
			open(a, c, m.object, m.resource, limit)
			if m.noun != "" {
				c.what = m.noun
			}
			a.things[m.object] = c
		}
	}
}

// thing is the live one with this id; param names where the id came from.
func (c *call) thing(m *model, id, param string) (*thing, *stripeError) {
	return c.s.shelf(m).get(id, param)
}

// newThing makes one with the defaults of its model and what the call asks for.
// It is not stored yet.
func (c *call) newThing(m *model) (*thing, *stripeError) {
	o := &thing{model: m, fields: parseJSON(m.defaults)}
	if m.prefix != "" {
		o.head = c.s.head(m.prefix, c)
	}
	return o, c.fill(o)
}

// fill writes those parameters into o that are fields of it: nested ones are
// merged, empty ones unset.
func (c *call) fill(o *thing) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	for i, name := range c.p.keys {
		if _, ok := o.fields[name]; ok && name != "metadata" && !slices.Contains(o.model.own, name) {
			o.fields[name] = merged(o.fields[name], c.op.params.members[name].value(c.p.vals[i]))
		}
	}
	return nil
}

// merged is a value with the members of another put over its own.
func merged(old, v any) any {
	into, ok := old.(map[string]any)
	from, ok2 := v.(map[string]any)
	if !ok || !ok2 || len(into) == 0 {
		return v
	}
	out := maps.Clone(into)
	for k, sub := range from {
		out[k] = merged(into[k], sub)
	}
	return out
}

// value is a checked parameter as the value that answers show.
func (t *typ) value(v *node) any {
	if v.blank() {
		return nil
	}
	var out any
	d := json.NewDecoder(bytes.NewReader(t.json(nil, v)))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		panic(fmt.Sprintf("sandbox: read back a parameter: %v", err)) // json writes JSON
	}
	return out
}

// retrieve answers with the thing in the last placeholder of the path.
func retrieve(m *model) handler {
	return func(c *call) (view, *stripeError) {
		return asView(c.thing(m, c.args[len(c.args)-1], "id"))
	}
}

// create stores a thing out of the parameters; fill, which may be nil, checks and
// completes it first.
func create(m *model, event string, fill func(*call, *thing) *stripeError) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.newThing(m)
		if f == nil && fill != nil {
			f = fill(c, o)
		}
		if f != nil {
			return nil, f
		}
		c.s.shelf(m).insert(o)
		if event != "" {
			c.emit(event, o)
		}
		return o, nil
	}
}

// update writes the parameters into a stored thing; fill, which may be nil, checks
// what comes out before it is kept.
func update(m *model, event string, fill func(*call, *thing) *stripeError) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[len(c.args)-1], "id")
		if f != nil {
			return nil, f
		}
		next := &thing{head: o.head, model: m, fields: maps.Clone(o.fields)}
		f = c.fill(next)
		if f == nil && fill != nil {
			f = fill(c, next)
		}
		if f != nil {
			return nil, f
		}
		c.s.shelf(m).relink(o, func() { o.md, o.fields = next.md, next.fields })
		if event != "" {
			c.emit(event, o)
		}
		return o, nil
	}
}

// discard deletes the thing in the last placeholder of the path.
func discard(m *model, event string) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[len(c.args)-1], "id")
		if f != nil {
			return nil, f
		}
		if event != "" {
			c.emit(event, o)
		}
		o.deleted = true
		return &deletedView{string(m.object), o.id}, nil
	}
}

// paging are the parameters of a list that do not filter by a field.
var paging = []string{"created", "ending_before", "expand", "limit", "starting_after"}

// list answers with the things whose fields equal the filters that were given.
func list(m *model) handler {
	return func(c *call) (view, *stripeError) {
		return c.s.shelf(m).page(c, "", func(o *thing) bool {
			for i, name := range c.p.keys {
				if slices.Contains(paging, name) || c.p.vals[i].blank() {
					continue
				}
				if fmt.Sprint(o.fields[name]) != c.p.vals[i].text() {
					return false
				}
			}
			return true
		})
	}
}

// move ends or advances a thing: from one of some statuses to another.
func move(m *model, field, to, event string, from ...string) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		if at := fmt.Sprint(o.fields[field]); !slices.Contains(from, at) {
			return nil, errInvalid("", "", fmt.Sprintf("This %s cannot become %s: its %s is %s.", c.s.shelf(m).what, to, field, at))
		}
		o.put(field, to)
		if event != "" {
			c.emit(event, o)
		}
		return o, nil
	}
}
