package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newOperator(s streams) *cobra.Command {
	return group("operator", "Operators' accounts", newOperatorAdd(s), newOperatorList(s), newOperatorEdit(s),
		newOperatorAble(s, "disable", "Let an operator in no longer", true), newOperatorAble(s, "enable", "Let a disabled operator in again", false),
		newOperatorInvite(s))
}

func newOperatorAdd(s streams) *cobra.Command {
	var req admin.OperatorRequest
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make an account", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			op, err := ask(func(c *admin.Client) (admin.Operator, error) { return c.CreateOperator(cmd.Context(), req) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), op, func(w io.Writer) {
				fmt.Fprintf(w, "operator %s, role %s\n", op.Name, op.Role)
				fmt.Fprintf(w, "`keybrake operator invite %s` makes a link that signs in once\n", op.Name)
			})
		},
	}
	cmd.Flags().StringVar(&req.Role, "role", "", "admin (everything), responder (see, stop, lower) or auditor (see, stop)")
	cmd.Flags().StringVar(&req.Email, "email", "", "what an OpenID provider vouches for at the first sign-in there")
	outputFlag(cmd)
	return cmd
}

func newOperatorList(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List operators", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.Operator], error) { return c.Operators(cmd.Context()) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				var rows [][]string
				for _, op := range list.Items {
					rows = append(rows, []string{op.Name, op.Role, op.Email, when(op.Disabled), fmt.Sprint(op.Tokens), fmt.Sprint(op.Sessions), when(op.Seen)})
				}
				table(w, "NAME ROLE EMAIL DISABLED TOKENS SESSIONS SEEN", rows)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

func newOperatorEdit(s streams) *cobra.Command {
	var req admin.OperatorUpdate
	var email string
	cmd := &cobra.Command{
		Use: "edit OPERATOR", Short: "Change an account", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("email") {
				req.Email = &email
			}
			return s.updateOperator(cmd, args[0], req)
		},
	}
	cmd.Flags().StringVar(&req.Role, "role", "", "admin, responder or auditor")
	cmd.Flags().StringVar(&email, "email", "", `what an OpenID provider vouches for; "" takes it away`)
	cmd.Flags().BoolVar(&req.ForgetOpenID, "forget-openid", false, "let the email decide anew who this is at the OpenID provider")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required to give a higher role")
	ifMatchFlag(cmd, &req.IfMatch, "account", "operator list")
	outputFlag(cmd)
	return cmd
}

func newOperatorAble(s streams, verb, short string, disabled bool) *cobra.Command {
	var req admin.OperatorUpdate
	cmd := &cobra.Command{
		Use: verb + " OPERATOR", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Disabled = &disabled
			return s.updateOperator(cmd, args[0], req)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; required to enable")
	outputFlag(cmd)
	return cmd
}

func (s streams) updateOperator(cmd *cobra.Command, name string, req admin.OperatorUpdate) error {
	op, err := ask(func(c *admin.Client) (admin.Operator, error) { return c.UpdateOperator(cmd.Context(), name, req) })
	if err != nil {
		return err
	}
	return s.print(*outputOf(cmd), op, func(w io.Writer) {
		if !op.Disabled.IsZero() {
			fmt.Fprintf(w, "operator %s is disabled: tokens do not work, sessions have ended\n", op.Name)
			return
		}
		fmt.Fprintf(w, "operator %s, role %s\n", op.Name, op.Role)
	})
}

func newOperatorInvite(s streams) *cobra.Command {
	var req admin.InviteRequest
	cmd := &cobra.Command{
		Use: "invite OPERATOR", Short: "Make a link that signs an operator in once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			out, err := c.client.Invite(cmd.Context(), args[0], req)
			if err != nil {
				return explain(c, err)
			}
			out.Link = firstOf(out.Link, c.admin+out.Path)
			return s.print(*outputOf(cmd), out, func(w io.Writer) {
				fmt.Fprintf(w, "signs %s in once, until %s; it is shown this once\n\n  %s\n", out.Operator, when(out.Expires), out.Link)
			})
		},
	}
	cmd.Flags().StringVar(&req.Expires, "expires", "", "how long it works, 7d at most (default 24h)")
	outputFlag(cmd)
	return cmd
}

func newSession(s streams) *cobra.Command {
	return group("session", "Sessions at the console", newSessionList(s), newSessionEnd(s))
}

func newSessionList(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List open sessions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.Session], error) { return c.Sessions(cmd.Context()) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				var rows [][]string
				for _, v := range list.Items {
					rows = append(rows, []string{v.ID, v.Operator, v.Token, v.From, when(v.Created), when(v.Seen), v.Agent})
				}
				table(w, "ID OPERATOR TOKEN FROM CREATED SEEN BROWSER", rows)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

func newSessionEnd(s streams) *cobra.Command {
	var operator string
	cmd := &cobra.Command{
		Use: "end SESSION | --operator OPERATOR", Short: "End a session, or all of an operator", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (operator != "") {
				return usageError{errors.New("name a session (`keybrake session list` shows them), or an operator with --operator")}
			}
			ended, err := ask(func(c *admin.Client) (admin.Ended, error) {
				if operator != "" {
					n, err := c.EndSessions(cmd.Context(), operator)
					return admin.Ended{Sessions: n}, err
				}
				return admin.Ended{Sessions: 1}, c.EndSession(cmd.Context(), args[0])
			})
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), ended, func(w io.Writer) { fmt.Fprintf(w, "sessions ended: %d\n", ended.Sessions) })
		},
	}
	cmd.Flags().StringVar(&operator, "operator", "", "end all sessions of this operator")
	outputFlag(cmd)
	return cmd
}
