package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// openCalls lists what is open and why.
func (s streams) openCalls(ctx context.Context, f format) error {
	all, err := ask(func(c *admin.Client) (admin.List[admin.OpenCall], error) {
		all, err := c.OpenCalls(ctx, "")
		for page := all; err == nil && page.Next != ""; {
			page, err = c.OpenCalls(ctx, page.Next)
			all.Items = append(all.Items, page.Items...)
		}
		all.Next = ""
		return all, err
	})
	if err != nil {
		return err
	}
	return s.print(f, all, func(w io.Writer) {
		if len(all.Items) == 0 {
			fmt.Fprintln(w, "nothing is open: what became of every call is known")
			return
		}
		var rows [][]string
		for _, c := range all.Items {
			rows = append(rows, []string{c.Reservation, c.KeyName, c.Operation, heldOf(&c), when(c.Sent), printable(c.Why), printable(c.Seen), when(c.Next)})
		}
		table(w, "RESERVATION KEY OPERATION HELD SENT WHY SEEN NEXT-LOOK", rows)
		fmt.Fprintln(w, "\nEach stays held. `keybrake reconcile RESERVATION` looks now; --moved or --nothing with --reason decides.")
	})
}

func heldOf(c *admin.OpenCall) string {
	var parts []string
	for _, m := range c.Held {
		parts = append(parts, m.Amount+" "+strings.ToUpper(m.Currency)+" "+m.Bucket)
	}
	if len(parts) == 0 {
		return "no money"
	}
	return strings.Join(parts, ", ")
}

// resolveCalls asks about calls now, or decides on them. One that cannot be does not keep the others from it.
func (s streams) resolveCalls(ctx context.Context, f format, reservations []string, d admin.Decision) error {
	var out admin.List[admin.Resolved]
	failed := 0
	for _, id := range reservations {
		r, err := ask(func(c *admin.Client) (admin.Resolved, error) { return c.Reconcile(ctx, id, d) })
		if err != nil {
			if len(reservations) == 1 {
				return err
			}
			failed++
			s.warn([]string{id + ": " + err.Error()})
			continue
		}
		out.Items = append(out.Items, r)
	}
	err := s.print(f, out, func(w io.Writer) {
		for _, r := range out.Items {
			fmt.Fprintf(w, "%s is %s: %s\n", r.Reservation, r.State, printable(r.Why))
		}
	})
	if err == nil && failed > 0 {
		return fmt.Errorf("%s could not be asked about", count(failed, "call"))
	}
	return err
}
