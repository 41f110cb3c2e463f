package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestPoliciesSayThingsInWordsAndStoresInNumbers(t *testing.T) {
	for number, want := range []string{"invalid", "call", "hour", "day", "week", "month", "total", "invalid"} {
		if got := Window(number).String(); got != want {
			t.Errorf("window %d is %s, want %s", number, got, want)
		}
	}
	for number, want := range []string{"invalid", "usd", "calls", "invalid"} {
		if got := Unit(number).String(); got != want {
			t.Errorf("unit %d is %s, want %s", number, got, want)
		}
	}
	for number, want := range []string{"none", "read", "write", "none"} {
		if got := Access(number).String(); got != want {
			t.Errorf("access %d is %s, want %s", number, got, want)
		}
	}
	for number, want := range []string{"deny", "allow", "deny"} {
		if got := Verdict(number).String(); got != want {
			t.Errorf("verdict %d is %s, want %s", number, got, want)
		}
	}
}

func TestAKeyEndsASpanAfterItWasMadeOrAtItsDate(t *testing.T) {
	for name, test := range map[string]struct {
		expiry Expiry
		want   time.Time
	}{
		"no end":         {Expiry{}, time.Time{}},
		"a span":         {Expiry{After: time.Hour}, spring.Add(time.Hour)},
		"a date":         {Expiry{At: autumn}, autumn},
		"the least span": {Expiry{After: 1}, spring.Add(1)},
	} {
		if got := test.expiry.Deadline(spring); !got.Equal(test.want) {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestCustomersOfAKey(t *testing.T) {
	two := Customers{List: []CustomerID{"cus_A", "cus_C"}}
	for name, test := range map[string]struct {
		customers Customers
		asked     CustomerID
		want      bool
	}{
		"one of the list":            {two, "cus_C", true},
		"one between those":          {two, "cus_B", false},
		"nobody is on an empty list": {Customers{}, "cus_A", false},
		"any":                        {Customers{Any: true}, "cus_A", true},
	} {
		if got := test.customers.Allows(test.asked); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for name, test := range map[string]struct {
		before Customers
		joins  []CustomerID
		want   Customers
	}{
		"one joins between":        {two, []CustomerID{"cus_B"}, Customers{List: []CustomerID{"cus_A", "cus_B", "cus_C"}}},
		"one who was there":        {two, []CustomerID{"cus_A"}, two},
		"the first":                {Customers{}, []CustomerID{"cus_A"}, Customers{List: []CustomerID{"cus_A"}}},
		"nobody leaves no list":    {Customers{}, nil, Customers{}},
		"any has everybody before": {Customers{Any: true}, []CustomerID{"cus_A"}, Customers{Any: true}},
	} {
		got := test.before.With(test.joins...)
		if got.Any != test.want.Any || !slices.Equal(got.List, test.want.List) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if !slices.Equal(two.List, []CustomerID{"cus_A", "cus_C"}) {
		t.Errorf("the list that others join is changed: %v", two.List)
	}
}

func TestNetworksOfAKey(t *testing.T) {
	for name, test := range map[string]struct {
		networks func(*Policy)
		from     string
		want     bool
	}{
		"anywhere":                        {none, "192.0.2.1", true},
		"within the only one":             {network("10.0.0.0/8"), "10.255.0.1", true},
		"beside the only one":             {network("10.0.0.0/8"), "11.0.0.1", false},
		"within the second":               {network("10.0.0.0/8", "2001:db8::/32"), "2001:db8::1", true},
		"an IPv4 client seen as IPv6":     {network("10.0.0.0/8"), "::ffff:10.0.0.1", true},
		"an address with its interface":   {network("fe80::/10"), "fe80::1%eth0", true},
		"a stranger with that, elsewhere": {network("10.0.0.0/8"), "fe80::1%eth0", false},
	} {
		p := support()
		test.networks(p)
		if got := p.AllowsFrom(netip.MustParseAddr(test.from)); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestFullyOpenIsOpenInEveryRespect(t *testing.T) {
	open := func() *Policy {
		return &Policy{Scopes: map[Resource]Access{"*": Write}, Uncapped: true, Unmetered: []OperationName{"*"}, Customers: Customers{Any: true}}
	}
	if !open().FullyOpen() {
		t.Error("the open policy is not")
	}
	for name, closes := range map[string]func(*Policy){
		"scopes":    func(p *Policy) { p.Scopes = map[Resource]Access{"*": Read} },
		"caps":      func(p *Policy) { p.Uncapped = false },
		"amounts":   func(p *Policy) { p.Unmetered = []OperationName{"refunds.create"} },
		"customers": func(p *Policy) { p.Customers = Customers{} },
	} {
		p := open()
		closes(p)
		if p.FullyOpen() {
			t.Errorf("%s are closed, and it counts as open", name)
		}
	}
}
