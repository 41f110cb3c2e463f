package sandbox

import "slices"

type product struct {
	head
	name, description, descriptor string
	unitLabel, url, taxCode       string
	images                        string // JSON
	defaultPrice                  string
	active                        bool
	updated                       int64
}

func (o *product) links() []string { return nil }

func (o *product) render(e *enc, x *expansion) {
	if o.deleted {
		(&deletedView{"product", o.id}).render(e, nil)
		return
	}
	e.open()
	e.str("id", o.id)
	e.str("object", "product")
	e.bool("active", o.active)
	e.int("created", o.created)
	e.ref("default_price", o.defaultPrice, x)
	e.opt("description", o.description)
	e.raw("images", o.images)
	e.bool("livemode", e.s.live())
	e.constant(`"marketing_features":[]`)
	e.metadata(o.md)
	e.str("name", o.name)
	e.constant(`"package_dimensions":null,"shippable":null`)
	e.opt("statement_descriptor", o.descriptor)
	e.opt("tax_code", o.taxCode)
	e.opt("unit_label", o.unitLabel)
	e.int("updated", o.updated)
	e.opt("url", o.url)
	e.close()
}

var catalogRoutes = []*operation{
	get("/v1/products", "products", "list:product", listProducts),
	post("/v1/products", "products", "product", createProduct),
	get("/v1/products/{id}", "products", "product", func(c *call) (view, *stripeError) {
		return asView(c.s.products.get(c.args[0], "id"))
	}),
	post("/v1/products/{id}", "products", "product", updateProduct),
	remove("/v1/products/{id}", "products", deleteProduct),
}

func listProducts(c *call) (view, *stripeError) {
	var ids []string
	if items, ok := c.p.get("ids").items(); ok {
		for _, n := range items {
			ids = append(ids, n.text())
		}
	}
	return c.s.products.page(c, "", func(o *product) bool {
		return (!c.has("active") || o.active == c.bool("active")) && (ids == nil || slices.Contains(ids, o.id))
	})
}

// custom takes an id that the caller chose, or makes one.
func (c *call) custom(prefix, what string, taken bool) (head, *stripeError) {
	h := c.s.head(prefix, c)
	if id := c.str("id"); id != "" {
		if taken {
			return h, errInvalid("id", "resource_already_exists", what+" already exists.")
		}
		h.id = id
	}
	return h, nil
}

func createProduct(c *call) (view, *stripeError) {
	_, taken := c.s.products.byID[c.str("id")]
	h, f := c.custom("prod", "Product", taken)
	if f != nil {
		return nil, f
	}
	o := &product{head: h, active: true, images: "[]", updated: c.now}
	if f := c.fillProduct(o); f != nil {
		return nil, f
	}
	data := c.whole().sub("default_price_data")
	var p *price
	if !data.n.blank() {
		if p = c.newPrice(data); data.fault() != nil {
			return nil, data.fault()
		}
		p.product, o.defaultPrice = o.id, p.id
	}
	c.s.products.insert(o)
	c.emit("product.created", o)
	if p != nil {
		c.s.prices.insert(p)
		c.emit("price.created", p)
	}
	return o, nil
}

func (c *call) fillProduct(o *product) (f *stripeError) {
	if o.md, f = c.metadata(o.md); f != nil {
		return f
	}
	if c.set("name") {
		o.name = c.str("name")
	}
	c.assign("description", &o.description)
	c.assign("statement_descriptor", &o.descriptor)
	c.assign("unit_label", &o.unitLabel)
	c.assign("url", &o.url)
	c.assign("tax_code", &o.taxCode)
	if c.set("images") {
		o.images = string(c.p.get("images").json(nil))
	}
	if c.set("active") {
		o.active = c.bool("active")
	}
	return nil
}

func updateProduct(c *call) (view, *stripeError) {
	o, f := c.s.products.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if id := c.str("default_price"); id != "" {
		if p, ok := c.s.prices.byID[id]; !ok || p.product != o.id {
			return nil, errMissing("price", id, "default_price")
		}
		o.defaultPrice = id
	}
	if f := c.fillProduct(o); f != nil {
		return nil, f
	}
	o.updated = c.now
	c.emit("product.updated", o)
	return o, nil
}

func deleteProduct(c *call) (view, *stripeError) {
	o, f := c.s.products.get(c.args[0], "id")
	if f != nil {
		return nil, f
	}
	if len(c.s.prices.index["product="+o.id]) > 0 {
		return nil, errInvalid("", "", "This product cannot be deleted because it has one or more user-created prices.")
	}
	c.emit("product.deleted", o)
	o.deleted = true
	return &deletedView{"product", o.id}, nil
}
