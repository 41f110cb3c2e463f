package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newSpend(s streams) *cobra.Command {
	var f admin.KeyFilter
	cmd := &cobra.Command{
		Use: "spend", Short: "How every cap stands: held, settled, left", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := ask(func(c *admin.Client) (admin.Spend, error) {
				all, err := c.Spend(cmd.Context(), f)
				for page := all; err == nil && page.Next != ""; {
					f.After = page.Next
					page, err = c.Spend(cmd.Context(), f)
					all.Keys = append(all.Keys, page.Keys...)
				}
				all.Next = ""
				return all, err
			})
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), all, func(w io.Writer) {
				var rows [][]string
				for _, k := range all.Keys {
					brake := k.Brake
					if k.Shadow {
						brake += ", shadow"
					}
					for _, row := range capRows(k.Caps) {
						rows = append(rows, append([]string{k.Name, brake}, row...))
					}
					if len(k.Caps) == 0 {
						rows = append(rows, []string{k.Name, brake, "", "", "", "", "", ""})
					}
				}
				table(w, "KEY BRAKE CAP LIMIT HELD SETTLED LEFT RESETS", rows)
			})
		},
	}
	cmd.Flags().StringVar(&f.Match, "match", "", "glob over names of vault keys")
	cmd.Flags().StringVar(&f.Upstream, "upstream", "", "vault keys of this upstream")
	outputFlag(cmd)
	return cmd
}

func capRows(caps []admin.SpendCap) [][]string {
	var rows [][]string
	for _, c := range caps {
		left := c.Left.String()
		if c.Over != nil {
			left += " (over by " + c.Over.String() + ")"
		}
		rows = append(rows, []string{c.Resource + "/" + c.Per + " " + c.Unit, c.Limit.String(), c.Held.String(), c.Settled.String(), left, when(c.ResetsAt)})
	}
	return rows
}
