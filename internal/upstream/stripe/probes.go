package stripe

import (
	"net/http"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// nobody is an id that no object of Stripe's has: its prefixes are of another form, and it names its maker.
const nobody = "keybrake_probe_of_nothing"

// Probes returns one probe for every operation of the catalog, in the order of the tables.
//
// Stripe checks the permission before it looks for the object and reads the parameters, so a probe at Stripe learns
// whether a restricted key has it by 403 or another refusal. A write there carries a parameter that no operation
// has and an expansion that no object has, each of which Stripe refuses by itself, beside an id of nothing. Writes
// of v2 and of OAuth, where nothing is known to refuse them in time, are not made at Stripe.
func (c *Catalog) Probes() []upstream.Probe {
	permissions := map[policy.Resource]*Permission{}
	all := c.Permissions()
	for i := range all {
		permissions[all[i].Resource] = &all[i]
	}
	out := make([]upstream.Probe, 0, len(c.rows))
	for _, row := range c.rows {
		p := upstream.Probe{
			Operation: row.Name, Resource: row.Resource, Access: row.Access,
			Closed: row.Release == Preview || row.Host == HostMeterEvents,
			Method: row.Method, Path: row.Template,
		}
		_, p.Account = pathAccount(&Request{Row: row, IDs: []string{nobody}})
		for i, name := range row.Placeholders {
			id := nobody
			if p.Account && i == 0 {
				id = "{account}"
			}
			p.Path = strings.Replace(p.Path, "{"+name+"}", id, 1)
		}
		for _, e := range row.Money.Effects {
			if e.When.Always && e.Bucket != row.Resource && !slices.Contains(p.Needs, e.Bucket) {
				p.Needs = append(p.Needs, e.Bucket)
			}
		}
		row.probeParams(&p)
		if m := permissions[row.Resource]; m != nil {
			p.Permissions = m.RestrictedRead
			if row.Access == policy.Write {
				p.Permissions = m.RestrictedWrite
			}
		}
		out = append(out, p)
	}
	return out
}

// probeParams writes the parameters of a probe: as few as there can be at the gateway, and such that Stripe
// refuses them.
func (r *Row) probeParams(p *upstream.Probe) {
	if r.Method == http.MethodGet {
		if r.declares(Field{"limit"}) == nil && r.Params != nil {
			p.Query = "limit=1"
		}
		p.Broken = p.Query
		return
	}
	if r.Method == http.MethodPost {
		p.ContentType = "application/x-www-form-urlencoded"
	}
	if r.V2() && r.Method == http.MethodPost {
		p.ContentType, p.Body = "application/json", []byte("{}")
	}
	if !r.V2() && r.Host == HostAPI {
		p.Broken = nobody + "=1&expand%5B0%5D=" + nobody
	}
}
