package stripe

import (
	"fmt"
	"io/fs"
	"strings"
)

// links lead from a parameter's last name to the customer behind its value.
type links map[string]*Check

func loadLinks(files fs.FS) (links, error) {
	l := links{}
	err := readTable(files, "tables/links.csv", "param prefix chain", func(r record) error {
		name := r.get("param")
		c := l[name]
		if c == nil {
			c = &Check{}
			l[name] = c
		}
		switch chain := r.get("chain"); chain {
		case "direct":
			c.Direct = true
		case "unknown": // no chain: the call is unfilterable
		default:
			parsed, err := parseChain(chain)
			if err != nil {
				return err
			}
			if names := parsed[0].Ref.Placeholders; len(names) != 1 || names[0] != "id" {
				return fmt.Errorf("chain %q must start at {id}", chain)
			}
			c.Chains = append(c.Chains, PrefixedChain{Prefix: r.get("prefix"), Chain: parsed})
		}
		return nil
	})
	return l, err
}

// check makes the rule for one parameter. A name without a link is refused when the tables are loaded.
func (l links) check(f Field) (Check, error) {
	last := f[len(f)-1]
	c := l[last]
	if c == nil {
		return Check{}, fmt.Errorf("%s: links.csv does not know where %q leads", f, last)
	}
	return Check{Field: f, Direct: c.Direct, Chains: c.Chains}, nil
}

func (c *Catalog) addCustomer(r record, l links) error {
	row, err := c.row(r)
	if err != nil {
		return err
	}
	if row.Customer.Form != "" {
		return fmt.Errorf("%s has two customer rules", row.Name)
	}
	form, arg, _ := strings.Cut(r.get("customer"), ":")
	rule := CustomerRule{Form: CustomerForm(form)}
	switch rule.Form {
	case CustomerPath:
		rule.Name = arg
	case CustomerParam, CustomerListFilter:
		if rule.Param, err = ParseField(arg); err != nil {
			return err
		}
		rule.Search = rule.Form == CustomerListFilter && arg == "query"
	case CustomerLookup, CustomerParent:
		for alt := range strings.SplitSeq(arg, " | ") {
			chain, err := parseChain(alt)
			if err != nil {
				return err
			}
			rule.Chains = append(rule.Chains, chain)
		}
	case CustomerNone, CustomerUnknown:
	default:
		return fmt.Errorf("unknown customer form %q", form)
	}
	if rule.Creates, err = r.yes("creates"); err != nil {
		return err
	}
	names := strings.Fields(r.get("also_check"))
	if rule.Form == CustomerListFilter && !rule.Search {
		names = append([]string{arg}, names...)
	}
	for _, name := range names {
		f, err := ParseField(name)
		if err != nil {
			return err
		}
		check, err := l.check(f)
		if err != nil {
			return err
		}
		rule.Checks = append(rule.Checks, check)
	}
	row.Customer = rule
	return nil
}

// parseChain reads "GET /v1/a/{a}#b > GET /v1/c/{b}#customer".
func parseChain(s string) (Chain, error) {
	var chain Chain
	for part := range strings.SplitSeq(s, " > ") {
		ref, field, ok := strings.Cut(part, "#")
		if !ok {
			return nil, fmt.Errorf("chain %q: %q names no field after #", s, part)
		}
		parsed, err := ParseLookupRef(ref)
		if err != nil {
			return nil, fmt.Errorf("chain %q: %w", s, err)
		}
		f, err := ParseField(field)
		if err != nil {
			return nil, fmt.Errorf("chain %q: %w", s, err)
		}
		if len(chain) > 0 && len(parsed.Placeholders) != 1 {
			return nil, fmt.Errorf("chain %q: a later step takes exactly one id", s)
		}
		chain = append(chain, Step{Ref: parsed, Field: f})
	}
	return chain, nil
}
