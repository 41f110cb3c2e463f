package sandbox

import (
	"slices"
	"strconv"
)

// taxPermille is what every sale is taxed here: 8.5 percent.
const taxPermille = 85

const taxedCustomer = `{"address":null,"address_source":null,"ip_address":null,"tax_ids":[],"taxability_override":"none"}`

// calculationModel is tax worked out for a sale, taxedModel the sale on record.
var (
	calculationModel = &model{object: "tax.calculation", noun: "tax calculation", prefix: "taxcalc", resource: "tax.calculations",
		own: []string{"line_items", "shipping_cost", "currency", "tax_date"}, secret: []string{"line_items"},
		defaults: `{"amount_total":0,"currency":"","customer":null,"customer_details":` + taxedCustomer + `,"expires_at":null,"line_items":null,` +
			`"livemode":false,"ship_from_details":null,"shipping_cost":null,"tax_amount_exclusive":0,"tax_amount_inclusive":0,"tax_breakdown":[],"tax_date":0}`}
	taxedModel = &model{object: "tax.transaction", noun: "tax transaction", prefix: "tax", resource: "tax.transactions", own: []string{"line_items", "shipping_cost"},
		secret: []string{"line_items"}, defaults: `{"created":0,"currency":"","customer":null,"customer_details":` + taxedCustomer + `,"line_items":null,"livemode":false,"metadata":{},` +
			`"posted_at":0,"reference":"","reversal":null,"ship_from_details":null,"shipping_cost":null,"tax_date":0,"type":"transaction"}`}
)

var taxingModels = []*model{calculationModel, taxedModel}

var taxingRoutes = []*operation{
	post("/v1/tax/calculations", "tax.calculations", "tax.calculation", create(calculationModel, "", calculate)),
	get("/v1/tax/calculations/{calculation}", "tax.calculations", "tax.calculation", retrieve(calculationModel)),
	get("/v1/tax/calculations/{calculation}/line_items", "tax.calculations", "list:tax.calculation_line_item", linesOf(calculationModel)),
	post("/v1/tax/transactions/create_from_calculation", "tax.transactions", "tax.transaction", create(taxedModel, "", recordSale)),
	post("/v1/tax/transactions/create_reversal", "tax.transactions", "tax.transaction", create(taxedModel, "", reverseSale)),
	get("/v1/tax/transactions/{transaction}", "tax.transactions", "tax.transaction", retrieve(taxedModel)),
	get("/v1/tax/transactions/{transaction}/line_items", "tax.transactions", "list:tax.transaction_line_item", linesOf(taxedModel)),
}

func linesOf(m *model) handler {
	return func(c *call) (view, *stripeError) {
		o, f := c.thing(m, c.args[0], "id")
		if f != nil {
			return nil, f
		}
		return o.fields["line_items"].(*listView), nil
	}
}

// taxOn is the tax of an amount: on top of it, or a part of it.
func taxOn(amount int64, inclusive bool) int64 {
	if inclusive {
		return amount - mulDiv(amount, 1000, 1000+taxPermille)
	}
	return mulDiv(amount, taxPermille, 1000)
}

// calculate works out the tax of a sale.
func calculate(c *call, o *thing) *stripeError {
	currency, f := c.currency("currency")
	if f != nil {
		return f
	}
	if id := c.str("customer"); id != "" {
		if _, f := c.s.customers.get(id, "customer"); f != nil {
			return f
		}
	} else if !c.set("customer_details") {
		return errInvalid("customer_details", "parameter_missing", "You must provide customer or customer_details.")
	}
	var total, exclusive, inclusive int64
	lines := &listView{url: "/v1/tax/calculations/" + o.id + "/line_items"}
	items, _ := c.p.get("line_items").items()
	for i, n := range items {
		amount, _ := parseInt(n.get("amount")) // checked against its type
		within := n.get("tax_behavior").text() == "inclusive"
		tax := taxOn(amount, within)
		total += amount
		if within {
			inclusive += tax
		} else {
			exclusive += tax
			total += tax
		}
		lines.data = append(lines.data, c.taxLine("tax.calculation_line_item", i, amount, tax, n.get("tax_behavior").text(), n.get("reference").text()))
	}
	if len(items) == 0 {
		return errInvalid("line_items", "", "You must provide at least one line item.")
	}
	o.put("currency", currency, "line_items", lines, "amount_total", total, "tax_amount_exclusive", exclusive, "tax_amount_inclusive", inclusive,
		"expires_at", c.now+90*86_400, "tax_date", c.now)
	return nil
}

// taxLine is one line of a calculation or transaction.
func (c *call) taxLine(object string, i int, amount, tax int64, behavior, reference string) view {
	if behavior == "" {
		behavior = "exclusive"
	}
	if reference == "" {
		reference = "L" + strconv.Itoa(i+1)
	}
	line := fieldsView{"id": c.s.id("tax_li"), "object": object, "amount": amount, "amount_tax": tax, "livemode": c.s.live(), "metadata": nil,
		"product": nil, "quantity": int64(1), "reference": reference, "tax_behavior": behavior, "tax_code": "txcd_10000000"}
	if object == "tax.calculation_line_item" {
		line["tax_breakdown"] = nil
	} else {
		line["reversal"], line["type"] = nil, "transaction"
	}
	return line
}

// recordSale makes a calculation a sale.
func recordSale(c *call, o *thing) *stripeError {
	from, f := c.thing(calculationModel, c.str("calculation"), "calculation")
	if f != nil {
		return f
	}
	lines := &listView{url: "/v1/tax/transactions/" + o.id + "/line_items"}
	for i, v := range from.fields["line_items"].(*listView).data {
		l := v.(fieldsView)
		lines.data = append(lines.data, c.taxLine("tax.transaction_line_item", i, asInt(l["amount"]), asInt(l["amount_tax"]),
			l["tax_behavior"].(string), l["reference"].(string)))
	}
	o.put("line_items", lines, "posted_at", c.now)
	for _, name := range []string{"currency", "customer", "customer_details", "ship_from_details", "tax_date"} {
		o.put(name, from.fields[name])
	}
	return nil
}

// reverseSale takes a sale back, or an amount of it.
func reverseSale(c *call, o *thing) *stripeError {
	from, f := c.thing(taxedModel, c.str("original_transaction"), "original_transaction")
	if f != nil {
		return f
	}
	if from.str("type") == "reversal" {
		return errInvalid("original_transaction", "", "You cannot reverse a reversal.")
	}
	lines, f := c.reversedLines(o, from.fields["line_items"].(*listView))
	if f != nil {
		return f
	}
	o.put("line_items", lines, "posted_at", c.now, "type", "reversal", "reversal", map[string]any{"original_transaction": from.id})
	for _, name := range []string{"currency", "customer", "customer_details", "ship_from_details", "tax_date"} {
		o.put(name, from.fields[name])
	}
	return nil
}

// reversedLines takes back all of a sale, the same part of every line, or amounts
// of single ones.
func (c *call) reversedLines(o *thing, of *listView) (*listView, *stripeError) {
	lines := &listView{url: "/v1/tax/transactions/" + o.id + "/line_items"}
	add := func(l fieldsView, amount, tax int64) {
		line := c.taxLine("tax.transaction_line_item", len(lines.data), amount, tax, l["tax_behavior"].(string), l["reference"].(string)).(fieldsView)
		line["type"], line["reversal"] = "reversal", map[string]any{"original_line_item": l["id"]}
		lines.data = append(lines.data, line)
	}
	total, part := int64(0), int64(1)
	for _, v := range of.data {
		l := v.(fieldsView)
		if total += asInt(l["amount"]); l["tax_behavior"] == "exclusive" {
			total += asInt(l["amount_tax"])
		}
	}
	switch items, _ := c.p.get("line_items").items(); {
	case c.str("mode") == "full":
		part, total = 1, 1
	case c.set("flat_amount"):
		if part = -c.amount("flat_amount"); part <= 0 || part > total {
			return nil, errInvalid("flat_amount", "", "flat_amount must be negative, and no more than the sale.")
		}
	case len(items) > 0:
		for _, n := range items {
			i := slices.IndexFunc(of.data, func(v view) bool { return v.(fieldsView)["id"] == n.get("original_line_item").text() })
			if i < 0 {
				return nil, errInvalid("line_items", "resource_missing", "No such line item: '"+n.get("original_line_item").text()+"'")
			}
			amount, _ := parseInt(n.get("amount")) // checked against its type
			tax, _ := parseInt(n.get("amount_tax"))
			add(of.data[i].(fieldsView), amount, tax)
		}
		return lines, nil
	default:
		return nil, errInvalid("flat_amount", "parameter_missing", "A partial reversal needs flat_amount or line_items.")
	}
	for _, v := range of.data {
		l := v.(fieldsView)
		add(l, -mulDiv(asInt(l["amount"]), part, total), -mulDiv(asInt(l["amount_tax"]), part, total))
	}
	return lines, nil
}
