package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newNodes(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "nodes", Short: "List the processes that serve the store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.Node], error) { return c.Nodes(cmd.Context()) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				if len(list.Items) == 0 {
					fmt.Fprintln(w, "one process serves this store, and no other can; for more than one: docs/operating.md#postgresql")
					return
				}
				var rows [][]string
				for _, n := range list.Items {
					name := n.Name
					if n.Own {
						name += " *"
					}
					rows = append(rows, []string{
						name, n.State, n.Version, when(n.Started), fmt.Sprintf("%.0f ms ago", n.SeenMS), fmt.Sprintf("%.0f ms", n.LeaseMS),
						fmt.Sprint(n.Behind), fmt.Sprint(n.Calls), fmt.Sprint(n.InFlight), n.ID,
					})
				}
				table(w, "NODE STATE VERSION STARTED SEEN LEASE BEHIND CALLS IN-FLIGHT ID", rows)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}
