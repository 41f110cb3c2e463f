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
	for _, f := range slices.Concat(rule.Routing, rule.Raising, rule.OneOf) {
		if err := row.declares(f); err != nil {
			return err
		}
	}
	for _, r := range rule.Refused {
		if err := row.declaresAll(r.When); err != nil {
			return fmt.Errorf("refused: %w", err)
		}
	}
	for _, m := range rule.Makes {
		if !c.buckets[m.Resource] {
			return fmt.Errorf("makes: no operation belongs to %s", m.Resource)
		}
		if err := row.declaresAll(m.When); err != nil {
			return fmt.Errorf("makes: %w", err)
		}
	}
	for _, e := range rule.Effects {
		if err := c.checkEffect(row, e); err != nil {
			return fmt.Errorf("effect on %s: %w", e.Bucket, err)
		}
	}
	if f := rule.Final; f != nil && (!c.buckets[f.Bucket] || !slices.Contains(row.Placeholders, f.ObjectFrom) || f.When.Empty()) {
		return fmt.Errorf("final: bucket %q, object {%s} or condition is not right", f.Bucket, f.ObjectFrom)
	}
	if row.Default == DenyUnmetered && len(rule.Effects) == 0 {
		return fmt.Errorf("deny_unmetered names no effect")
	}
	if rule.Klass.Metered() && len(rule.Effects) == 0 && len(rule.Refused) == 0 {
		return fmt.Errorf("the class %s moves money and effects.csv says nothing of it", rule.Klass)
	}
	return nil
}

// checkEffect holds a movement against the operation's parameters and against what the interpreter can do: a
// form that it does not know stops the catalog from loading.
func (c *Catalog) checkEffect(row *Row, e *EffectRule) error {
	if !c.buckets[e.Bucket] {
		return fmt.Errorf("no operation belongs to the bucket")
	}
	if !e.Klass.Metered() {
		return fmt.Errorf("the class %s moves no money", e.Klass)
	}
	if err := row.declaresAll(e.When); err != nil {
		return err
	}
	if !e.Bounded() {
		return nil
	}
	if row.Params == nil {
		return fmt.Errorf("the operation declares no parameters, so nobody knows what else moves money")
	}
	for _, list := range [][]Source{e.Amount, e.Absent, e.Floor, e.Base, e.Currency, e.Ceiling} {
		for _, s := range list {
			if err := c.checkSource(row, s); err != nil {
				return err
			}
		}
	}
	for i, s := range e.Settle {
		switch {
		case s.Kind == FromResponse || s.Kind == FromResponseAbs || s.Kind == FromHold:
		case s.Kind == FromLookup && i == 0 && len(s.Ref.Placeholders) == 1: // the answer names the object
			if err := c.checkRef(row, s.Ref, true); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the interpreter does not settle from %q", s.Kind)
		}
	}
	if err := checkCounting(row, e); err != nil || e.Pin == nil {
		return err
	}
	return row.declares(e.Pin)
}

// checkSource holds one source of an amount, a currency or a parameter against the row.
func (c *Catalog) checkSource(row *Row, s Source) error {
	switch s.Kind {
	case FromRequest:
		return row.declares(s.Field)
	case FromLookup:
		if s.Ref.Method != "GET" {
			return fmt.Errorf("a look-up is a GET, %s is not", s.Ref.Template)
		}
		return c.checkRef(row, s.Ref, false)
	case FromPreview:
		return c.checkPreview(row, s.Name)
	case FromWorstCase:
		if worstCases[s.Name] == nil {
			return noSuchBound(s.Name)
		}
	case FromValue:
		if !slices.Contains(row.Placeholders, s.Name) {
			return fmt.Errorf("{%s} is not in the path", s.Name)
		}
	case FromBound, FromLiteral, IsDenied, IsZero:
	default:
		return fmt.Errorf("the interpreter does not know the source %q", s.Kind)
	}
	return nil
}

// checkCounting holds what an effect counts against what counting it takes.
func checkCounting(row *Row, e *EffectRule) error {
	object := e.ObjectFrom != "" || e.ObjectField != nil
	switch {
	case e.CountsWhen.Empty() || len(e.Settle) == 0 || len(e.Currency) == 0:
		return fmt.Errorf("counts_when, settle and currency must be given")
	case (e.Mode == policy.Part) != (len(e.Ceiling) > 0):
		return fmt.Errorf("a ceiling goes with the mode part")
	case e.Mode != policy.Gross && (e.CountKey == "" || !object):
		return fmt.Errorf("a total needs a count key and an object")
	case e.ObjectFrom != "" && !slices.Contains(row.Placeholders, e.ObjectFrom) && row.declares(Field{e.ObjectFrom}) != nil:
		return fmt.Errorf("{%s} is neither in the path nor a parameter", e.ObjectFrom)
	case e.Distance && len(e.Base) > 0 && e.Base[0].Kind != FromLookup:
		return fmt.Errorf("a distance is measured from a look-up")
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
		if !slices.Contains(row.Placeholders, name) && row.declares(Field{name}) != nil {
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
		for _, t := range append([]Term{t}, t.And...) {
			if err := r.declares(t.Field); err != nil {
				return err
			}
			if slices.Contains(t.Field, anyElement) && t.Op != Present && t.Op != Absent {
				return fmt.Errorf("%s: of array elements only the presence can be asked", t.Field)
			}
		}
	}
	return nil
}
