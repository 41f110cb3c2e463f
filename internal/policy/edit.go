package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Edit is what flags change on a policy. The zero Edit changes nothing.
type Edit struct {
	Name      string     // not empty: the new name
	Upstream  string     // not empty: the new upstream
	Caps      []Cap      // each replaces the cap of the same resource, window and unit, or is added
	Customers *Customers // not nil: takes the place of the customers
	Expires   *Expiry    // not nil: takes the place of the expiry

	RotateEvery time.Duration // not zero: takes the place of the interval
}

// Apply returns the policy with the changes; p itself stays as it is. The result is not checked: read it
// through ParseEdited for that.
func (e Edit) Apply(p *Policy) *Policy {
	out := *p
	if e.Name != "" {
		out.Name = e.Name
	}
	if e.Upstream != "" {
		out.Upstream = e.Upstream
	}
	out.Caps = slices.Clone(p.Caps)
	for _, c := range e.Caps {
		if i := slices.IndexFunc(out.Caps, c.same); i >= 0 {
			out.Caps[i] = c
		} else {
			out.Caps = append(out.Caps, c)
		}
	}
	if e.Customers != nil {
		out.Customers = *e.Customers
	}
	if e.Expires != nil {
		out.Expires = *e.Expires
	}
	if e.RotateEvery != 0 {
		out.RotateEvery = e.RotateEvery
	}
	return &out
}

// ParseLabel checks a name of a key or an upstream as flags give it.
func ParseLabel(s string) (string, error) {
	if why := labelProblem(s); why != "" {
		return "", fmt.Errorf("name: %s", why)
	}
	return s, nil
}

// Flag writes the cap as ParseCapFlag reads it: "refunds/day=500.00", "refunds/hour=30calls".
func (c Cap) Flag() string {
	unit := ""
	if c.Unit == UnitCalls {
		unit = UnitCalls.String()
	}
	return string(c.Resource) + "/" + c.Per.String() + "=" + c.LimitString() + unit
}

// ParseCapFlag reads a cap as flags write it: resource/window=limit, in dollars ("refunds/day=500.00",
// "*/month=5000") or in calls ("refunds/hour=30calls"). Whether the resource exists is checked with the
// policy.
func ParseCapFlag(s string) (Cap, error) {
	what, limit, ok := strings.Cut(s, "=")
	resource, window, slash := strings.Cut(what, "/")
	if !ok || !slash || resource == "" {
		return Cap{}, fmt.Errorf("cap `%s`: write resource/window=dollars or =calls, like refunds/day=500 or refunds/hour=30calls", s)
	}
	per, err := parseWindow(window)
	if err != nil {
		return Cap{}, fmt.Errorf("cap `%s`: %w", s, err)
	}
	unit := UnitUSD.String()
	if calls, isCalls := strings.CutSuffix(limit, "calls"); isCalls {
		unit, limit = UnitCalls.String(), calls
	}
	c := Cap{Resource: Resource(resource), Per: per}
	if c.Unit, c.Limit, err = parseLimit(unit, limit); err != nil {
		return Cap{}, fmt.Errorf("cap `%s`: %w", s, err)
	}
	return c, nil
}

// ParseCustomerFlags reads customers as flags give them, one per flag: ids, or `any` alone.
func ParseCustomerFlags(values []string) (Customers, error) {
	if len(values) == 1 && values[0] == "any" {
		return Customers{Any: true}, nil
	}
	list := make([]CustomerID, 0, len(values))
	for _, v := range values {
		if v == "any" {
			return Customers{}, fmt.Errorf("customer `any` stands alone; leave out the others")
		}
		if why := idProblem(v); why != "" {
			return Customers{}, fmt.Errorf("customer: %s", why)
		}
		list = append(list, CustomerID(v))
	}
	return Customers{List: sortedOnce(list)}, nil
}
