package stripe

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/keybrake/keybrake/internal/policy"
)

func TestTheMapHasEveryResourceThatAPolicyCanNameAndNoOther(t *testing.T) {
	c := newAdapter(t).Catalog()
	var got []policy.Resource
	operations := 0
	for _, p := range c.Permissions() {
		got = append(got, p.Resource)
		operations += len(p.Operations)
	}
	voc := c.Vocabulary()
	if !slices.Equal(got, voc.Resources()) {
		t.Errorf("the map has %v, policies can name %v", got, voc.Resources())
	}
	if operations != len(voc.Operations()) {
		t.Errorf("the map shows %d operations, policies can name %d", operations, len(voc.Operations()))
	}
	t.Logf("%d resources, %d operations", len(got), operations)
}

func TestAMapThatDoesNotFitTheCatalogStopsTheLoad(t *testing.T) {
	for name, c := range map[string]struct{ old, new string }{
		"a resource without a row":              {"\nbalance,", "\nbalanze,"},
		"a row that is there twice":             {"\nbalance,", "\nrefunds,"},
		"a row for a preview resource":          {"\nbalance,", "\norders,ledger,Orders,,low,Nothing.,,,,,\nbalance,"},
		"an unknown risk":                       {",extreme,", ",terrible,"},
		"an unknown group":                      {"refunds,money out,", "refunds,money away,"},
		"a cap that does not parse":             {"refunds/day=500", "refunds/fortnight=500"},
		"a cap on a resource that is not one":   {"refunds/day=500", "refundz/day=500"},
		"an empty sentence":                     {"The balance has been polled thousands of times, and other systems ran into the account's request limit.", ""},
		"a name of Stripe's without its source": {"balance_read,,apps,", "balance_read,,,"},
		"an unknown source":                     {"balance_read,,apps,", "balance_read,,hearsay,"},
	} {
		t.Run(name, func(t *testing.T) {
			files := copyTables(t)
			data := string(files["tables/risks.csv"].Data)
			if !strings.Contains(data, c.old) {
				t.Fatalf("risks.csv has no %q to break", c.old)
			}
			files["tables/risks.csv"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(data, c.old, c.new))}
			if _, err := newFrom(files); err == nil {
				t.Error("loaded all the same")
			}
		})
	}
}

// TestEveryWorstCaseIsASentenceOfItsOwn: a sentence that fits two resources says nothing about either.
func TestEveryWorstCaseIsASentenceOfItsOwn(t *testing.T) {
	sentence := regexp.MustCompile(`^[A-Z][^.!?]*(\d\.\d[^.!?]*)*\.$`)
	seen := map[string]policy.Resource{}
	for _, p := range newAdapter(t).Catalog().Permissions() {
		if !sentence.MatchString(p.Worst) || len(p.Worst) < 30 || len(p.Worst) > 140 {
			t.Errorf("%s: not one sentence of 30 to 140 bytes: %q", p.Resource, p.Worst)
		}
		if other, taken := seen[p.Worst]; taken {
			t.Errorf("%s says the same as %s", p.Resource, other)
		}
		seen[p.Worst] = p.Resource
		readable := p.Operations[0].Access == policy.Read
		if readable != (p.Shows != "") {
			t.Errorf("%s: can be read: %v, shows %q", p.Resource, readable, p.Shows)
		}
		if !readable && len(p.RestrictedRead) > 0 || !p.Writable() && len(p.RestrictedWrite) > 0 {
			t.Errorf("%s names a permission for an access that it does not have", p.Resource)
		}
	}
}

// TestSuggestedCapsBoundWhatTheResourceMoves: whoever takes the suggestion as it stands gets a policy that is
// accepted and that no loop outruns.
func TestSuggestedCapsBoundWhatTheResourceMoves(t *testing.T) {
	for _, p := range newAdapter(t).Catalog().Permissions() {
		var buckets []policy.Resource
		for _, op := range p.Operations {
			if op.Access == policy.Write && !op.Default.closed() {
				buckets = append(buckets, p.Resource)
			}
			for i, e := range op.Row.Money.Effects {
				buckets = append(buckets, e.Bucket)
				own := e.Bucket != transfers || p.Resource == transfers // what is sent on needs write on transfers too
				if i == 0 && own && e.Bounded() && !slices.ContainsFunc(p.Caps, func(c policy.Cap) bool { return c.Covers(e.Bucket) }) {
					t.Errorf("%s: %s moves an amount on %s, and the suggestion does not bound it", p.Resource, op.Name, e.Bucket)
				}
			}
		}
		if len(buckets) > 0 != (len(p.Caps) > 0) {
			t.Errorf("%s: counts on %v, suggests %v", p.Resource, buckets, p.Caps)
		}
		for _, c := range p.Caps {
			if !slices.Contains(buckets, c.Resource) {
				t.Errorf("%s suggests a cap on %s, where nothing of it counts", p.Resource, c.Resource)
			}
			if c.Unit == policy.UnitUSD && !slices.ContainsFunc(p.Moves, func(m Movement) bool { return m.Bucket == c.Resource }) {
				t.Errorf("%s suggests dollars on %s, where it moves none", p.Resource, c.Resource)
			}
		}
	}
}

func TestTheMapSaysWhatMovesWhereAndHowFarItReaches(t *testing.T) {
	byName := map[policy.Resource]Permission{}
	for _, p := range newAdapter(t).Catalog().Permissions() {
		byName[p.Resource] = p
	}
	for _, c := range []struct {
		resource  policy.Resource
		risk      Risk
		group     Group
		direction string // of a movement on its own bucket; empty: there is none
		reach     Reach
	}{
		{"refunds", Extreme, GroupMoneyOut, "out", ReachPartly},
		{"payouts", Extreme, GroupMoneyOut, "out", ReachNone},
		{"transfers", Extreme, GroupMoneyOut, "out", ReachFollowed},
		{"payment_intents", Extreme, GroupMoneyIn, "in", ReachFollowed},
		{"invoices", High, GroupMoneyIn, "in", ReachFollowed},
		{"subscriptions", High, GroupMoneyIn, "in", ReachPartly},
		{"prices", Medium, GroupCatalog, "", ReachNone},
		{"products", Low, GroupCatalog, "", ReachNone},
		{"coupons", High, GroupCatalog, "", ReachNone},
		{"customers", Medium, GroupPeople, "", ReachPartly},
		{"balance_transactions", Low, GroupLedger, "", ReachAny},
		{"webhook_endpoints", Extreme, GroupControl, "", ReachAny},
		{"account_links", Extreme, GroupControl, "", ReachAny},
	} {
		p := byName[c.resource]
		moves := slices.ContainsFunc(p.Moves, func(m Movement) bool { return m.Bucket == p.Resource && m.Direction() == c.direction })
		if p.Risk != c.risk || p.Group != c.group || p.Reach != c.reach || moves != (c.direction != "") {
			t.Errorf("%s: %s, %s, %s, %+v; want %s, %s, %s, %q", c.resource, p.Risk, p.Group, p.Reach, p.Moves, c.risk, c.group, c.reach, c.direction)
		}
	}
}

func TestTheMapsWordsAreWhatCallsMeet(t *testing.T) {
	words := map[policy.OperationName]string{}
	for _, p := range newAdapter(t).Catalog().Permissions() {
		for _, op := range p.Operations {
			words[op.Name] = op.Money
		}
	}
	for name, want := range map[policy.OperationName]string{
		"refunds.retrieve":             "",
		"charges.update":               "",
		"payouts.create":               "counted on `payouts`",
		"webhook_endpoints.create":     unlessNamed,
		"account_links.create":         unlessNamed,
		"reporting.report_runs.create": unlessNamed,
	} {
		if got, there := words[name]; !there || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestRisksHaveAnOrder(t *testing.T) {
	if Risk("").Rank() != 0 || Low.Rank() != 1 || Extreme.Rank() != 4 {
		t.Errorf("ranks: %d, %d, %d", Risk("").Rank(), Low.Rank(), Extreme.Rank())
	}
}
