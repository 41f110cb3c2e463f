package main

import (
	"fmt"
	"io"
	"strings"
	"text/template"
)

// snippetData is what the printed snippets need.
type snippetData struct {
	URL, Host, Port string // of the gateway
	Key             string // a vault key whose policy allows two customers
	Customer        string // one of them
	Charge          string // $200 of that customer
}

// snippets are printed by `serve --dev`, ready to paste, and run by the tests as printed. Each lists the
// charges of an allowed customer and refunds $20 of a $200 charge until the sixth refund is refused.
var snippets = template.Must(template.New("snippets").Parse(`--- curl ---
curl -sS -G {{.URL}}/v1/charges -u {{.Key}}: -d customer={{.Customer}} -d limit=3
for i in 1 2 3 4 5 6; do
  curl -sS {{.URL}}/v1/refunds -u {{.Key}}: -d charge={{.Charge}} -d amount=2000
done
--- end ---
--- go ---
package main

import (
	"context"
	"fmt"

	"github.com/stripe/stripe-go/v85"
)

func main() {
	backends := stripe.NewBackendsWithConfig(&stripe.BackendConfig{URL: stripe.String("{{.URL}}")})
	client := stripe.NewClient("{{.Key}}", stripe.WithBackends(backends))
	ctx := context.Background()
	charges := &stripe.ChargeListParams{Customer: stripe.String("{{.Customer}}")}
	for charge, err := range client.V1Charges.List(ctx, charges).All(ctx) {
		if err != nil {
			panic(err)
		}
		fmt.Println(charge.ID, charge.Amount, charge.Currency)
	}
	for range 6 {
		refund, err := client.V1Refunds.Create(ctx, &stripe.RefundCreateParams{
			Charge: stripe.String("{{.Charge}}"),
			Amount: stripe.Int64(2000),
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(refund.ID, refund.Status)
	}
}
--- end ---
--- node ---
const Stripe = require('stripe');
const stripe = new Stripe('{{.Key}}', {host: '{{.Host}}', port: {{.Port}}, protocol: 'http'});

(async () => {
  for await (const charge of stripe.charges.list({customer: '{{.Customer}}'})) {
    console.log(charge.id, charge.amount, charge.currency);
  }
  for (let i = 0; i < 6; i++) {
    try {
      const refund = await stripe.refunds.create({charge: '{{.Charge}}', amount: 2000});
      console.log(refund.id, refund.status);
    } catch (err) {
      console.log(err.type, err.code, err.message);
    }
  }
})();
--- end ---
--- python ---
import stripe

stripe.api_key = "{{.Key}}"
stripe.api_base = "{{.URL}}"

for charge in stripe.Charge.list(customer="{{.Customer}}").auto_paging_iter():
    print(charge.id, charge.amount, charge.currency)
for _ in range(6):
    try:
        refund = stripe.Refund.create(charge="{{.Charge}}", amount=2000)
        print(refund.id, refund.status)
    except Exception as err:  # the SDK's own error; its module was renamed between versions
        print(type(err).__name__, getattr(err, "code", None), err)
--- end ---
`))

func printSnippets(w io.Writer, d snippetData) error {
	var b strings.Builder
	if err := snippets.Execute(&b, d); err != nil {
		return fmt.Errorf("print the snippets: %w", err)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
