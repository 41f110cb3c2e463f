package stripe

import (
	"flag"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var _ upstream.Adapter = (*Adapter)(nil)

func newAdapter(t testing.TB) *Adapter {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestEveryRowIsReachedByItsOwnRoute closes the world: every row is found by a path made from its template,
// at the root and under the mount, and by nothing else.
func TestEveryRowIsReachedByItsOwnRoute(t *testing.T) {
	a := newAdapter(t)
	for _, row := range a.catalog.rows {
		path := row.Template
		for _, name := range row.Placeholders {
			path = strings.Replace(path, "{"+name+"}", "id_"+name, 1)
		}
		for _, mounted := range []string{path, "/stripe" + path} {
			got, ids, refusal := a.catalog.routes.match(row.Method, mounted, nil)
			if refusal != nil {
				t.Errorf("%s %s: %s", row.Method, mounted, refusal.Message)
				continue
			}
			if got != row {
				t.Errorf("%s %s is routed to %s", row.Method, mounted, got.Name)
			}
			for i, id := range ids {
				if id != "id_"+row.Placeholders[i] {
					t.Errorf("%s: {%s} is read as %q", row.Name, row.Placeholders[i], id)
				}
			}
			if sent := buildPath(row, ids, mounted); sent != path {
				t.Errorf("%s is sent as %s", mounted, sent)
			}
		}
	}
}

func TestLiteralsBeatIds(t *testing.T) {
	a := newAdapter(t)
	for call, want := range map[string]policy.OperationName{
		"GET /v1/charges/search":           "charges.search",
		"GET /v1/charges/ch_1":             "charges.retrieve",
		"GET /v1/credit_notes/preview":     "credit_notes.preview",
		"POST /v1/invoices/create_preview": "invoices.create_preview",
		"POST /v1/invoices/in_1":           "invoices.update",
		"POST /v1/charges/ch_1/refund":     "refunds.create_via_charge",
	} {
		method, path, _ := strings.Cut(call, " ")
		c, refusal := a.Parse(formCall(method, path, "", ""), "")
		if c == nil || c.Operation.Name != want {
			t.Errorf("%s: %+v %v, want %s", call, c, refusal, want)
		}
	}
}

// TestOperationNamesAreFrozen: policies and audit records name operations, so a name never changes. -update
// may add lines to the file; it must never change one.
func TestOperationNamesAreFrozen(t *testing.T) {
	const golden = "testdata/operations.golden"
	var lines []string
	for _, row := range newAdapter(t).catalog.rows {
		lines = append(lines, string(row.Name)+" = "+row.Method+" "+row.Template)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("operation names changed (-frozen +now):\n%s", diff)
	}
}

// TestARowThatDoesNotParseStopsTheLoad breaks one thing at a time.
func TestARowThatDoesNotParseStopsTheLoad(t *testing.T) {
	for _, c := range []struct{ name, table, old, new string }{
		{"an unknown method", "operations.csv", "GET,/v1/balance,", "FETCH,/v1/balance,"},
		{"an unknown access", "operations.csv", "balance.retrieve,balance,read", "balance.retrieve,balance,readwrite"},
		{"an unknown verdict", "operations.csv", "balance.retrieve,balance,read,ga,allow_by_scope", "balance.retrieve,balance,read,ga,allow"},
		{"a name that is taken", "operations.csv", "refunds.create,", "refunds.list,"},
		{"a row without a money rule", "money.csv", "POST,/v1/refunds,", "POST,/v1/payouts,"},
		{"a rule for no row", "money.csv", "POST,/v1/refunds,", "POST,/v1/refundz,"},
		{"an unknown source", "effects.csv", "request:amount_to_capture", "asked:amount_to_capture"},
		{"an unknown parameter", "effects.csv", "request:amount_to_capture", "request:amount_to_snatch"},
		{"an unknown placeholder", "effects.csv", "lookup:GET /v1/charges/{charge}#amount_captured", "lookup:GET /v1/charges/{carge}#amount_captured"},
		{"an unknown look-up route", "effects.csv", "lookup:GET /v1/charges/{charge}#amount_captured", "lookup:GET /v1/chargez/{charge}#amount_captured"},
		{"an unknown bucket", "effects.csv", "move_out,refunds,", "move_out,refundz,"},
		{"a broken condition", "effects.csv", "status=pending|requires_action|succeeded", "status=pending|=requires_action"},
		{"an unknown worst case", "effects.csv", "worst_case:line_items", "worst_case:line_itemz"},
		{"an unknown preview", "effects.csv", "preview:credit_notes#amount", "preview:credit_notez#amount"},
		{"a preview that is a write", "previews.csv", "POST,/v1/invoices/create_preview", "POST,/v1/invoices"},
		{"a preview of an unknown parameter", "previews.csv", "customer=request:customer ", "customer=request:costumer "},
		{"a preview with an unknown target", "previews.csv", "customer=request:customer ", "costumer=request:customer "},
		{"an unknown customer form", "customers.csv", "path:customer", "route:customer"},
		{"a customer that is not in the path", "customers.csv", "path:customer", "path:cust"},
		{"a parameter that leads nowhere known", "links.csv", "mandate,", "mandat,"},
		{"a denial of no effect", "effects.csv", "/v1/terminal/refunds,move_out", "/v1/refunds,move_out"},
		{"an object without a scope", "objects.csv", "balance_transaction,", "balance_transactio,"},
		{"an object with an unknown scope", "objects.csv", "balance_transaction,balance_transactions", "balance_transaction,balance_transactionz"},
		{"a broken declaration", "params.txt", "POST /v1/refunds {", "POST /v1/refunds {{"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := copyTables(t)
			data := string(files["tables/"+c.table].Data)
			if !strings.Contains(data, c.old) {
				t.Fatalf("%s has no %q to break", c.table, c.old)
			}
			files["tables/"+c.table] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(data, c.old, c.new))}
			if _, err := newFrom(files); err == nil {
				t.Error("loaded all the same")
			}
		})
	}
}

func copyTables(t *testing.T) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	err := fs.WalkDir(tableFiles, "tables", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tableFiles, path)
		out[path] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestZeroValuesOfTheLanguageHoldNothing(t *testing.T) {
	get := func(Field) (string, bool) { return "x", true }
	if (Condition{}).Eval(get) {
		t.Error("the zero Condition holds")
	}
	if (Condition{Terms: []Term{{Field: Field{"a"}}}}).Eval(get) {
		t.Error("a Term without an Op holds")
	}
	if s := (Source{}); s.Kind == FromRequest || s.Kind == IsZero {
		t.Error("the zero Source yields something")
	}
	if f := (CustomerRule{}).Form; f != "" || (&Row{}).Money.Klass.Metered() {
		t.Error("a zero row allows something")
	}
}

// TestNothingThatMovesMoneyPassesUncounted: a call of a row that moves money whatever it says is refused, or has
// an effect; what works outside the gateway is always unmeterable.
func TestNothingThatMovesMoneyPassesUncounted(t *testing.T) {
	a := newAdapter(t)
	moving, outside := 0, 0
	for _, row := range a.catalog.rows {
		if row.Release == Preview || row.Access != policy.Write {
			continue
		}
		always := slices.ContainsFunc(row.Money.Effects, func(e *EffectRule) bool { return e.When.Always })
		denied := slices.Contains([]Verdict{DenyCredential, DenyEgress, DenyBulk}, row.Default)
		if !always && !denied {
			continue
		}
		path := row.Template
		for _, name := range row.Placeholders {
			path = strings.Replace(path, "{"+name+"}", "x", 1)
		}
		raw := formCall(row.Method, path, "", "")
		if row.V2() && row.Method == "POST" {
			raw = jsonCall(path, "{}")
		}
		call, refusal := a.Parse(raw, "")
		switch {
		case refusal != nil, call.Operation.Refused != nil:
		case denied && !slices.ContainsFunc(call.Operation.Effects, func(e policy.Effect) bool { return e.Unmeterable && e.Why != "" }):
			t.Errorf("%s passes as if it stayed inside", row.Name)
		case len(call.Operation.Effects) == 0:
			t.Errorf("%s passes uncounted", row.Name)
		}
		if denied {
			outside++
		} else {
			moving++
		}
	}
	if moving < 60 || outside < 25 {
		t.Errorf("%d rows that move money and %d that hand something out were tried: the tables have more", moving, outside)
	}
}

func TestTheVocabularyKnowsWhatPoliciesName(t *testing.T) {
	v := newAdapter(t).Catalog().Vocabulary()
	for _, r := range []policy.Resource{"charges", "payment_intents", "customers", "refunds", "invoices", "balance_transactions", "events", "payouts", "products", "plans", "prices"} {
		if !v.HasResource(r) {
			t.Errorf("no resource %s", r)
		}
	}
	op, ok := v.Operation("refunds.create")
	if !ok || op.Access != policy.Write || !slices.Equal(op.Buckets, []policy.Resource{"refunds", "transfers.reversals", "application_fees.refunds"}) || !op.ReachesCustomer {
		t.Fatalf("refunds.create: %+v", op)
	}
	root := op.Params()
	if m := root.Members["reverse_transfer"]; m == nil || m.Type != policy.ParamBool {
		t.Errorf("reverse_transfer: %+v", m)
	}
	if m := root.Members["metadata"]; m == nil || m.Type != policy.ParamMap {
		t.Errorf("metadata: %+v", m)
	}
	if _, ok := v.Operation("payment_intents.decrement_authorization"); ok {
		t.Error("a preview operation can be named")
	}
	if cancel, _ := v.Operation("payment_intents.cancel"); len(cancel.Buckets) > 0 {
		t.Error("a release needs a cap")
	}
}
