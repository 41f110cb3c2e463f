package stripe

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
)

// Risk is how bad a night can get: an agent that repeats itself until morning, with all access that a
// resource has. The zero Risk is refused when the tables are loaded.
type Risk string

// The risks, rising.
const (
	Low     Risk = "low"     // a nuisance, or what is read gets about
	Medium  Risk = "medium"  // somebody repairs it, customers may notice
	High    Risk = "high"    // money or data of many customers, hard to take back
	Extreme Risk = "extreme" // money that is gone, or powers beyond Keybrake's reach
)

// Rank orders risks: 1 for low to 4 for extreme.
func (r Risk) Rank() int { return slices.Index(risks, r) + 1 }

var risks = []Risk{Low, Medium, High, Extreme}

// Group is what a resource is about, for people who read the map.
type Group string

// The groups, in the order in which they are shown.
const (
	GroupMoneyOut Group = "money out"
	GroupMoneyIn  Group = "money in"
	GroupCatalog  Group = "catalog"
	GroupPeople   Group = "people"
	GroupLedger   Group = "ledger"
	GroupControl  Group = "control"
	GroupTest     Group = "test"
)

// Groups lists the groups in the order in which they are shown. The caller owns the result.
func Groups() []Group {
	return []Group{GroupMoneyOut, GroupMoneyIn, GroupCatalog, GroupPeople, GroupLedger, GroupControl, GroupTest}
}

// Judgement is what people say of a resource: a row of risks.csv. Nothing is decided by it.
type Judgement struct {
	Group Group
	Title string // "Credit notes"
	// Shows is what Read shows, as the end of a sentence; empty where nothing can be read.
	Shows string
	Risk  Risk
	// Worst is the worst case by morning, one sentence.
	Worst string
	// Caps are a start for somebody who does not know better yet; empty where no cap helps.
	Caps []policy.Cap
	// RestrictedRead and RestrictedWrite are Stripe's names for the permission on a restricted key, without
	// "rak_". Several are other names for one thing, where sources differ. Empty: no name is known.
	RestrictedRead, RestrictedWrite []string
	// RestrictedSource says who knows the names: reference, apps, accepted, error (README of the tables).
	RestrictedSource string
	// RestrictedNote is what else there is to say about Stripe's permission, one sentence; mostly empty.
	RestrictedNote string
}

// loadRisks reads the judgements and holds them against the catalog: every resource that a policy can name has
// one, and nothing else has.
func (c *Catalog) loadRisks(files fs.FS) error {
	c.risks = map[policy.Resource]*Judgement{}
	const columns = "resource group title shows risk worst caps rak_read rak_write rak_source rak_note"
	err := readTable(files, "tables/risks.csv", columns, func(r record) error {
		name := policy.Resource(r.get("resource"))
		if c.risks[name] != nil {
			return fmt.Errorf("%s is there twice", name)
		}
		j := &Judgement{
			Group: Group(r.get("group")), Title: r.get("title"), Shows: r.get("shows"), Risk: Risk(r.get("risk")), Worst: r.get("worst"),
			RestrictedRead: strings.Fields(r.get("rak_read")), RestrictedWrite: strings.Fields(r.get("rak_write")),
			RestrictedSource: r.get("rak_source"), RestrictedNote: r.get("rak_note"),
		}
		for flag := range strings.FieldsSeq(r.get("caps")) {
			c, err := policy.ParseCapFlag(flag)
			if err != nil {
				return err
			}
			j.Caps = append(j.Caps, c)
		}
		c.risks[name] = j
		return j.check()
	})
	if err != nil {
		return err
	}
	known := map[policy.Resource]bool{}
	for _, row := range c.rows {
		if row.Release == Preview {
			continue
		}
		known[row.Resource] = true
		if c.risks[row.Resource] == nil {
			return fmt.Errorf("tables/risks.csv: no row for %s, which %s belongs to", row.Resource, row.Name)
		}
	}
	for name, j := range c.risks {
		if !known[name] {
			return fmt.Errorf("tables/risks.csv: no operation belongs to %s", name)
		}
		for _, limit := range j.Caps {
			if !known[limit.Resource] {
				return fmt.Errorf("tables/risks.csv: %s suggests a cap on %s, which does not exist", name, limit.Resource)
			}
		}
	}
	return nil
}

func (j *Judgement) check() error {
	switch {
	case !slices.Contains(Groups(), j.Group):
		return fmt.Errorf("unknown group %q", j.Group)
	case j.Risk.Rank() == 0:
		return fmt.Errorf("unknown risk %q", j.Risk)
	case j.Title == "" || j.Worst == "":
		return fmt.Errorf("title and worst must be given")
	case (len(j.RestrictedRead)+len(j.RestrictedWrite) > 0) != (j.RestrictedSource != ""):
		return fmt.Errorf("a source goes with the names of Stripe's permissions")
	}
	switch j.RestrictedSource {
	case "", "reference", "apps", "accepted", "error":
		return nil
	}
	return fmt.Errorf("unknown source %q", j.RestrictedSource)
}
