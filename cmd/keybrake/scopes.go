package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
)

// scopeOperation is one operation of a resource.
type scopeOperation struct {
	Name            string           `json:"name"`
	Access          string           `json:"access"`
	Method          string           `json:"method"`
	Path            string           `json:"path"`
	Default         string           `json:"default"` // what happens to it without a special grant
	Moves           []string         `json:"moves"`
	Money           []admin.Movement `json:"money"`
	Effect          string           `json:"effect"` // what it does to money and how that is dealt with, in words
	ReachesCustomer bool             `json:"reaches_customer"`
	Customer        string           `json:"customer"` // how a call is tied to its customer
	// Later is what may happen afterwards without a call, and how much of it was counted; empty for nothing.
	Later string `json:"later"`
}

// scopesAnswer and scopeAnswer are lists like all others; the second says what resource it is about.
type scopesAnswer struct {
	Items []admin.Scope `json:"items"`
	Next  string        `json:"next"` // always empty: all are there
}

type scopeAnswer struct {
	Resource admin.Scope      `json:"resource"`
	Items    []scopeOperation `json:"items"`
	Next     string           `json:"next"`
}

func newScopes(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "scopes [RESOURCE]", Short: "The permission map: what each scope opens, and the worst that it could do by morning",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			adapter, err := stripe.New()
			if err != nil {
				return err
			}
			catalog := adapter.Catalog()
			voc := catalog.Vocabulary()
			all := catalog.Permissions()
			if len(args) == 0 {
				return s.printScopes(*outputOf(cmd), all, voc)
			}
			i := slices.IndexFunc(all, func(p stripe.Permission) bool { return string(p.Resource) == args[0] })
			if i < 0 {
				hint := ""
				if near, ok := voc.NearestResource(args[0]); ok {
					hint = fmt.Sprintf("; did you mean `%s`?", near)
				}
				return fmt.Errorf("there is no resource %q%s (`keybrake scopes` lists them)", args[0], hint)
			}
			return s.printScope(*outputOf(cmd), &all[i], voc)
		},
	}
	outputFlag(cmd)
	return cmd
}

func scopeView(p *stripe.Permission, voc *policy.Vocabulary) admin.Scope {
	out := admin.Scope{
		Resource: string(p.Resource), Title: p.Title, Group: string(p.Group), Risk: string(p.Risk), Worst: p.Worst, Shows: p.Shows,
		Moves: []string{}, Money: movements(p.Moves), Customers: string(p.Reach), ReachesCustomers: p.Reach != stripe.ReachNone,
		SuggestedCaps: capFlags(p.Caps), Presets: append([]string{}, p.Presets...),
		RestrictedRead: append([]string{}, p.RestrictedRead...), RestrictedWrite: append([]string{}, p.RestrictedWrite...),
	}
	for _, op := range p.Operations {
		if op.Access == policy.Write {
			out.Writes++
		} else {
			out.Reads++
		}
		for _, b := range buckets(voc, op.Name) {
			if !slices.Contains(out.Moves, b) {
				out.Moves = append(out.Moves, b)
			}
		}
	}
	slices.Sort(out.Moves)
	return out
}

// permissionMap is the whole map.
func permissionMap(catalog *stripe.Catalog) []admin.Scope {
	all, voc := catalog.Permissions(), catalog.Vocabulary()
	out := make([]admin.Scope, len(all))
	for i := range all {
		out[i] = scopeView(&all[i], voc)
	}
	return out
}

// buckets are those that a policy which grants the operation must cap.
func buckets(voc *policy.Vocabulary, name policy.OperationName) []string {
	out := []string{}
	if term, ok := voc.Operation(name); ok {
		for _, b := range term.Buckets {
			out = append(out, string(b))
		}
	}
	return out
}

func movements(list []stripe.Movement) []admin.Movement {
	out := []admin.Movement{}
	for _, m := range list {
		out = append(out, admin.Movement{Direction: m.Direction(), Bucket: string(m.Bucket), Counted: m.Counted})
	}
	return out
}

func capFlags(caps []policy.Cap) []string {
	out := []string{}
	for _, c := range caps {
		out = append(out, c.Flag())
	}
	return out
}

// moneyCell says what moves which way: "out", "in later on subscriptions", with a star where it is denied
// unless named. A bucket is named where it is another resource.
func moneyCell(resource string, list []admin.Movement) string {
	cells := make([]string, len(list))
	for i, m := range list {
		cells[i] = m.Direction
		if m.Bucket != resource {
			cells[i] += " on " + m.Bucket
		}
		if !m.Counted {
			cells[i] += "*"
		}
	}
	return strings.Join(cells, ", ")
}

// capsCell writes caps shorter than flags do: "500.00/day", "30calls/hour", "refunds 500.00/day".
func capsCell(resource policy.Resource, caps []policy.Cap) string {
	cells := make([]string, len(caps))
	for i, c := range caps {
		_, limit, _ := strings.Cut(c.Flag(), "=")
		cells[i] = limit + "/" + c.Per.String()
		if c.Resource != resource {
			cells[i] = string(c.Resource) + " " + cells[i]
		}
	}
	return strings.Join(cells, ", ")
}

func (s streams) printScopes(f format, all []stripe.Permission, voc *policy.Vocabulary) error {
	out := scopesAnswer{Items: make([]admin.Scope, len(all))}
	for i := range all {
		out.Items[i] = scopeView(&all[i], voc)
	}
	return s.print(f, out, func(w io.Writer) {
		var rows [][]string
		for i, sc := range out.Items {
			rows = append(rows, []string{
				sc.Resource, sc.Risk, strconv.Itoa(sc.Reads), strconv.Itoa(sc.Writes), moneyCell(sc.Resource, sc.Money), sc.Customers,
				capsCell(all[i].Resource, all[i].Caps), sc.Worst,
			})
		}
		table(w, "RESOURCE RISK READS WRITES MONEY CUSTOMERS CAPS WORST", rows)
		fmt.Fprintln(w, "\nWORST is the state of things by morning, if an agent with all access to the resource repeats itself all night.\n"+
			"MONEY is on the resource's own bucket if none is named; with a star, calls that move it are denied unless the\n"+
			"policy names the operation under `unmetered`. CAPS are a suggestion.\n"+
			"CUSTOMERS says whether a customer list can follow its calls. `keybrake scopes RESOURCE` shows the operations.")
	})
}

func (s streams) printScope(f format, p *stripe.Permission, voc *policy.Vocabulary) error {
	out := scopeAnswer{Resource: scopeView(p, voc), Items: []scopeOperation{}}
	for _, op := range p.Operations {
		term, _ := voc.Operation(op.Name) // the map shows only what policies can name
		out.Items = append(out.Items, scopeOperation{
			Name: string(op.Name), Access: op.Access.String(), Method: op.Method, Path: op.Template, Default: string(op.Default),
			Moves: buckets(voc, op.Name), Money: movements(op.Moves), Effect: op.Money, ReachesCustomer: term.ReachesCustomer, Customer: op.Customers,
			Later: op.Row.Money.Later,
		})
	}
	return s.print(f, out, func(w io.Writer) {
		describe(w, &out.Resource)
		var rows [][]string
		for _, o := range out.Items {
			rows = append(rows, []string{o.Name, o.Access, o.Method, o.Path, strings.ReplaceAll(o.Effect, "`", ""), strings.ReplaceAll(o.Customer, "`", "")})
		}
		table(w, "OPERATION ACCESS METHOD PATH MONEY CUSTOMER", rows)
		printLater(w, out.Items)
	})
}

// printLater says what a resource's operations arm.
func printLater(w io.Writer, operations []scopeOperation) {
	var said []string
	for _, o := range operations {
		if o.Later == "" || slices.Contains(said, o.Later) {
			continue
		}
		if len(said) == 0 {
			fmt.Fprintln(w, "\nLater, without a call:")
		}
		fmt.Fprintf(w, "  %s\n", o.Later)
		said = append(said, o.Later)
	}
}

// describe says what the three accesses to a resource mean, and what is at stake.
func describe(w io.Writer, sc *admin.Scope) {
	fmt.Fprintf(w, "%s (%s), %s risk\n\n  worst case by morning: %s\n", sc.Title, sc.Resource, sc.Risk, sc.Worst)
	fmt.Fprintf(w, "  none:  every call is refused with 401\n")
	if sc.Reads > 0 {
		fmt.Fprintf(w, "  read:  %s; shows %s\n", count(sc.Reads, "operation"), sc.Shows)
	}
	switch {
	case sc.Writes == 0:
		fmt.Fprintf(w, "  write: there is nothing to write\n")
	case len(sc.Money) == 0:
		fmt.Fprintf(w, "  write: %s; moves no money\n", count(sc.Writes, "further operation"))
	default:
		fmt.Fprintf(w, "  write: %s; money: %s\n", count(sc.Writes, "further operation"), moneyCell(sc.Resource, sc.Money))
	}
	for _, line := range [][2]string{
		{"customers", sc.Customers}, {"suggested caps", strings.Join(sc.SuggestedCaps, " ")}, {"presets", strings.Join(sc.Presets, ", ")},
		{"restricted key", strings.Join(append(slices.Clone(sc.RestrictedRead), sc.RestrictedWrite...), ", ")},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "  %s: %s\n", line[0], line[1])
		}
	}
	fmt.Fprintln(w)
}
