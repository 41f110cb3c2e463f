package sandbox

import "slices"

// head is what every stored object has.
type head struct {
	id      string
	seq     int // order of creation within its collection
	created int64
	md      pairs
	deleted bool
}

func (h *head) base() *head { return h }

// record is a stored object.
type record interface {
	view
	base() *head
	// links are the index entries it is found under, such as "customer=cus_1".
	links() []string
}

// collection keeps one type of object in order of creation, with indexes for
// the list filters that a busy account would otherwise scan for.
type collection[T record] struct {
	what    string // the noun of "No such charge"
	scope   string // the permission that reads it
	byID    map[string]T
	order   []T
	index   map[string][]T
	next    int
	limit   int // 0: no bound
	evicted int
}

func newCollection[T record](what string, limit int) collection[T] {
	return collection[T]{what: what, byID: map[string]T{}, index: map[string][]T{}, limit: limit}
}

func (c *collection[T]) find(id string) (view, bool) {
	r, ok := c.byID[id]
	return r, ok
}

func (c *collection[T]) resource() string           { return c.scope }
func (c *collection[T]) count() (kept, dropped int) { return len(c.byID), c.evicted }

func (c *collection[T]) insert(r T) {
	h := r.base()
	h.seq = c.next
	c.next++
	c.byID[h.id] = r
	c.order = append(c.order, r)
	for _, k := range r.links() {
		c.index[k] = append(c.index[k], r)
	}
	if c.limit > 0 && len(c.order) > c.limit {
		c.drop(c.order[0])
		var none T
		c.order[0] = none // or the backing array would keep it alive
		c.order = c.order[1:]
		c.evicted++
	}
}

func (c *collection[T]) drop(r T) {
	delete(c.byID, r.base().id)
	for _, k := range r.links() {
		c.unlink(k, r)
	}
}

func (c *collection[T]) unlink(k string, r T) {
	list := c.index[k]
	i := slices.IndexFunc(list, func(x T) bool { return x.base() == r.base() })
	if i < 0 {
		return
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(c.index, k)
		return
	}
	c.index[k] = list
}

// relink runs change, which may alter what r is found under.
func (c *collection[T]) relink(r T, change func()) {
	before := r.links()
	change()
	after := r.links()
	for _, k := range before {
		if !slices.Contains(after, k) {
			c.unlink(k, r)
		}
	}
	for _, k := range after {
		if slices.Contains(before, k) {
			continue
		}
		list := c.index[k]
		at, _ := slices.BinarySearchFunc(list, r.base().seq, func(x T, seq int) int { return x.base().seq - seq })
		c.index[k] = slices.Insert(list, at, r)
	}
}

// get finds a live object by id; param names where the id came from ("id" for the path).
func (c *collection[T]) get(id, param string) (T, *stripeError) {
	r, ok := c.byID[id]
	if !ok || r.base().deleted {
		var none T
		return none, errMissing(c.what, id, param)
	}
	return r, nil
}

const (
	defaultLimit = 10
	maxLimit     = 100
)

// page answers a list call: link narrows to one index entry ("" is all), keep
// to what the remaining filters want.
func (c *collection[T]) page(call *call, link string, keep func(T) bool) (view, *stripeError) {
	all := c.order
	if link != "" {
		all = c.index[link]
	}
	limit := int64(defaultLimit)
	if call.has("limit") {
		if limit = call.amount("limit"); limit < 1 || limit > maxLimit {
			return nil, errInvalid("limit", "parameter_invalid_integer", "Invalid limit: must be between 1 and 100")
		}
	}
	after, before := call.str("starting_after"), call.str("ending_before")
	if after != "" && before != "" {
		return nil, errInvalid("", "", "You cannot provide both starting_after and ending_before.")
	}
	within, f := createdFilter(call.p.get("created"))
	if f != nil {
		return nil, f
	}
	out := &listView{url: call.url()}
	if before != "" {
		return out, c.newer(out, all, before, int(limit), func(r T) bool { return within(r.base().created) && (keep == nil || keep(r)) })
	}
	from := len(all)
	if after != "" {
		cursor, ok := c.byID[after]
		if !ok {
			return nil, errMissing(c.what, after, "starting_after")
		}
		from, _ = slices.BinarySearchFunc(all, cursor.base().seq, func(x T, seq int) int { return x.base().seq - seq })
	}
	for i := from - 1; i >= 0; i-- {
		r := all[i]
		if r.base().deleted || !within(r.base().created) || keep != nil && !keep(r) {
			continue
		}
		if len(out.data) == int(limit) {
			out.more = true
			break
		}
		out.data = append(out.data, r)
	}
	return out, nil
}

// newer fills out with the page just before the cursor, newest first.
func (c *collection[T]) newer(out *listView, all []T, before string, limit int, keep func(T) bool) *stripeError {
	cursor, ok := c.byID[before]
	if !ok {
		return errMissing(c.what, before, "ending_before")
	}
	from, _ := slices.BinarySearchFunc(all, cursor.base().seq+1, func(x T, seq int) int { return x.base().seq - seq })
	for _, r := range all[from:] {
		if r.base().deleted || !keep(r) {
			continue
		}
		if len(out.data) == limit {
			out.more = true
			break
		}
		out.data = append(out.data, r)
	}
	slices.Reverse(out.data)
	return nil
}

// createdFilter reads created=N or created[gte]=N and the like.
func createdFilter(n *node) (func(int64) bool, *stripeError) {
	if n.blank() {
		return func(int64) bool { return true }, nil
	}
	if n.kind == nodeString {
		want, err := parseInt(n)
		if err != nil {
			return nil, errInvalid("created", "parameter_invalid_integer", "Invalid integer: "+n.text())
		}
		return func(at int64) bool { return at == want }, nil
	}
	return rangeFilter(n), nil
}

// rangeFilter reads a checked filter such as amount[gte]=N, or a number alone.
func rangeFilter(n *node) func(int64) bool {
	if n.blank() {
		return func(int64) bool { return true }
	}
	if n.kind == nodeString {
		want, _ := parseInt(n)
		return func(v int64) bool { return v == want }
	}
	return func(v int64) bool {
		for i, op := range n.keys {
			bound, _ := parseInt(n.vals[i]) // checked by validate
			if op == "gt" && v <= bound || op == "gte" && v < bound || op == "lt" && v >= bound || op == "lte" && v > bound {
				return false
			}
		}
		return true
	}
}

// listView is a page of objects; search pages have their own object name.
type listView struct {
	url    string
	data   []view
	more   bool
	search bool
	next   string // the page after this one, of a search
}

func (l *listView) render(e *enc, x *expansion) {
	e.open()
	object := "list"
	if l.search {
		object = "search_result"
	}
	e.str("object", object)
	e.str("url", l.url)
	e.bool("has_more", l.more)
	if l.search {
		e.opt("next_page", l.next)
	}
	e.key("data")
	e.b = append(e.b, '[')
	sub := x.child("data")
	for _, v := range l.data {
		v.render(e, sub)
	}
	e.b = append(e.b, ']')
	e.close()
}

// deletedView is what is left of a deleted object.
type deletedView struct{ object, id string }

func (d *deletedView) render(e *enc, _ *expansion) {
	e.open()
	e.str("id", d.id)
	e.str("object", d.object)
	e.bool("deleted", true)
	e.close()
}

// identified is what can be paged through without being a collection.
type identified interface {
	view
	key() string
}

// pageOf pages through a list that is no collection of its own; what is the noun of "No such line_item".
func pageOf(c *call, list *listView, what string) (view, *stripeError) {
	limit := defaultLimit
	if c.has("limit") {
		if limit = int(c.amount("limit")); limit < 1 || limit > maxLimit {
			return nil, errInvalid("limit", "parameter_invalid_integer", "Invalid limit: must be between 1 and 100")
		}
	}
	for _, name := range []string{"starting_after", "ending_before"} {
		cursor := c.str(name)
		if cursor == "" {
			continue
		}
		at := slices.IndexFunc(list.data, func(v view) bool { return v.(identified).key() == cursor })
		if at < 0 {
			return nil, errMissing(what, cursor, name)
		}
		if name == "starting_after" {
			list.data = list.data[at+1:]
		} else {
			list.data = list.data[:at]
			list.more = len(list.data) > limit
			list.data = list.data[max(0, len(list.data)-limit):]
			return list, nil
		}
	}
	list.more = len(list.data) > limit
	list.data = list.data[:min(len(list.data), limit)]
	return list, nil
}
