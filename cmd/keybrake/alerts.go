package main

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/alert"
)

// openAlerts makes what tells people outside. Alerts are kept and shown also where no target is set.
func (s *server) openAlerts() *alert.Watcher {
	least, ahead := s.settings.Alerts.Thresholds.LeastCap(), s.settings.Alerts.Thresholds.Ahead()
	return &alert.Watcher{
		Config: s.settings.Alerts, Store: s.store, Log: s.log,
		See: func(ctx context.Context) (alert.Seen, error) { return s.admin.Seen(ctx, least, ahead) },
		Link: func(key string) string {
			base := s.consoleURL()
			switch {
			case base == "": // nothing listens yet
				return ""
			case key == "":
				return base + "/alerts"
			}
			return base + "/keys/" + url.PathEscape(key)
		},
	}
}

func newAlerts(s streams) *cobra.Command {
	return group("alerts", "What is wrong, and whom it is told", newAlertsList(s), newAlertsAck(s), newAlertsTargets(s), newAlertsTest(s))
}

func newAlertsList(s streams) *cobra.Command {
	var f admin.AlertFilter
	all := false
	cmd := &cobra.Command{
		Use: "list", Short: "List what is wrong; with --all also what was", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.Open = !all
			list, err := ask(func(c *admin.Client) (admin.List[admin.Alert], error) { return c.Alerts(cmd.Context(), f) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				if len(list.Items) == 0 {
					fmt.Fprintln(w, "nothing is wrong")
					return
				}
				var rows [][]string
				for _, a := range list.Items {
					rows = append(rows, []string{a.ID, a.Severity, a.Kind, when(a.Since), when(a.Resolved), a.AckedBy, a.Title})
				}
				table(w, "ID SEVERITY KIND SINCE OVER ACKNOWLEDGED WHAT", rows)
			})
		},
	}
	cmd.Flags().StringVar(&f.Key, "key", "", "about this vault key")
	cmd.Flags().StringVar(&f.Kind, "kind", "", "of this kind: cap, denials, brake, frozen, loop, unresolved, expiry, rotation, chain, store, upstream")
	cmd.Flags().BoolVar(&all, "all", false, "also what is over")
	outputFlag(cmd)
	return cmd
}

func newAlertsAck(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ack ALERT", Short: "Say that somebody looks after an alert", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := ask(func(c *admin.Client) (admin.Alert, error) { return c.AcknowledgeAlert(cmd.Context(), args[0]) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), a, func(w io.Writer) {
				fmt.Fprintf(w, "%s: acknowledged by %s; it ends when what it is about does\n", a.ID, a.AckedBy)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

func newAlertsTargets(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "targets", Short: "List where alerts are told, and how that goes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := ask(func(c *admin.Client) (admin.List[admin.AlertTarget], error) { return c.AlertTargets(cmd.Context()) })
			if err != nil {
				return err
			}
			return s.print(*outputOf(cmd), list, func(w io.Writer) {
				if len(list.Items) == 0 {
					fmt.Fprintln(w, "no targets; the config file's section `alerts` has them: docs/operating.md#alerts")
					return
				}
				var rows [][]string
				for _, t := range list.Items {
					rows = append(rows, []string{t.Name, t.Kind, t.Least, fmt.Sprint(t.Waiting), when(t.Arrived), when(t.Failed), t.Error})
				}
				table(w, "NAME KIND LEAST WAITING ARRIVED FAILED ERROR", rows)
			})
		},
	}
	outputFlag(cmd)
	return cmd
}

func newAlertsTest(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "test TARGET", Short: "Send a test message now", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			got, err := ask(func(c *admin.Client) (admin.AlertTested, error) { return c.TestAlertTarget(cmd.Context(), args[0]) })
			if err != nil {
				return err
			}
			if err := s.print(*outputOf(cmd), got, func(w io.Writer) {
				if got.Arrived {
					fmt.Fprintf(w, "%s took it\n", got.Target)
				}
			}); err != nil || got.Arrived {
				return err
			}
			return fmt.Errorf("%s did not take it: %s", got.Target, got.Error)
		},
	}
	outputFlag(cmd)
	return cmd
}
