package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxLabel is how long names of keys and upstreams may be, in bytes: they stand in every record and header.
const maxLabel = 100

// label reads a name that operators type, match with globs and see in records.
func (r *reader) label(field string, n ast.Node, into *string) {
	s, ok := r.text(field, n)
	if !ok {
		return
	}
	if why := labelProblem(s); why != "" {
		r.problem(placeOf(n), field, "%s", why)
		return
	}
	*into = s
}

func labelProblem(s string) string {
	if s == "" || len(s) > maxLabel {
		return fmt.Sprintf("write 1 to %d characters", maxLabel)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("*?[]\\", s[i]) >= 0 {
			return fmt.Sprintf("%q holds characters that a name cannot have; write letters, digits, dots, dashes and underscores", s)
		}
	}
	return ""
}

func (r *reader) boolean(field string, n ast.Node, into *bool) {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		r.problem(placeOf(n), field, "write true or false%s", plainOnly(n))
		r.refused[field] = true
		return
	}
	*into = b.Value
}

// choice reads one of two words; the second sets the flag.
func (r *reader) choice(field string, n ast.Node, into *bool, off, on string) {
	switch s, _ := plain(n); s {
	case off:
	case on:
		*into = true
	default:
		r.problem(placeOf(n), field, "write `%s` or `%s`", on, off)
	}
}

func (r *reader) customers(field string, n ast.Node) {
	if s, ok := plain(n); ok {
		if s == "any" {
			r.policy.Customers.Any = true
			return
		}
		r.problem(placeOf(n), field, "write a list, like [cus_A, cus_B], or `any`")
		return
	}
	r.policy.Customers.List = []CustomerID{}
	for _, id := range ids[CustomerID](r, field, n) {
		if id == "any" {
			r.problem(placeOf(n), field, "`any` is not a customer; write `customers: any` to allow every one")
			continue
		}
		r.policy.Customers.List = append(r.policy.Customers.List, id)
	}
	r.policy.Customers.List = sortedOnce(r.policy.Customers.List)
}

func (r *reader) accounts(field string, n ast.Node) {
	r.policy.Accounts = nilIfEmpty(ids[AccountID](r, field, n))
}

// ids reads a list of a vendor's identifiers.
func ids[S ~string](r *reader, field string, n ast.Node) []S {
	items, _ := r.items(field, n)
	out := make([]S, 0, len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		s, ok := r.text(at, item)
		if !ok {
			continue
		}
		if why := idProblem(s); why != "" {
			r.problem(placeOf(item), at, "%s", why)
			continue
		}
		out = append(out, S(s))
	}
	return sortedOnce(out)
}

// maxID is how long a vendor's identifier may be, in bytes.
const maxID = 255

func idProblem(s string) string {
	if s == "" || len(s) > maxID {
		return fmt.Sprintf("write an id of 1 to %d characters", maxID)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return fmt.Sprintf("%q is not an id: it holds a space or a character outside ASCII", s)
		}
	}
	return ""
}

func (r *reader) operations(field string, n ast.Node, into *[]OperationName) {
	items, _ := r.items(field, n)
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		s, ok := r.text(at, item)
		if !ok {
			continue
		}
		if field == "unmetered" && s == string(AllResources) {
			*into = append(*into, OperationName(s))
			continue
		}
		if _, known := r.voc.Operation(OperationName(s)); !known {
			r.problem(placeOf(item), at, "no such operation `%s`%s", s, didYouMean(r.voc.NearestOperation(s)))
			continue
		}
		*into = append(*into, OperationName(s))
	}
	*into = nilIfEmpty(sortedOnce(*into))
}

func (r *reader) network(field string, n ast.Node) {
	items, _ := r.items(field, n)
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		s, ok := r.text(at, item)
		if !ok {
			continue
		}
		prefix, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			hint := "10.0.0.0/8"
			if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
				hint = netip.PrefixFrom(a, a.BitLen()).String()
			}
			r.problem(placeOf(item), at, "`%s` is not a network; write it like %s", s, hint)
		case prefix.Addr().Is4In6():
			r.problem(placeOf(item), at, "`%s` is an IPv4 network written as IPv6; write it like 10.0.0.0/8", s)
		case prefix != prefix.Masked():
			r.problem(placeOf(item), at, "`%s` has bits behind its length; write %s", s, prefix.Masked())
		case !slices.Contains(r.policy.Network, prefix):
			r.policy.Network = append(r.policy.Network, prefix)
		}
	}
}

func (r *reader) rotateEvery(field string, n ast.Node) {
	s, ok := r.text(field, n)
	if !ok {
		return
	}
	d, err := ParseSpan(s)
	if err != nil {
		r.problem(placeOf(n), field, "%v", err)
		return
	}
	r.policy.RotateEvery = d
}

func (r *reader) expiry(field string, n ast.Node) {
	s, ok := r.text(field, n)
	if !ok {
		return
	}
	e, err := ParseExpiry(s, r.policy.Timezone)
	if err != nil {
		r.problem(placeOf(n), field, "%v", err)
		return
	}
	r.policy.Expires = e
}

func (r *reader) timezone(field string, n ast.Node) {
	s, ok := r.text(field, n)
	if !ok {
		return
	}
	// "" and "Local" would mean what the machine says, and the windows of caps would move with it.
	zone, err := time.LoadLocation(s)
	if err != nil || s == "" || s == "Local" {
		r.problem(placeOf(n), field, "no time zone `%s`; write a name of the IANA database, like America/New_York, or UTC", s)
		return
	}
	r.policy.Timezone = zone
}

func (r *reader) enforcement(field string, n ast.Node) {
	switch s, _ := plain(n); s {
	case "enforce":
		r.policy.Enforcement = Enforce
	case "shadow":
		r.policy.Enforcement = Shadow
	default:
		r.problem(placeOf(n), field, "write `enforce` or `shadow`")
	}
}

// maxSpan bounds spans of time: ten years, beyond which a digit too many is likelier than a wish.
const maxSpan = 3660 * 24 * time.Hour

// ParseSpan reads a span as policies write it: a whole number of days, hours or minutes, like 90d, 12h or
// 30m. It must be more than nothing and at most 3660 days. A day is 24 hours.
func ParseSpan(s string) (time.Duration, error) {
	bad := fmt.Errorf("`%s` is not a span of time; write days, hours or minutes, like 90d, 12h or 30m", s)
	if s == "" || len(s) > 10 {
		return 0, bad
	}
	unit, ok := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if !ok || err != nil || n == 0 {
		return 0, bad
	}
	if n > uint64(maxSpan/unit) {
		return 0, fmt.Errorf("`%s` is longer than ten years; write at most 3660d", s)
	}
	return time.Duration(n) * unit, nil
}

// FormatSpan writes a span as ParseSpan reads it, in the largest unit that fits.
func FormatSpan(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
}

// ParseExpiry reads when a key ends: a span from its creation (see ParseSpan), a date (its first instant in
// the zone), or an instant in RFC 3339.
func ParseExpiry(s string, zone *time.Location) (Expiry, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return Expiry{At: t.UTC()}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, zone); err == nil {
		return Expiry{At: t.UTC()}, nil
	}
	d, err := ParseSpan(s)
	if err != nil {
		return Expiry{}, fmt.Errorf("`%s` is no time to expire; write a span like 90d or 12h, or a date like 2027-01-31", s)
	}
	return Expiry{After: d}, nil
}

func sortedOnce[S ~string](s []S) []S {
	slices.Sort(s)
	return slices.Compact(s)
}

func nilIfEmpty[S any](s []S) []S {
	if len(s) == 0 {
		return nil
	}
	return s
}
