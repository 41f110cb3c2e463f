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

// scope is one resource of the permission map.
type scope struct {
	Resource string `json:"resource"`
	Reads    int    `json:"reads"`  // operations that Read grants
	Writes   int    `json:"writes"` // further operations that Write grants
	// Moves are the buckets in which its writes move or commit money: a write scope needs a cap for each.
	Moves []string `json:"moves"`
	// ReachesCustomers: a policy that grants it must say whose customers.
	ReachesCustomers bool `json:"reaches_customers"`
}

// scopeOperation is one operation of a resource.
type scopeOperation struct {
	Name            string   `json:"name"`
	Access          string   `json:"access"`
	Method          string   `json:"method"`
	Path            string   `json:"path"`
	Default         string   `json:"default"` // what happens to it without a special grant
	Moves           []string `json:"moves"`
	ReachesCustomer bool     `json:"reaches_customer"`
}

func newScopes(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "scopes [RESOURCE]", Short: "The permission map: every scope name and what it grants", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			adapter, err := stripe.New()
			if err != nil {
				return err
			}
			voc := adapter.Catalog().Vocabulary()
			if len(args) == 0 {
				return s.printScopes(*outputOf(cmd), scopesOf(voc))
			}
			resource := policy.Resource(args[0])
			if !voc.HasResource(resource) {
				hint := ""
				if near, ok := voc.NearestResource(args[0]); ok {
					hint = fmt.Sprintf("; did you mean `%s`?", near)
				}
				return fmt.Errorf("there is no resource %q%s (`keybrake scopes` lists them)", args[0], hint)
			}
			return s.printOperations(*outputOf(cmd), operationsOf(adapter.Catalog(), voc, resource))
		},
	}
	outputFlag(cmd)
	return cmd
}

func scopesOf(voc *policy.Vocabulary) admin.List[scope] {
	byName := map[policy.Resource]*scope{}
	for _, r := range voc.Resources() {
		byName[r] = &scope{Resource: string(r), Moves: []string{}}
	}
	for _, name := range voc.Operations() {
		op, _ := voc.Operation(name) // it lists only what it has
		sc := byName[op.Resource]
		if op.Access == policy.Write {
			sc.Writes++
		} else {
			sc.Reads++
		}
		sc.ReachesCustomers = sc.ReachesCustomers || op.ReachesCustomer
		for _, b := range op.Buckets {
			if !slices.Contains(sc.Moves, string(b)) {
				sc.Moves = append(sc.Moves, string(b))
			}
		}
	}
	out := admin.List[scope]{Items: []scope{}}
	for _, r := range voc.Resources() {
		slices.Sort(byName[r].Moves)
		out.Items = append(out.Items, *byName[r])
	}
	return out
}

func operationsOf(c *stripe.Catalog, voc *policy.Vocabulary, resource policy.Resource) admin.List[scopeOperation] {
	out := admin.List[scopeOperation]{Items: []scopeOperation{}}
	for _, name := range voc.Operations() {
		op, _ := voc.Operation(name) // it lists only what it has
		row := c.Operation(name)
		if op.Resource != resource || row == nil {
			continue
		}
		o := scopeOperation{
			Name: string(name), Access: op.Access.String(), Method: row.Method, Path: row.Template, Default: string(row.Default),
			Moves: []string{}, ReachesCustomer: op.ReachesCustomer,
		}
		for _, b := range op.Buckets {
			o.Moves = append(o.Moves, string(b))
		}
		out.Items = append(out.Items, o)
	}
	return out
}

func (s streams) printScopes(f format, list admin.List[scope]) error {
	return s.print(f, list, func(w io.Writer) {
		var rows [][]string
		for _, sc := range list.Items {
			rows = append(rows, []string{sc.Resource, strconv.Itoa(sc.Reads), strconv.Itoa(sc.Writes), strings.Join(sc.Moves, ","), yes(sc.ReachesCustomers)})
		}
		table(w, "RESOURCE READS WRITES BUCKETS CUSTOMERS", rows)
	})
}

func (s streams) printOperations(f format, list admin.List[scopeOperation]) error {
	return s.print(f, list, func(w io.Writer) {
		var rows [][]string
		for _, o := range list.Items {
			rows = append(rows, []string{o.Name, o.Access, o.Method, o.Path, o.Default, strings.Join(o.Moves, ","), yes(o.ReachesCustomer)})
		}
		table(w, "OPERATION ACCESS METHOD PATH DEFAULT BUCKETS CUSTOMER", rows)
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
