package stripe

import (
	"fmt"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

const moneyColumns = "method path klass one_of routing raising refused makes final_bucket final_object final_when final_amount final_currency exposes later notes"

const effectColumns = "method path klass bucket when amount absent floor base currency mode ceiling signed pin " +
	"counts_when pending_when nothing_when settle currency_field count_key object_from object_field notes"

// parser collects the first error of many small parses, so that a rule reads as a list of fields.
type parser struct {
	record
	err error
}

func (p *parser) fail(column string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", column, err)
	}
}

func (p *parser) sources(column string) []Source {
	s, err := ParseSources(p.get(column))
	p.fail(column, err)
	return s
}

func (p *parser) condition(column string) Condition {
	c, err := ParseCondition(p.get(column))
	p.fail(column, err)
	return c
}

// fields reads names that stand side by side, apart by spaces; " | " is a space too.
func (p *parser) fields(column string) []Field {
	var out []Field
	for name := range strings.FieldsSeq(strings.ReplaceAll(p.get(column), " | ", " ")) {
		f, err := ParseField(name)
		p.fail(column, err)
		out = append(out, f)
	}
	return out
}

func (p *parser) field(column string) Field {
	all := p.fields(column)
	if len(all) > 1 {
		p.fail(column, fmt.Errorf("%q names more than one field", p.get(column)))
	}
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

func (p *parser) flag(column string) bool {
	v, err := p.yes(column)
	p.fail(column, err)
	return v
}

func (c *Catalog) addMoney(r record) error {
	row, err := c.row(r)
	if err != nil {
		return err
	}
	if row.Money.Klass != "" {
		return fmt.Errorf("%s has two rules", row.Name)
	}
	p := &parser{record: r}
	row.Money = MoneyRule{
		Klass:   Klass(r.get("klass")),
		Routing: p.fields("routing"),
		Raising: p.fields("raising"),
		Refused: p.refused(),
		Makes:   p.makes(),
		OneOf:   p.fields("one_of"),
		Exposes: r.get("exposes"),
		Later:   r.get("later"),
	}
	if err := knownKlass(row.Money.Klass); err != nil {
		return err
	}
	if r.get("final_bucket") != "" {
		row.Money.Final = &FinalRule{
			Bucket:        policy.Resource(r.get("final_bucket")),
			ObjectFrom:    r.get("final_object"),
			When:          p.condition("final_when"),
			Amount:        p.sources("final_amount"),
			CurrencyField: p.fields("final_currency"),
		}
		if len(row.Money.Final.CurrencyField) == 0 {
			row.Money.Final.CurrencyField = []Field{{"currency"}}
		}
	}
	return p.err
}

// addEffect reads one line of effects.csv: one movement of an operation.
func (c *Catalog) addEffect(r record) error {
	row, err := c.row(r)
	if err != nil {
		return err
	}
	if row.Money.Klass == "" {
		return fmt.Errorf("%s has an effect and no line in money.csv", row.Name)
	}
	p := &parser{record: r}
	e := p.effect()
	if err := knownKlass(e.Klass); err != nil {
		return err
	}
	row.Money.Effects = append(row.Money.Effects, e)
	return p.err
}

func (p *parser) effect() *EffectRule {
	e := &EffectRule{
		Klass:         Klass(p.get("klass")),
		Bucket:        policy.Resource(p.get("bucket")),
		When:          p.when("when"),
		Amount:        p.sources("amount"),
		Absent:        p.sources("absent"),
		Floor:         p.sources("floor"),
		Base:          p.sources("base"),
		Currency:      p.sources("currency"),
		Ceiling:       p.sources("ceiling"),
		Signed:        p.flag("signed"),
		Pin:           p.field("pin"),
		CountsWhen:    p.condition("counts_when"),
		PendingWhen:   p.condition("pending_when"),
		NothingWhen:   p.condition("nothing_when"),
		Settle:        p.sources("settle"),
		CurrencyField: p.fields("currency_field"),
		CountKey:      p.get("count_key"),
		ObjectFrom:    p.get("object_from"),
		ObjectField:   p.field("object_field"),
	}
	switch m := p.get("mode"); m {
	case "", "gross":
		e.Mode = policy.Gross
	case "total":
		e.Mode = policy.Total
	case "part":
		e.Mode = policy.Part
	case "distance":
		e.Distance = true
	default:
		p.fail("mode", fmt.Errorf("%q is none of gross, total, part, distance", m))
	}
	return e
}

// when reads the condition of an effect: an empty one holds always.
func (p *parser) when(column string) Condition {
	if p.get(column) == "" {
		return Condition{Always: true}
	}
	return p.condition(column)
}

// refused reads "condition => reason ;; condition => reason".
func (p *parser) refused() []RefusedParam {
	text := p.get("refused")
	if text == "" {
		return nil
	}
	var out []RefusedParam
	for part := range strings.SplitSeq(text, " ;; ") {
		cond, why, ok := strings.Cut(part, " => ")
		if !ok || why == "" {
			p.fail("refused", fmt.Errorf("%q has no reason", part))
			continue
		}
		when, err := ParseCondition(cond)
		p.fail("refused", err)
		out = append(out, RefusedParam{When: when, Why: why})
	}
	return out
}

// makes reads "resource when condition ;; resource when condition".
func (p *parser) makes() []MakeRule {
	text := p.get("makes")
	if text == "" {
		return nil
	}
	var out []MakeRule
	for part := range strings.SplitSeq(text, " ;; ") {
		resource, cond, ok := strings.Cut(part, " when ")
		if !ok {
			p.fail("makes", fmt.Errorf("%q has no condition", part))
			continue
		}
		when, err := ParseCondition(cond)
		p.fail("makes", err)
		out = append(out, MakeRule{Resource: policy.Resource(resource), When: when})
	}
	return out
}

func knownKlass(k Klass) error {
	switch k {
	case KlassMoveIn, KlassMoveOut, KlassCommitIn, KlassCommitOut, KlassValue, KlassRelease, KlassSetup, KlassCredential,
		KlassEgress, KlassBulk, KlassCatalog, KlassAdmin, KlassConfig, KlassRecord, KlassTest, KlassNone:
		return nil
	}
	return fmt.Errorf("unknown class %q", k)
}
