package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

func newRates(s streams) *cobra.Command {
	return group("rates", "Exchange rates to dollars", newRatesSet(s), newRatesImport(s), newRatesList(s))
}

func newRatesSet(s streams) *cobra.Command {
	var req admin.RateInputs
	cmd := &cobra.Command{
		Use: "set CODE=RATE...", Short: "Set rates: dollars per whole unit, like EUR=1.09", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				code, rate, ok := strings.Cut(arg, "=")
				if !ok {
					return usageError{fmt.Errorf("rate %q: write it like EUR=1.09", arg)}
				}
				req.Rates = append(req.Rates, admin.RateInput{Currency: code, Rate: rate})
			}
			return s.rates(cmd, func(c *admin.Client) (admin.RateTable, error) { return c.SetRates(cmd.Context(), req) })
		},
	}
	ifMatchFlag(cmd, &req.IfMatch, "table", "rates list")
	outputFlag(cmd)
	return cmd
}

func newRatesImport(s streams) *cobra.Command {
	var ifMatch string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Import rates from a CSV file",
		Long: "Import rates from `currency,rate[,as_of]` with dollars per whole unit, or from the European Central Bank's\neurofxref.csv or eurofxref-hist.csv as they are. FILE may be - for standard input.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readFile(args[0], s.in)
			if err != nil {
				return fmt.Errorf("read the rates: %w", err)
			}
			return s.rates(cmd, func(c *admin.Client) (admin.RateTable, error) {
				return c.ImportRates(cmd.Context(), bytes.NewReader(text), ifMatch)
			})
		},
	}
	ifMatchFlag(cmd, &ifMatch, "table", "rates list")
	outputFlag(cmd)
	return cmd
}

func newRatesList(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the rates in force", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.rates(cmd, func(c *admin.Client) (admin.RateTable, error) { return c.Rates(cmd.Context()) })
		},
	}
	outputFlag(cmd)
	return cmd
}

// rates asks and shows the whole table.
func (s streams) rates(cmd *cobra.Command, f func(*admin.Client) (admin.RateTable, error)) error {
	list, err := ask(f)
	if err != nil {
		return err
	}
	return s.print(*outputOf(cmd), list, func(w io.Writer) {
		var rows [][]string
		for _, r := range list.Items {
			state := "in force"
			if r.Stale {
				state = "too old: converts nothing"
			}
			rows = append(rows, []string{r.Currency, r.Rate, r.Source, when(r.AsOf), state})
		}
		table(w, "CURRENCY USD SOURCE AS-OF STATE", rows)
	})
}
