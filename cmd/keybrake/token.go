package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/vault"
)

func newToken(s streams) *cobra.Command {
	return group("token", "Operators' tokens for the admin port", newTokenCreate(s), newTokenList(s), newTokenDelete(s))
}

func newTokenCreate(s streams) *cobra.Command {
	var req admin.TokenRequest
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token; it is shown this once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := vault.ParseRole(req.Role); !ok && (req.Role != "" || req.Operator == "") {
				return usageError{fmt.Errorf("--role %q: write admin, responder, auditor or stop", req.Role)}
			}
			req.Name = args[0]
			t, err := ask(func(c *admin.Client) (admin.TokenCreated, error) { return c.CreateToken(cmd.Context(), req) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), t, func(w io.Writer) {
				fmt.Fprintf(w, "token %s, role %s; it is shown this once\n\n  %s\n", t.Name, t.Role, t.Token)
			})
		},
	}
	cmd.Flags().StringVar(&req.Operator, "operator", "", "whose it is, id or name (default: a tool's)")
	cmd.Flags().StringVar(&req.Role, "role", "", "admin (everything), responder (see, stop, lower), auditor (see, stop), or stop (kill and nothing else); an operator's may do what the operator may")
	cmd.Flags().StringVar(&req.Expires, "expires", "", "a span like 90d, or a date (default: 90d for an operator's, never for a tool's)")
	outputFlag(cmd)
	return cmd
}

func newTokenList(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.Token], error) { return c.Tokens(cmd.Context()) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				var rows [][]string
				for _, t := range list.Items {
					rows = append(rows, []string{t.Name, t.Operator, t.Role, when(t.Created), when(t.Expires), when(t.Used)})
				}
				table(w, "NAME OPERATOR ROLE CREATED EXPIRES USED", rows)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

func newTokenDelete(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete TOKEN", Short: "End a token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := ask(func(c *admin.Client) (struct{}, error) { return struct{}{}, c.DeleteToken(cmd.Context(), args[0]) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), admin.Done{Done: true}, func(w io.Writer) { fmt.Fprintf(w, "token %s deleted\n", args[0]) })
		},
	}
	outputFlag(cmd)
	return cmd
}
