package sandbox

import (
	"math/big"
	"strconv"
)

// What the one climate product costs, in cents: a ton of carbon removed, and
// Stripe's fee on top, in percent.
const (
	tonPrice   = 50_000
	climateFee = 3
)

const climateSupplier = `{"id":"climsup_sandbox","info_url":"https://example.com/removal","livemode":false,"locations":[],"name":"Sandbox Removal",` +
	`"object":"climate.supplier","removal_pathway":"direct_air_capture"}`

var climateProductModel = &model{object: "climate.product", prefix: "climsku", resource: "climate.products",
	defaults: `{"created":0,"current_prices_per_metric_ton":{"usd":{"amount_fees":1500,"amount_subtotal":50000,"amount_total":51500}},` +
		`"delivery_year":2035,"livemode":false,"metric_tons_available":"100000.0","name":"Direct air capture","suppliers":[` + climateSupplier + `]}`}

var climateOrderModel = &model{object: "climate.order", prefix: "climorder", resource: "climate.orders", own: []string{"metric_tons", "currency"},
	defaults: `{"amount_fees":0,"amount_subtotal":0,"amount_total":0,"canceled_at":null,"cancellation_reason":null,"certificate":null,` +
		`"confirmed_at":null,"created":0,"currency":"usd","delayed_at":null,"delivered_at":null,"delivery_details":[],` +
		`"expected_delivery_year":2035,"livemode":false,"metadata":{},"metric_tons":"0","product":"","product_substituted_at":null,"status":"open"}`}

var climateModels = []*model{climateProductModel, climateOrderModel}

var climateRoutes = []*operation{
	get("/v1/climate/products", "climate.products", "list:climate.product", func(c *call) (view, *stripeError) {
		return &listView{url: c.url(), data: []view{c.climateProduct()}}, nil
	}),
	get("/v1/climate/products/{product}", "climate.products", "climate.product", func(c *call) (view, *stripeError) {
		if o := c.climateProduct(); o.id == c.args[0] {
			return o, nil
		}
		return nil, errMissing("climate product", c.args[0], "id")
	}),
	get("/v1/climate/suppliers", "climate.suppliers", kindNone, func(c *call) (view, *stripeError) {
		return &listView{url: c.url(), data: []view{fieldsView(parseJSON(climateSupplier))}}, nil
	}),
	get("/v1/climate/suppliers/{supplier}", "climate.suppliers", kindNone, func(c *call) (view, *stripeError) {
		if o := parseJSON(climateSupplier); o["id"] == c.args[0] {
			return fieldsView(o), nil
		}
		return nil, errMissing("climate supplier", c.args[0], "id")
	}),
	get("/v1/climate/orders", "climate.orders", "list:climate.order", list(climateOrderModel)),
	post("/v1/climate/orders", "climate.orders", "climate.order", create(climateOrderModel, "climate.order.created", orderClimate)),
	get("/v1/climate/orders/{order}", "climate.orders", "climate.order", retrieve(climateOrderModel)),
	post("/v1/climate/orders/{order}", "climate.orders", "climate.order", update(climateOrderModel, "", nil)),
	post("/v1/climate/orders/{order}/cancel", "climate.orders", "climate.order", func(c *call) (view, *stripeError) {
		v, f := move(climateOrderModel, "status", canceled, "", "awaiting_funds", "open")(c)
		if f != nil {
			return nil, f
		}
		o := v.(*thing)
		o.put("canceled_at", c.now, "cancellation_reason", "requested")
		c.book(booking{typ: "climate_order_refund", source: o.id, currency: o.str("currency"), amount: o.int("amount_total")})
		c.effect(EffectClimateBack, o.id, "", "", o.int("amount_total"), o.str("currency"))
		c.emit("climate.order.canceled", o)
		return o, nil
	}),
}

// climateProduct is the one product, which is there without being made.
func (c *call) climateProduct() *thing {
	return &thing{head: head{id: "climsku_sandbox"}, model: climateProductModel, fields: parseJSON(climateProductModel.defaults)}
}

// orderClimate buys tons, or tons for an amount; Stripe's fee comes on top.
func orderClimate(c *call, o *thing) *stripeError {
	if id := c.str("product"); id != c.climateProduct().id {
		return errMissing("climate product", id, "product")
	}
	if c.has("amount") == c.has("metric_tons") {
		return errInvalid("amount", "", "You must provide exactly one of amount and metric_tons.")
	}
	currency := "usd"
	if c.set("currency") {
		currency = c.str("currency")
	}
	if currency != "usd" {
		return errInvalid("currency", "", "This sandbox sells carbon removal in US dollars only.")
	}
	subtotal := c.amount("amount")
	tons := strconv.FormatFloat(float64(subtotal)/tonPrice, 'f', 2, 64)
	if c.has("metric_tons") {
		tons = c.str("metric_tons")
		wanted, ok := new(big.Rat).SetString(tons)
		if !ok || wanted.Sign() <= 0 {
			return errInvalid("metric_tons", "parameter_invalid_decimal", "Invalid decimal: "+tons)
		}
		cents := wanted.Mul(wanted, big.NewRat(tonPrice, 1))
		whole, rest := new(big.Int).DivMod(cents.Num(), cents.Denom(), new(big.Int))
		if subtotal = whole.Int64(); rest.Sign() > 0 {
			subtotal++
		}
	}
	if f := positive("amount", subtotal); f != nil {
		return f
	}
	fees := (subtotal*climateFee + 99) / 100
	if subtotal+fees > c.s.ledgers[currency] {
		return errInsufficient("", "You have insufficient funds in your Stripe account for this order.")
	}
	o.put("amount_subtotal", subtotal, "amount_fees", fees, "amount_total", subtotal+fees, "metric_tons", tons)
	c.book(booking{typ: "climate_order_purchase", source: o.id, currency: currency, amount: -(subtotal + fees)})
	c.effect(EffectClimate, o.id, "", "", subtotal+fees, currency)
	return nil
}
