package sandbox

// fileModel is something uploaded: evidence, or a document.
var fileModel = &model{object: "file", prefix: "file", resource: "files",
	defaults: `{"created":0,"expires_at":null,"filename":null,"links":null,"purpose":"","size":0,"title":null,"type":null,"url":null}`}

// linkModel is an address under which anybody can read a file.
var linkModel = &model{object: "file_link", prefix: "link", resource: "file_links", links: []string{"file"},
	defaults: `{"created":0,"expired":false,"expires_at":null,"file":"","livemode":false,"metadata":{},"url":null}`}

var fileModels = []*model{fileModel, linkModel}

var fileRoutes = []*operation{
	get("/v1/files", "files", "list:file", list(fileModel)),
	post("/v1/files", "files", "file", uploadFile),
	get("/v1/files/{file}", "files", "file", retrieve(fileModel)),
	get("/v1/file_links", "file_links", "list:file_link", func(c *call) (view, *stripeError) {
		file := c.str("file")
		return c.s.shelf(linkModel).page(c, "", func(o *thing) bool {
			o.expire(c.now)
			return (file == "" || o.str("file") == file) && (!c.set("expired") || o.fields["expired"] == c.bool("expired"))
		})
	}),
	post("/v1/file_links", "file_links", "file_link", create(linkModel, "", fillLink)),
	get("/v1/file_links/{link}", "file_links", "file_link", retrieve(linkModel)),
	post("/v1/file_links/{link}", "file_links", "file_link", update(linkModel, "", func(c *call, o *thing) *stripeError {
		if c.str("expires_at") == "now" {
			o.put("expires_at", c.now)
		}
		o.expire(c.now)
		return nil
	})),
}

// uploadFile stores a file of a multipart form.
func uploadFile(c *call) (view, *stripeError) {
	n := c.p.get("file")
	if n.filename == "" {
		return nil, errInvalid("file", "", "Invalid file: must be a file of a multipart/form-data request.")
	}
	if c.set("file_link_data") && !c.sub("file_link_data", "expires_at").blank() {
		if at, _ := parseInt(c.sub("file_link_data", "expires_at")); at <= c.now {
			return nil, errInvalid("file_link_data[expires_at]", "", "The expiration must be in the future.")
		}
	}
	o := c.bare(fileModel)
	o.put("filename", n.filename, "purpose", c.str("purpose"), "size", int64(len(n.str)), "type", fileType(n.filename),
		"url", "https://files.stripe.com/v1/files/"+o.id+"/contents")
	c.s.shelf(fileModel).insert(o)
	links := []view{}
	if yes, _ := parseBool(c.sub("file_link_data", "create")); yes {
		link := c.bare(linkModel)
		link.put("file", o.id, "url", "https://files.stripe.com/links/"+c.s.random(c.s.ids, 32))
		c.s.shelf(linkModel).insert(link)
		links = append(links, link)
	}
	o.put("links", &listView{url: "/v1/file_links?file=" + o.id, data: links})
	c.emit("file.created", o)
	return o, nil
}

// fileType is what a file's name ends in.
func fileType(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return "bin"
}

func fillLink(c *call, o *thing) *stripeError {
	if _, f := c.thing(fileModel, c.str("file"), "file"); f != nil {
		return f
	}
	if c.set("expires_at") && c.amount("expires_at") <= c.now {
		return errInvalid("expires_at", "", "The expiration must be in the future.")
	}
	o.put("url", "https://files.stripe.com/links/"+c.s.random(c.s.ids, 32))
	return nil
}

// expire notes that a link's time is over.
func (o *thing) expire(now int64) {
	if at := o.int("expires_at"); at != 0 && at <= now {
		o.put("expired", true, "url", nil)
	}
}
