package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxClauses is Stripe's limit on the terms of a search.
const maxClauses = 10

// The kinds of a field that can be searched: a token is compared whole, a text
// also by a part of it, a number also by its size.
const (
	tokenField  = 't'
	textField   = 's'
	numberField = 'n'
)

// searchable are the fields of each resource that Stripe's search knows, and
// their kinds; every resource also has metadata. Those of invoices and
// subscriptions are from memory of the documentation.
var searchable = map[string]map[string]byte{
	"charges": {"amount": numberField, "billing_details.address.postal_code": tokenField, "created": numberField, "currency": tokenField,
		"customer": tokenField, "disputed": tokenField, "payment_method_details.card.brand": tokenField,
		"payment_method_details.card.exp_month": tokenField, "payment_method_details.card.exp_year": tokenField,
		"payment_method_details.card.fingerprint": tokenField, "payment_method_details.card.last4": tokenField, "refunded": tokenField, "status": tokenField},
	"customers": {"created": numberField, "email": textField, "name": textField, "phone": textField},
	"invoices": {"created": numberField, "currency": tokenField, "customer": tokenField, "last_finalization_error_code": tokenField,
		"last_finalization_error_type": tokenField, "number": textField, "receipt_number": textField, "status": textField, "subscription": textField,
		"total": numberField},
	"payment_intents": {"amount": numberField, "created": numberField, "currency": tokenField, "customer": tokenField, "status": tokenField},
	"prices":          {"active": tokenField, "currency": tokenField, "lookup_key": textField, "product": textField, "type": tokenField},
	"products":        {"active": tokenField, "description": textField, "name": textField, "shippable": tokenField, "url": textField},
	"subscriptions":   {"created": numberField, "canceled_at": numberField, "status": tokenField},
}

var searchRoutes = []*operation{
	get("/v1/charges/search", "charges", "list:charge", search(func(a *account) *collection[*charge] { return &a.charges })),
	get("/v1/customers/search", "customers", "list:customer", search(func(a *account) *collection[*customer] { return &a.customers })),
	get("/v1/invoices/search", "invoices", "list:invoice", search(func(a *account) *collection[*invoice] { return &a.invoices })),
	get("/v1/payment_intents/search", "payment_intents", "list:payment_intent",
		search(func(a *account) *collection[*paymentIntent] { return &a.intents })),
	get("/v1/prices/search", "prices", "list:price", search(func(a *account) *collection[*price] { return &a.prices })),
	get("/v1/products/search", "products", "list:product", search(func(a *account) *collection[*product] { return &a.products })),
	get("/v1/subscriptions/search", "subscriptions", "list:subscription",
		search(func(a *account) *collection[*subscription] { return &a.subscriptions })),
}

// search answers with the objects that a query describes, newest first.
func search[T record](shelf func(*account) *collection[T]) handler {
	return func(c *call) (view, *stripeError) {
		resource := strings.Split(c.op.pattern, "/")[2]
		q, f := parseQuery(resource, c.str("query"))
		if f != nil {
			return nil, f
		}
		limit := int64(defaultLimit)
		if c.has("limit") {
			if limit = c.amount("limit"); limit < 1 || limit > maxLimit {
				return nil, errInvalid("limit", "parameter_invalid_integer", "Invalid limit: must be between 1 and 100")
			}
		}
		from := shelf(c.s)
		all := from.order
		if after := strings.TrimPrefix(c.str("page"), "page_"); after != "" {
			cursor, ok := from.byID[after]
			if !ok {
				return nil, errInvalid("page", "", "The page token is not one that a search has answered.")
			}
			at, _ := slices.BinarySearchFunc(all, cursor.base().seq, func(x T, seq int) int { return x.base().seq - seq })
			all = all[:at]
		}
		out := &listView{url: c.url(), search: true}
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].base().deleted || !q.matches(c.s, all[i]) {
				continue
			}
			if len(out.data) == int(limit) {
				out.more, out.next = true, "page_"+out.data[limit-1].(record).base().id
				break
			}
			out.data = append(out.data, all[i])
		}
		return out, nil
	}
}

// query is clauses of which all, or any, must hold.
type query struct {
	clauses []clause
	any     bool
}

// clause is one comparison.
type clause struct {
	path   []string
	kind   byte
	op     string // : ~ > < >= <=
	value  string
	null   bool
	negate bool
}

func errQuery(message string) *stripeError {
	return errInvalid("query", "", "We were unable to parse your search query. "+message+
		" Please try using the format `metadata[\"key\"]:\"value\"` to query for metadata or key:\"value\" to query for other fields.")
}

// parseQuery reads the search language: clauses joined by AND (or nothing), or by
// OR, but not by both.
func parseQuery(resource, text string) (q query, f *stripeError) {
	rest, joined := strings.TrimSpace(text), ""
	for rest != "" {
		word, after, _ := strings.Cut(rest, " ")
		if w := strings.ToUpper(word); len(q.clauses) > 0 && (w == "AND" || w == "OR") {
			if joined != "" && joined != w {
				return q, errQuery("AND and OR cannot be combined in one query.")
			}
			joined, rest = w, strings.TrimSpace(after)
		}
		var c clause
		if c, rest, f = parseClause(resource, rest); f != nil {
			return q, f
		}
		if q.clauses = append(q.clauses, c); len(q.clauses) > maxClauses {
			return q, errQuery("A query has up to 10 clauses.")
		}
	}
	if len(q.clauses) == 0 {
		return q, errQuery("It is empty.")
	}
	q.any = joined == "OR"
	return q, nil
}

func parseClause(resource, text string) (c clause, rest string, f *stripeError) {
	text, c.negate = strings.CutPrefix(text, "-")
	at := strings.IndexAny(text, ":~<>")
	if open := strings.IndexByte(text, '['); open >= 0 && open < at { // a key may hold any sign
		end := strings.IndexByte(text[open:], ']')
		if end < 0 {
			return c, "", errQuery("A bracket is open.")
		}
		after := open + end
		if at = strings.IndexAny(text[after:], ":~<>"); at >= 0 {
			at += after
		}
	}
	if at <= 0 {
		return c, "", errQuery("A clause has no operator.")
	}
	field := strings.TrimSpace(text[:at])
	c.op = text[at : at+1]
	rest = text[at+1:]
	if strings.HasPrefix(rest, "=") && (c.op == "<" || c.op == ">") {
		c.op, rest = c.op+"=", rest[1:]
	}
	if f := c.aim(resource, field); f != nil {
		return c, "", f
	}
	if rest, f = c.read(strings.TrimLeft(rest, " ")); f != nil {
		return c, "", f
	}
	return c, strings.TrimSpace(rest), c.check(field)
}

// aim finds the field.
func (c *clause) aim(resource, field string) *stripeError {
	if key, ok := strings.CutPrefix(field, "metadata["); ok {
		c.kind, c.path = textField, []string{"metadata", strings.Trim(strings.TrimSuffix(key, "]"), `"'`)}
		return nil
	}
	kind, ok := searchable[resource][field]
	if !ok {
		return errInvalid("query", "", fmt.Sprintf("Field `%s` is an unsupported search field for resource `%s`.", field, resource))
	}
	c.kind, c.path = kind, strings.Split(field, ".")
	return nil
}

// read takes the value off: quoted, a number, or null.
func (c *clause) read(text string) (rest string, f *stripeError) {
	if text == "" {
		return "", errQuery("A clause has no value.")
	}
	if quote := text[0]; quote == '"' || quote == '\'' {
		var value strings.Builder
		for i := 1; i < len(text); i++ {
			switch {
			case text[i] == '\\' && i+1 < len(text):
				i++
				value.WriteByte(text[i])
			case text[i] == quote:
				c.value = value.String()
				return text[i+1:], nil
			default:
				value.WriteByte(text[i])
			}
		}
		return "", errQuery("A quote is open.")
	}
	word, rest, _ := strings.Cut(text, " ")
	if word == "null" || word == "NULL" {
		c.null = true
		return rest, nil
	}
	if _, err := strconv.ParseInt(word, 10, 64); err != nil {
		return "", errQuery("Values are quoted unless they are numbers.")
	}
	c.value = word
	return rest, nil
}

// check refuses an operator that the field does not have.
func (c *clause) check(field string) *stripeError {
	switch {
	case c.op == "~" && c.kind != textField:
		return errQuery("The substring operator does not apply to `" + field + "`.")
	case c.op == "~" && len(c.value) < 3:
		return errQuery("A substring needs at least 3 characters.")
	case strings.ContainsAny(c.op, "<>") && c.kind != numberField:
		return errQuery("Only numbers have a size; `" + field + "` is none.")
	}
	if _, err := strconv.ParseInt(c.value, 10, 64); c.kind == numberField && !c.null && err != nil {
		return errQuery("`" + field + "` is a number.")
	}
	return nil
}

// matches holds an object, as it is answered, against the query.
func (q query) matches(a *account, r view) bool {
	e := &enc{s: a}
	r.render(e, nil)
	var o map[string]any
	d := json.NewDecoder(strings.NewReader(string(e.b)))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		panic(fmt.Sprintf("sandbox: read back an object: %v", err)) // render writes JSON
	}
	for i := range q.clauses {
		if q.clauses[i].holds(o) == q.any {
			return q.any
		}
	}
	return !q.any
}

func (c *clause) holds(o map[string]any) bool {
	var v any = o
	for _, name := range c.path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return c.compare(v) != c.negate
}

func (c *clause) compare(v any) bool {
	if c.null || v == nil {
		return c.null && v == nil
	}
	if c.kind == numberField {
		n, _ := v.(json.Number)
		have, _ := n.Int64()
		want, _ := strconv.ParseInt(c.value, 10, 64) // checked
		return c.op == ":" && have == want || c.op == ">" && have > want || c.op == "<" && have < want ||
			c.op == ">=" && have >= want || c.op == "<=" && have <= want
	}
	have, want := strings.ToLower(fmt.Sprint(v)), strings.ToLower(c.value)
	if c.op == "~" {
		return strings.Contains(have, want)
	}
	return have == want
}
