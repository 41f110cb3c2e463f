package stripe

import (
	"fmt"
	"slices"

	"github.com/keybrake/keybrake/internal/policy"
)

// check holds one row against the rest of the catalog: every placeholder, parameter, look-up route and
// bucket that it names must exist. What only the OpenAPI document can tell (fields and statuses of answers)
// is held against it by the tests of the module test.
func (c *Catalog) check(row *Row) error {
	if row.Customer.Form == "" {
		return fmt.Errorf("customers.csv has no rule for it")
	}
	if row.Money.Klass == "" {
		if row.Method != "GET" || row.Default != AllowByScope && row.Default != DenyPreview {
			return fmt.Errorf("money.csv has no rule for it")
		}
		row.Money.Klass = KlassNone
	}
	if len(c.buckets) == 0 {
		for _, r := range c.rows {
			c.buckets[r.Resource] = true
		}
	}
	if err := c.checkCustomer(row); err != nil {
		return fmt.Errorf("customer: %w", err)
	}
	if err := c.checkMoney(row); err != nil {
		return fmt.Errorf("money: %w", err)
	}
	return nil
}

func (c *Catalog) checkCustomer(row *Row) error {
	rule := &row.Customer
	if rule.Form == CustomerPath && !slices.Contains(row.Placeholders, rule.Name) {
		return fmt.Errorf("{%s} is not in the path", rule.Name)
	}
	if rule.Param != nil {
		if err := row.declares(rule.Param); err != nil {
			return err
		}
	}
	for _, chain := range rule.Chains {
		for i, step := range chain {
			if err := c.checkRef(row, step.Ref, i > 0); err != nil {
				return err
			}
		}
	}
	for _, check := range rule.Checks {
		if err := row.declares(check.Field); err != nil {
			return err
		}
		for _, chain := range check.Chains {
			for _, step := range chain.Chain {
				if err := c.checkRef(row, step.Ref, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *Catalog) checkMoney(row *Row) error {
	rule := &row.Money
	for _, f := range append(append([]Field{}, rule.Routing...), rule.Raising...) {
		if err := row.declares(f); err != nil {
			return err
		}
	}
	for _, r := range rule.Refused {
		if err := row.declaresAll(r.When); err != nil {
			return fmt.Errorf("refused: %w", err)
		}
	}
	for _, e := range []*EffectRule{rule.First, rule.Second} {
		if e == nil {
			continue
		}
		if err := c.checkEffect(row, e); err != nil {
			return fmt.Errorf("effect on %s: %w", e.Bucket, err)
		}
	}
	if f := rule.Final; f != nil && (!c.buckets[f.Bucket] || !slices.Contains(row.Placeholders, f.ObjectFrom) || f.When.Empty()) {
		return fmt.Errorf("final: bucket %q, object {%s} or condition is not right", f.Bucket, f.ObjectFrom)
	}
	if row.Default == DenyUnmetered && rule.First == nil && rule.Second == nil {
		return fmt.Errorf("deny_unmetered names no effect")
	}
	if !rule.Interpreted {
		return nil
	}
	if rule.Klass.Metered() && (row.Params == nil || rule.First == nil && len(rule.Refused) == 0) {
		return fmt.Errorf("the rule is called interpreted but counts nothing")
	}
	return checkInterpreted(row, rule.First)
}

func (c *Catalog) checkEffect(row *Row, e *EffectRule) error {
	if !c.buckets[e.Bucket] {
		return fmt.Errorf("no operation belongs to the bucket")
	}
	if err := row.declaresAll(e.When); err != nil {
		return err
	}
	const settleList = 6
	for i, list := range [...][]Source{e.Amount, e.Absent, e.Floor, e.Base, e.Currency, e.Ceiling, settleList: e.Settle} {
		for _, s := range list {
			if s.Kind == FromRequest {
				if err := row.declares(s.Field); err != nil {
					return err
				}
			}
			if s.Kind == FromLookup || s.Kind == FromPreview {
				// What an answer settles from may be named by the answer itself.
				if err := c.checkRef(row, s.Ref, i == settleList); err != nil {
					return err
				}
			}
		}
	}
	if e.Pin != nil {
		return row.declares(e.Pin)
	}
	return nil
}

// checkInterpreted holds a rule against what the interpreter can do: a form that it does not know must not
// be called interpreted.
func checkInterpreted(row *Row, e *EffectRule) error {
	if e == nil || !e.bounded() {
		return nil
	}
	for _, list := range [][]Source{e.Amount, e.Absent, e.Floor, e.Base, e.Currency, e.Ceiling} {
		for _, s := range list {
			switch s.Kind {
			case FromRequest, FromLookup, IsDenied, IsZero:
			default:
				return fmt.Errorf("the interpreter does not know the source %q", s.Kind)
			}
		}
	}
	for _, s := range e.Settle {
		switch s.Kind {
		case FromResponse, FromResponseDelta, FromResponseAbs, FromHold:
		default:
			return fmt.Errorf("the interpreter does not settle from %q", s.Kind)
		}
	}
	switch {
	case e.CountsWhen.Empty() || len(e.Settle) == 0 || len(e.Currency) == 0:
		return fmt.Errorf("counts_when, settle and currency must be given")
	case (e.Mode == policy.Part) != (len(e.Ceiling) > 0):
		return fmt.Errorf("a ceiling goes with the mode part")
	case e.Mode != policy.Gross && (e.CountKey == "" || e.ObjectFrom == "" && e.ObjectField == nil):
		return fmt.Errorf("a total needs a count key and an object")
	case e.ObjectFrom != "" && !slices.Contains(row.Placeholders, e.ObjectFrom):
		return fmt.Errorf("{%s} is not in the path", e.ObjectFrom)
	case e.Settle[0].Kind == FromResponseDelta && len(e.Base) == 0:
		return fmt.Errorf("a delta needs a base")
	}
	return nil
}

// checkRef holds a look-up against the routes and its placeholders against the row. filled says that the
// placeholder is filled by a value found before.
func (c *Catalog) checkRef(row *Row, ref LookupRef, filled bool) error {
	ids := make([]string, 0, maxPlaceholders)
	path, _ := ref.Path(func(string) (string, bool) { return "x", true })
	if _, _, r := c.routes.match(ref.Method, path, ids); r != nil {
		return fmt.Errorf("look-up %s %s: %s", ref.Method, ref.Template, r.Message)
	}
	if filled {
		return nil
	}
	for _, name := range ref.Placeholders {
		if !slices.Contains(row.Placeholders, name) && row.declares(Field{name}) != nil && (row.Money.Interpreted || !row.Params.mentions(name)) {
			return fmt.Errorf("look-up %s: {%s} is neither in the path nor a parameter", ref.Template, name)
		}
	}
	return nil
}

// declares reports whether the operation takes a parameter. Where no declaration is known (v2, and what only
// an SDK knows) it cannot tell.
func (r *Row) declares(f Field) error {
	spec := r.Params
	for _, name := range f {
		switch {
		case spec == nil || spec.Type.Has(MapType):
			return nil
		case name == anyElement && spec.Type.Has(ArrayType):
			spec = spec.Element
		case name != anyElement && spec.Members[name] != nil:
			spec = spec.Members[name]
		default:
			return fmt.Errorf("%s has no parameter %s", r.Name, f)
		}
	}
	return nil
}

func (r *Row) declaresAll(c Condition) error {
	for _, t := range c.Terms {
		if err := r.declares(t.Field); err != nil {
			return err
		}
	}
	return nil
}

// mentions reports whether a name is declared at any depth. It is for rows that are not interpreted yet: a
// rule there may speak of "the price" of a line.
func (s *ParamSpec) mentions(name string) bool {
	if s == nil {
		return false
	}
	for member, below := range s.Members {
		if member == name || below.mentions(name) {
			return true
		}
	}
	return s.Element.mentions(name)
}
